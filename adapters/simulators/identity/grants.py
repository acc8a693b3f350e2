"""What the simulated providers give: codes for a person's yes, tokens for codes, and signed ID tokens.

A code is good once, for ten minutes, for the client, address and PKCE challenge that it was asked with. One that is
shown twice takes its token with it (RFC 6749, section 4.1.2).
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from adapters.simulators.identity.switches import Switches

CODE_SECONDS = 600

Provider = Literal["github", "google"]
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who may ask, and where answers may go."""

    id: str
    secret: str
    redirect_uri: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody as they said who they are. The ids by which providers know them follow from the login alone."""

    login: str
    name: str
    email: str
    verified: bool

    @property
    def github_id(self) -> int:
        return int.from_bytes(hashlib.sha256(self.login.encode()).digest()[:4]) | 1

    @property
    def google_id(self) -> str:
        return str(10**20 + int.from_bytes(hashlib.sha256(self.login.encode()).digest()[:8]))


@dataclass(kw_only=True)
class Grant:
    """One yes of a person. `token` is empty until the code was taken."""

    provider: Provider
    person: Person
    asked: Mapping[str, str]
    until: float
    token: str = ""


class Refused(Exception):
    """Said with one of OAuth's words, or a provider's own."""

    def __init__(self, error: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


class Grants:
    """Everything that was given. `now` tells seconds since 1970."""

    def __init__(
        self, clients: Mapping[Provider, Client], *, now: Callable[[], float], switches: Callable[[], Switches]
    ) -> None:
        self._clients = clients
        self._now = now
        self._switches = switches
        self._codes: dict[str, Grant] = {}
        self._tokens: dict[str, Grant] = {}
        self.rotate_key()

    def rotate_key(self) -> None:
        """ID tokens are signed with another key from now on, and the one before is shown no more."""
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self._key_id = secrets.token_hex(8)

    def check(self, provider: Provider, asked: Mapping[str, str]) -> None:
        """Raises Refused for a browser that must not be sent anywhere, or that brings no challenge."""
        client = self._clients[provider]
        if asked.get("client_id") != client.id:
            raise Refused("invalid_client", 401)
        if asked.get("redirect_uri") != client.redirect_uri:
            raise Refused("redirect_uri_mismatch")
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            raise Refused("invalid_request")
        wanted = ("state", "code_challenge", "scope", *(("nonce",) if provider == "google" else ()))
        if not all(asked.get(name) for name in wanted):
            raise Refused("invalid_request")

    def say_yes(self, provider: Provider, person: Person, asked: Mapping[str, str]) -> str:
        """The code that the browser takes back."""
        code = secrets.token_urlsafe(16)
        until = self._now() + CODE_SECONDS
        self._codes[code] = Grant(provider=provider, person=person, asked=asked, until=until)
        return code

    def take(self, provider: Provider, form: Mapping[str, str]) -> Grant:
        """Gives the tokens of a code. Raises Refused."""
        client = self._clients[provider]
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if not all(map(hmac.compare_digest, given, (client.id, client.secret))):
            raise Refused("invalid_client", 401)
        if form.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type")
        grant = self._codes.get(form.get("code", ""))
        if grant is None or grant.provider != provider or grant.until <= self._now():
            raise Refused("invalid_grant")
        if grant.token:
            self._tokens.pop(grant.token, None)
            raise Refused("invalid_grant")
        if form.get("redirect_uri") != grant.asked["redirect_uri"]:
            raise Refused("redirect_uri_mismatch")
        challenge = _text(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not hmac.compare_digest(challenge, grant.asked["code_challenge"]):
            raise Refused("invalid_grant")
        grant.token = secrets.token_urlsafe(24)
        self._tokens[grant.token] = grant
        return grant

    def of(self, provider: Provider, authorization: str) -> Grant:
        """Whose bearer token it is. Raises Refused."""
        grant = self._tokens.get(authorization.removeprefix("Bearer "))
        if grant is None or grant.provider != provider or not authorization.startswith("Bearer "):
            raise Refused("invalid_token", 401)
        return grant

    # ID tokens

    def keys(self) -> Json:
        """The key that ID tokens are signed with, as a set (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self._key_id, "e": "AQAB"}
        return {"keys": [key | {"n": _text(numbers.n.to_bytes(256))}]}

    def id_token(self, grant: Grant, *, issuer: str) -> str:
        """OpenID Connect Core 1.0, section 2, with the faults that are switched on."""
        switches, person, now = self._switches(), grant.person, int(self._now())
        token_hash = hashlib.sha256(grant.token.encode()).digest()[:16]
        claims: Json = {
            "iss": switches.issuer or issuer,
            "aud": grant.asked["client_id"] if switches.audience is None else switches.audience,
            "azp": grant.asked["client_id"],
            "sub": person.google_id,
            "iat": now,
            "exp": now + switches.expires_seconds,
            "at_hash": _text(token_hash if switches.access_token_hash == "good" else bytes(16)),
            "name": person.name,
        } | email_claims(person, switches)
        if switches.nonce != "missing":
            claims["nonce"] = grant.asked["nonce"] if switches.nonce == "good" else "another"
        return self._signed(claims, how=switches.signature)

    def _signed(self, claims: Json, *, how: str) -> str:
        key_id = "unknown" if how == "unknown key" else self._key_id
        algorithm = {"none": "none", "hs256": "HS256"}.get(how, "RS256")
        head = {"alg": algorithm, "kid": key_id, "typ": "JWT"}
        content = f"{_text(json.dumps(head).encode())}.{_text(json.dumps(claims).encode())}"
        if how == "none":
            return f"{content}."
        if how == "hs256":  # under the public key, as in the well-known confusion of algorithms
            return f"{content}.{_text(hmac.digest(self.keys()['keys'][0]['n'].encode(), content.encode(), 'sha256'))}"
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048) if how == "wrong" else self._key
        return f"{content}.{_text(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def email_claims(person: Person, switches: Switches) -> Json:
    """What Google says of the person's address."""
    if switches.email == "none" or not person.email:
        return {}
    return {"email": person.email, "email_verified": person.verified and switches.email != "unverified"}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
