"""A browser in which somebody is signed in, for tests: the cookie, the token and the origin that its pages send."""

from typing import Any

from api.session import COOKIE, CSRF_HEADER, Token, csrf_token, write_cookie
from tests.given import PEPPER

ORIGIN = "http://test"


def signed_in(person: str, session: str, org: str, **more: Any) -> dict[str, str]:
    """The headers of a call by a page of ours."""
    cookie = write_cookie(PEPPER, Token(person, session, org))
    headers = {"cookie": f"__Host-{COOKIE}={cookie}", CSRF_HEADER: csrf_token(PEPPER, session), "origin": ORIGIN}
    return headers | more
