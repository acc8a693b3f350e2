"""GitHub and Google as providers of identities: OAuth 2 with the primary address of `/user/emails`, and OpenID Connect
with an ID token that is verified to the last claim. PKCE with both.

Wire: docs.github.com/apps/oauth-apps (authorizing OAuth apps), developers.google.com/identity/openid-connect.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from adapters.settings import Settings
from domain.accounts.person import EMAIL_LENGTH_MAX, clean_email
from domain.accounts.ports import Identified, IdentityProvider
from domain.kernel.errors import Forbidden, Invalid, Unavailable

if TYPE_CHECKING:
    import httpx
    from authlib.oauth2.client import OAuth2Client

TIMEOUT_SECONDS = 10.0
RETRY_AFTER_SECONDS = 5
TEXT_LENGTH_MAX = 200
KEEP_SECONDS = 3_600
"""How long Google's addresses and keys are believed without asking again; an unknown key asks at once."""
LEEWAY_SECONDS = 60
"""How far a provider's clock may be from ours."""

_log = logging.getLogger(__name__)


def identity_providers(settings: Settings) -> Mapping[str, IdentityProvider]:
    """Those that the operator has registered the product with, by name.

    One on this machine is a simulator, with which anybody is whoever they like. It counts only while the product itself
    is reached from this machine alone.
    """
    found: dict[str, IdentityProvider] = {}
    alone = is_loopback(settings.host) and is_loopback(urlsplit(settings.public_url).hostname)
    github, google = settings.github_client_id, settings.google_client_id
    if github and settings.github_client_secret and (alone or not _is_here(settings.github_url)):
        found["github"] = GitHub(
            url=settings.github_url,
            api_url=settings.github_api_url,
            client_id=github,
            client_secret=settings.github_client_secret.get_secret_value(),
        )
    if google and settings.google_client_secret and (alone or not _is_here(settings.google_url)):
        found["google"] = Google(
            issuer=settings.google_url,
            client_id=google,
            client_secret=settings.google_client_secret.get_secret_value(),
        )
    return found


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname)


class GitHub:
    """Implements `domain.accounts.ports.IdentityProvider`."""

    def __init__(
        self, *, url: str, api_url: str, client_id: str, client_secret: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._url = f"{url.rstrip('/')}/login/oauth"
        self._api_url = api_url.rstrip("/")
        self._line = _Line("GitHub", client_id, client_secret, timeout_seconds)

    def address(self, *, redirect_uri: str, state: str, verifier: str, nonce: str) -> str:
        return self._line.address(
            f"{self._url}/authorize", redirect_uri, scope="read:user user:email", state=state, code_verifier=verifier
        )

    def identify(self, *, code: str, redirect_uri: str, verifier: str, nonce: str) -> Identified:
        token = self._line.exchange(f"{self._url}/access_token", code, redirect_uri, verifier).access_token
        user = self._line.get(f"{self._api_url}/user", _GitHubUser, token=token)
        emails = self._line.get(f"{self._api_url}/user/emails", list[_GitHubEmail], token=token)
        primary = next((email for email in emails if email.primary), _GitHubEmail("", False, False))
        return _identified(
            subject=str(user.id),
            login=user.login,
            name=user.name or user.login,
            email=primary.email,
            verified=primary.verified,
        )

    def close(self) -> None:
        self._line.close()


class Google:
    """Implements `domain.accounts.ports.IdentityProvider`, for Google and for whoever else speaks OpenID Connect as it
    does: what is asked where comes from the issuer's own description."""

    def __init__(
        self, *, issuer: str, client_id: str, client_secret: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._line = _Line("Google", client_id, client_secret, timeout_seconds)
        self._described = _Kept(self._describe)
        self._keys = _Kept(lambda: self._line.get(self._described.value().jwks_uri, dict[str, Any]))

    def address(self, *, redirect_uri: str, state: str, verifier: str, nonce: str) -> str:
        return self._line.address(
            self._described.value().authorization_endpoint,
            redirect_uri,
            scope="openid email profile",
            state=state,
            code_verifier=verifier,
            nonce=nonce,
            prompt="select_account",
        )

    def identify(self, *, code: str, redirect_uri: str, verifier: str, nonce: str) -> Identified:
        token = self._line.exchange(self._described.value().token_endpoint, code, redirect_uri, verifier)
        claims = self._claims(token, nonce)
        email = claims.email or ""
        return _identified(
            subject=claims.sub,
            login=email,
            name=claims.name or email.partition("@")[0],
            email=email,
            verified=claims.email_verified is True,
        )

    def close(self) -> None:
        self._line.close()

    def _describe(self) -> "_Described":
        found = self._line.get(f"{self._issuer}/.well-known/openid-configuration", _Described)
        if found.issuer.rstrip("/") != self._issuer:
            _log.error("%s describes itself as %s; nobody can sign in with it", self._issuer, found.issuer)
            raise _unavailable("Google")
        return found

    def _claims(self, token: "_Token", nonce: str) -> "_Claims":
        """What the ID token says, if it is the issuer's own, for us, for this sign-in, and of now.

        Rule: openid.net/specs/openid-connect-core-1_0.html, section 3.1.3.7.
        """
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import JoseError

        issuers = [self._issuer, self._issuer.removeprefix("https://")]  # Google has always used both
        try:
            decoded = self._decode(token.id_token)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {"iss": {"essential": True, "values": issuers}, "aud": {"essential": True, "value": self._client_id}},
                {"nonce": nonce, "client_id": self._client_id, "access_token": token.access_token},
            )
            claims.validate(leeway=LEEWAY_SECONDS)
            return msgspec.convert(dict(claims), _Claims)
        except (JoseError, ValueError, TypeError, KeyError) as wrong:
            _refuse("Google", f"its ID token does not hold ({type(wrong).__name__}: {wrong})")

    def _decode(self, id_token: str) -> Any:
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError
        from joserfc.jwk import KeySet

        def decode(keys: Any) -> Any:
            return jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=["RS256"])

        try:
            return decode(self._keys.value())
        except InvalidKeyIdError:  # the issuer has changed its keys
            return decode(self._keys.value(afresh=True))


