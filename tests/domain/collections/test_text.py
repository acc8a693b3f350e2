"""What people write about collections: no keys, no text that looks like other text."""

import pytest

from domain.collections.text import README_BYTES_MAX, clean_description, clean_name, clean_readme, refuse_keys
from domain.kernel.errors import Invalid

RANDOM = "a8Kd92mZq71LxPw04TnB6vYc"


@pytest.mark.parametrize(
    "text",
    [
        f"br-{RANDOM}{RANDOM}"[:36],
        f"br-trial-{RANDOM}",
        f"sk-{RANDOM}",
        f"sk-proj-{RANDOM}",
        f"sk-ant-api03-{RANDOM}_{RANDOM}",
        f"sk-or-v1-{RANDOM}",
        f"sk_live_{RANDOM}",
        f"gsk_{RANDOM}",
        f"xai-{RANDOM}",
        f"pplx-{RANDOM}",
        f"nvapi-{RANDOM}",
        f"hf_{RANDOM}",
        f"ghp_{RANDOM}",
        f"github_pat_{RANDOM}",
        f"glpat-{RANDOM}",
        f"whsec_{RANDOM}",
        "csk-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        f"rzp_live_{RANDOM}",
        f"AIza{RANDOM}12345678901",
        "AKIA2J4K6L8M0N1P3Q5R",
        f"eyJhbGciOiJIUzI1NiJ9x.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{RANDOM}",
        f"curl -H 'Authorization: Bearer {RANDOM}'",
        f'api_key = "{RANDOM}"',
        f"API-KEY: {RANDOM}",
        f"access token: '{RANDOM}'",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    ],
)
def test_what_looks_like_a_key_is_refused_wherever_it_stands(text: str) -> None:
    for written in (text, f"Set it:\n\n    {text}\n", f"`{text}`", f"x={text}&y", f"({text})"):
        with pytest.raises(Invalid) as refusal:
            refuse_keys(written, param="readme_md")
        assert refusal.value.code == "looks_like_key"
        assert text[10:] not in refusal.value.message


@pytest.mark.parametrize(
    "text",
    [
        "br-…",
        "br-your-key-goes-right-here-please",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-0000000000000000000000000000",
        "sk-learn-classifiers-of-2024-and-2025",
        "br-hindi-support-desk-of-acme-b7wx3nfe",
        "Asiapacificregionaldata centres",
        "export BHARATROUTER_API_KEY=$KEY",
        "Authorization: Bearer $BHARATROUTER_API_KEY",
        "Authorization: Bearer <your key>",
        "risk-adjusted-returns-of-models-2024-and-later",
        "https://example.com/task-0123456789abcdef0123456789",
        "sarvam-105b, llama-3.3-70b-instruct-turbo-free-2024-11-20",
        "hi-slug-b7wx3nfe",
        "api key: ask an admin",
    ],
)
def test_stand_ins_and_ordinary_words_pass(text: str) -> None:
    refuse_keys(text, param="readme_md")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "x" * 81,
        "a\0b",
        "a\nb",
        "\u202edlrow",
        "zero\u200bwidth",
        "a\u200db",
        "\u200dab",
        "gpt\ufeff",
        "s\u0430rvam",
        "\u0440aypal",
        "\u039fpenAI",
        "soft\u00adhyphen",
        "\u3164",
        "a\u2066b",
    ],
)
def test_a_name_is_what_it_looks_like(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        clean_name(name)
    assert refusal.value.param == "name"


@pytest.mark.parametrize(
    "name",
    [
        "Hindi first",
        "हिन्दी",
        "क्\u200dष",
        "മലയാളം",
        "ന്\u200dറെ",
        "Cheap 🚀",
        "Дешёвый",
        "Ελλάδα chain",
        "日本 GPT",
        "A₹B",
        "\u00e9t\u00e9",
    ],
)
def test_names_of_all_scripts_are_taken(name: str) -> None:
    assert clean_name(f" {name} ") == name


def test_letters_and_their_marks_are_put_together() -> None:
    assert clean_name("e\u0301te\u0301") == "été"
    assert clean_description("") == ""
    with pytest.raises(Invalid):
        clean_description("x" * 301)


def test_a_readme_has_twenty_kilobytes_of_visible_text() -> None:
    assert clean_readme("a\r\nb\rc\td") == "a\nb\nc\td"
    assert clean_readme("न" * (README_BYTES_MAX // 3))
    for wrong in (
        "न" * (README_BYTES_MAX // 3 + 1),
        "x" * (README_BYTES_MAX + 1),
        "a\0b",
        "\u202ex",
        "\x1b[0m",
        "\x85",
    ):
        with pytest.raises(Invalid) as refusal:
            clean_readme(wrong)
        assert refusal.value.param == "readme_md"
