"""Pages for browsers: templates, and the policy under which a page is shown."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Response

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **shown: Any) -> str:
    """The page; whatever is shown is text in it, never markup."""
    return _templates().get_template(template).render(shown)


def read_only_page(page: str, *, nonce: str, status: int = 200) -> Response:
    """A page without scripts, forms, frames or anything from elsewhere; its one style has the nonce."""
    return _page(page, nonce=nonce, status=status)


def acting_page(page: str, *, nonce: str, status: int = 200) -> Response:
    """The same, but its one script, which has the nonce too, may call us."""
    return _page(page, nonce=nonce, status=status, more=f" script-src 'nonce-{nonce}'; connect-src 'self';")


def _page(page: str, *, nonce: str, status: int, more: str = "") -> Response:
    policy = f"default-src 'none';{more} style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'"
    headers = {
        "content-security-policy": f"{policy}; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "private, no-cache",
        "vary": "accept",
    }
    return Response(page, status, headers, "text/html; charset=utf-8")


@cache
def _templates() -> "Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
