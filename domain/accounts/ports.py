"""What the product asks of those who know who somebody is, and what they say."""

from dataclasses import dataclass
from typing import Protocol

SIGN_IN_SECONDS = 600
"""How long somebody may take from the first step of a sign-in to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Who has just signed in, in the provider's own words and in plain text.

    `subject` is the provider's lasting id of them; `login` and `name` may change hands. `email` is empty where there is
    none; whether it is verified is what the provider itself says.
    """

    subject: str
    login: str
    name: str
    email: str
    email_verified: bool


class IdentityProvider(Protocol):
    """A provider that somebody can sign in with, by an authorization code (RFC 6749, section 4.1) with PKCE (RFC 7636).

    `state`, `verifier` and `nonce` are fresh secrets of one sign-in, known to the browser that began it. Both calls may
    raise Unavailable `sign_in_unavailable`.
    """

    def address(self, *, redirect_uri: str, state: str, verifier: str, nonce: str) -> str:
        """Where the browser goes, to come back to `redirect_uri` with a code."""
        ...

    def identify(self, *, code: str, redirect_uri: str, verifier: str, nonce: str) -> Identified:
        """Who the code is about. Raises Forbidden `sign_in_refused` if the code or what it brings does not hold."""
        ...

    def close(self) -> None: ...
