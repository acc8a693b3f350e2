"""What people may write about a collection: names that look like nothing else, and no keys anywhere."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from domain.kernel.errors import Invalid

NAME_LENGTH_MAX = 80
DESCRIPTION_LENGTH_MAX = 300
README_BYTES_MAX = 20 * 1024

_JOINERS = "\u200c\u200d"
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
_VIRAMA = 9
_DIRECTIONS = frozenset("\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ALIKE = ("LATIN", "CYRILLIC", "GREEK")

_KEYS = re.compile(
    r"""
    (?<![A-Za-z0-9])
    (?:
        (?:br|sk|pk|rk|gsk|xai|pplx|nvapi|fw|csk|r8|hf|ghp|gho|ghu|ghs|github_pat|glpat|tvly|whsec|rzp_(?:live|test))
            [-_] (?P<prefixed>[A-Za-z0-9_-]{20,})
        | AIza [A-Za-z0-9_-]{35}
        | (?:AKIA|ASIA) [A-Z0-9]{16}
        | eyJ [A-Za-z0-9_]{15,200} \. eyJ [A-Za-z0-9_-]{15,}
        | (?i:Bearer) \s+ (?P<bearer>[A-Za-z0-9._~+/-]{24,})
        | (?i:(?:api|access|secret|auth)[-_ ]?(?:key|token)) ["']? \s* [:=] \s* ["']? (?P<assigned>[A-Za-z0-9_+/-]{24,})
    )
    | -----BEGIN\ (?:[A-Z]+\ ){0,4}PRIVATE\ KEY-----
    """,
    re.VERBOSE,
)
_RUN_LENGTH_MIN = 12
_DISTINCT_MIN = 6


def clean_name(text: str) -> str:
    """The name without outer blanks. Raises Invalid for one that is empty, too long, or not what it looks like."""
    return _line(text, param="name", least=1, most=NAME_LENGTH_MAX)


def clean_description(text: str) -> str:
    """The description without outer blanks, which may be empty. Raises as `clean_name`."""
    return _line(text, param="description", least=0, most=DESCRIPTION_LENGTH_MAX)


def clean_readme(text: str) -> str:
    """The README with plain line ends. Raises Invalid for one over `README_BYTES_MAX` in UTF-8, with characters that do
    not show or that turn the order of others around, or with what looks like a key."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text.encode()) > README_BYTES_MAX:
        raise Invalid("invalid_request", "A README has at most 20 KB; link to the rest.", param="readme_md")
    for letter in text:
        if letter in _DIRECTIONS or (unicodedata.category(letter) == "Cc" and letter not in "\n\t"):
            raise Invalid(
                "invalid_request", f"Take the invisible character U+{ord(letter):04X} out.", param="readme_md"
            )
    refuse_keys(text, param="readme_md")
    return text


def refuse_keys(text: str, *, param: str) -> None:
    """Raises Invalid `looks_like_key` for a text in which there seems to be a credential: whatever goes into a
    collection is kept for good, and may be published. Stand-ins such as `sk-xxxx…` and `sk-your-key-here` pass."""
    for found in _KEYS.finditer(text):
        secret = next(filter(None, found.groups()), None)
        if secret is None or _is_random(secret):
            raise Invalid(
                "looks_like_key",
                f"'{found[0][:6]}…' looks like a key; a collection never holds any. Take it out, and revoke it if it"
                " is real.",
                param=param,
            )


def _is_random(secret: str) -> bool:
    """Whether some stretch of it is nothing that anybody would write by hand."""
    return any(
        len(run) >= _RUN_LENGTH_MIN and len(set(run)) >= _DISTINCT_MIN and any(letter.isdigit() for letter in run)
        for run in re.split(r"[^A-Za-z0-9]", secret)
    )


def _line(text: str, *, param: str, least: int, most: int) -> str:
    text = unicodedata.normalize("NFC", text.strip())
    if not least <= len(text) <= most or not _is_plain(text):
        raise Invalid("invalid_request", f"Give {least} to {most} printable characters.", param=param)
    if any(_is_mixed(word) for word in text.split()):
        raise Invalid(
            "invalid_request", "A word is of one alphabet; this one has letters that look like others.", param=param
        )
    refuse_keys(text, param=param)
    return text


def _is_plain(text: str) -> bool:
    """Letters that show, and the joiners that scripts of India need, where they join (RFC 5892, appendix A)."""
    return all(
        unicodedata.combining(before) == _VIRAMA
        if letter in _JOINERS
        else letter.isprintable() and letter not in _BLANKS
        for before, letter in pairwise(f" {text}")
    )


def _is_mixed(word: str) -> bool:
    return len(set(_alphabets(word))) > 1


def _alphabets(word: str) -> Iterable[str]:
    """Of the letters that exist alike in several alphabets."""
    for letter in word:
        alphabet = unicodedata.name(letter, "").partition(" ")[0]
        if alphabet in _ALIKE:
            yield alphabet
