"""The session of a browser: a signed cookie that says who, in which session, looks at which org; and the checks that
keep other sites from acting by it."""

import base64
import hmac
from hmac import compare_digest
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from fastapi import Request, Response

from adapters.settings import Settings
from adapters.wiring import App
from domain.accounts.sign_in import SESSION_DAYS
from domain.kernel.errors import Forbidden

COOKIE = "br_session"
CSRF_HEADER = "x-br-csrf"
COOKIE_LENGTH_MAX = 2_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")

_SESSION = b"session cookie"
_Content = TypeVar("_Content")


class Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the cookie holds; it says nothing of whether the session still is, and whether the person is in the org."""

    person: str
    session: str
    org: str


def write_cookie(pepper: bytes, token: Token) -> str:
    """The value of the cookie: the token as text, and its HMAC-SHA-256 under a key derived from the pepper."""
    return write_signed(pepper, _SESSION, token)


def read_cookie(pepper: bytes, value: str) -> Token | None:
    """The token, if the value is one that `write_cookie` made."""
    return read_signed(pepper, _SESSION, value, Token)


def token_of(app: App, request: Request) -> Token | None:
    """What the request's cookie says, if it is genuine."""
    value = request.cookies.get(cookie_name(app.settings, COOKIE))
    return None if value is None else read_cookie(app.pepper, value)


def set_cookie(app: App, response: Response, token: Token) -> None:
    """Signs the browser in, or makes it look at another org."""
    value = write_cookie(app.pepper, token)
    give_cookie(app, response, COOKIE, value, seconds=SESSION_DAYS * 86_400)


def clear_cookie(app: App, response: Response) -> None:
    """Makes the browser forget who it is; the session itself ends by a fact."""
    take_cookie(app, response, COOKIE)


def cookie_name(settings: Settings, name: str) -> str:
    """As browsers know a cookie of ours. Over TLS it has the prefix by which they take it from this very host alone:
    no neighbour under the same domain can put somebody in a session of theirs (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{name}" if _has_tls(settings) else name


def give_cookie(app: App, response: Response, name: str, value: str, *, seconds: int) -> None:
    response.set_cookie(cookie_name(app.settings, name), value, max_age=seconds, path="/", **_flags(app.settings))


def take_cookie(app: App, response: Response, name: str) -> None:
    response.delete_cookie(cookie_name(app.settings, name), path="/", **_flags(app.settings))


def _flags(settings: Settings) -> dict[str, Any]:
    """For no script's eyes, not along with what other sites change, and over TLS alone."""
    return {"secure": _has_tls(settings), "httponly": True, "samesite": "lax"}


def _has_tls(settings: Settings) -> bool:
    """Everywhere, except where a developer at their own machine has none."""
    public = urlsplit(settings.public_url)
    return public.scheme == "https" or public.hostname not in LOOPBACK_NAMES


def csrf_token(pepper: bytes, session: str) -> str:
    """What a page sends along in `x-br-csrf` with whatever it changes."""
    return _text(_mac(pepper, b"csrf", session.encode()))


def check_same_site(app: App, request: Request, token: Token) -> None:
    """For a request that changes something by a session: it must come from a page of ours, and know the session's CSRF
    token. Raises Forbidden `csrf_failed`."""
    if request.method in SAFE_METHODS:
        return
    given = request.headers.get(CSRF_HEADER, "").encode("latin-1")
    known = compare_digest(given, csrf_token(app.pepper, token.session).encode())
    if not known or not _from_our_page(app.settings, request):
        raise Forbidden("csrf_failed", f"Send the session's token in {CSRF_HEADER}, from a page of this site.")


def _from_our_page(settings: Settings, request: Request) -> bool:
    """By what the browser itself says; one that says nothing is not believed. What is ours is what the operator says,
    never the Host header, which is whatever the browser was led to believe."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None:
        return False
    return site in (None, "same-origin") and origin in (None, public_origin(settings))


def public_origin(settings: Settings) -> str:
    """Scheme, host and port under which browsers know this product, as they write it in `origin`."""
    public = urlsplit(settings.public_url)
    return f"{public.scheme}://{public.netloc}".lower()


# What only we can have written


def write_signed(pepper: bytes, purpose: bytes, content: msgspec.Struct) -> str:
    """The content as text that a cookie can hold, with its HMAC-SHA-256 under a key for this purpose alone."""
    encoded = msgspec.json.encode(content)
    return f"{_text(encoded)}.{_text(_mac(pepper, purpose, encoded))}"


def read_signed(pepper: bytes, purpose: bytes, value: str, shape: type[_Content]) -> _Content | None:
    """The content, if the value is one that `write_signed` made for this purpose."""
    if len(value) > COOKIE_LENGTH_MAX:
        return None
    head, _, tail = value.partition(".")
    try:
        encoded, mac = _bytes(head), _bytes(tail)
    except ValueError:
        return None
    if not compare_digest(mac, _mac(pepper, purpose, encoded)):
        return None
    try:
        return msgspec.json.decode(encoded, type=shape)
    except msgspec.MsgspecError:  # ours, but of a version before or after this one
        return None


def _mac(pepper: bytes, purpose: bytes, content: bytes) -> bytes:
    return hmac.digest(hmac.digest(pepper, purpose, "sha256"), content, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Raises ValueError for anything but what `_text` makes, so that a content has one form."""
    data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(data) != text:
        raise ValueError("not in the form that we write")
    return data