# What providers answer; what we do not need of it is not read.


class _Token(msgspec.Struct):
    access_token: str
    id_token: str = ""


class _GitHubUser(msgspec.Struct):
    id: int
    login: str
    name: str | None = None


class _GitHubEmail(msgspec.Struct):
    email: str
    primary: bool
    verified: bool


class _Described(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Claims(msgspec.Struct):
    sub: Annotated[str, msgspec.Meta(min_length=1)]
    name: str | None = None
    email: str | None = None
    email_verified: Any = None


def _identified(*, subject: str, login: str, name: str, email: str, verified: bool) -> Identified:
    """Texts of a length that can be kept, without what a page could stumble over; an address only if it can be one."""
    try:
        address = clean_email(email)
    except Invalid:
        address = ""
    return Identified(
        subject=subject,
        login=_one_line(login)[:EMAIL_LENGTH_MAX],
        name=_one_line(name)[:TEXT_LENGTH_MAX],
        email=address,
        email_verified=verified and bool(address),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


_Shape = TypeVar("_Shape")


class _Kept:
    """A value that is asked for again when it is old."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._value: Any = None
        self._until = float("-inf")

    def value(self, *, afresh: bool = False) -> Any:
        if afresh or time.monotonic() > self._until:
            self._value, self._until = self._ask(), time.monotonic() + KEEP_SECONDS
        return self._value


class _Line:
    """HTTP with one provider; whatever goes wrong on it is one of the port's refusals. Connects when first used."""

    def __init__(self, who: str, client_id: str, client_secret: str, timeout_seconds: float) -> None:
        self._who = who
        self._client_id = client_id
        self._client_secret = client_secret
        self._timeout_seconds = timeout_seconds

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        return httpx.Client(timeout=self._timeout_seconds, headers={"user-agent": "bharatrouter"}, trust_env=False)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()

    def _oauth(self) -> "OAuth2Client":
        from authlib.oauth2.client import OAuth2Client

        return OAuth2Client(self._client, client_id=self._client_id, code_challenge_method="S256")

    def address(self, endpoint: str, redirect_uri: str, **asked: str) -> str:
        made: str = self._oauth().create_authorization_url(endpoint, redirect_uri=redirect_uri, **asked)[0]
        return made

    def exchange(self, endpoint: str, code: str, redirect_uri: str, verifier: str) -> _Token:
        """The tokens for a code. It is asked once: a code is good for one time."""
        import httpx
        from authlib.oauth2 import OAuth2Error

        try:
            token = self._oauth().fetch_token(
                endpoint,
                grant_type="authorization_code",
                code=code,
                redirect_uri=redirect_uri,
                code_verifier=verifier,
                client_id=self._client_id,
                client_secret=self._client_secret,
                auth=httpx.Auth(),  # the secret is in the body, where both want it
            )
            return msgspec.convert(dict(token), _Token)
        except OAuth2Error as error:
            if error.error in ("invalid_client", "incorrect_client_credentials", "redirect_uri_mismatch"):
                _log.error("%s does not know us: %s; check its client id, secret and callback", self._who, error.error)
            _refuse(self._who, f"it does not take the code ({error.error})")
        except (httpx.HTTPError, ValueError) as trouble:
            raise self._unavailable(trouble) from trouble

    def get(self, url: str, shape: type[_Shape], *, token: str = "") -> _Shape:
        import httpx

        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        try:
            return msgspec.json.decode(self._client.get(url, headers=headers).raise_for_status().content, type=shape)
        except (httpx.HTTPError, ValueError) as trouble:
            raise self._unavailable(trouble) from trouble

    def _unavailable(self, trouble: Exception) -> Unavailable:
        _log.warning("%s cannot be asked: %s", self._who, type(trouble).__name__)
        return _unavailable(self._who)


def _unavailable(who: str) -> Unavailable:
    return Unavailable(
        "sign_in_unavailable", f"{who} does not answer as it should; try again.", retry_after=RETRY_AFTER_SECONDS
    )


def _refuse(who: str, why: str) -> NoReturn:
    _log.warning("%s: %s", who, why)
    raise Forbidden("sign_in_refused", f"What came back from {who} does not hold; begin again at /sign-in.")
