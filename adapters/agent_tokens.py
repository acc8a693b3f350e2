"""Tokens of agents: JWTs that the configured issuer has signed with ES256, checked against the keys that it publishes.

What a token says of itself never chooses how it is checked: one algorithm, one issuer, and of its header nothing but
`kid`, which picks among keys that we fetched ourselves. Rules: RFC 7515, 7517, 7518 (section 3.4), 7519 and 8725.
"""

import asyncio
import base64
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from domain.keys.agents import TOKEN_LENGTH_MAX, check_claims, not_accepted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

REFETCH_SECONDS = 30.0
FETCH_SECONDS = 5.0
KEYS_BYTES_MAX = 256 << 10
KEYS_MAX = 100
KNOWN_MAX = 10_000
"""Tokens that are remembered as good until they expire."""

Claims = Mapping[str, Any]

_log = logging.getLogger(__name__)


class _Header(msgspec.Struct):
    alg: str
    kid: str
    typ: str = "JWT"
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Jwk(msgspec.Struct):
    kty: str
    kid: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    use: str = "sig"
    alg: str = "ES256"


class _Jwks(msgspec.Struct):
    keys: list[msgspec.Raw]


_header = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(dict[str, Any])
_jwks = msgspec.json.Decoder(_Jwks)
_jwk = msgspec.json.Decoder(_Jwk)


class AgentTokens:
    """The tokens of one issuer. A token that was found good is remembered until it expires, so that a further call
    costs a hash and a look-up. Keys are fetched in a thread, and nobody waits for them but who shows an unknown `kid`.

    `names` are the claims that tell agents apart; `clock` tells microseconds since 1970. Whatever tokens come, keys are
    fetched once in `refetch_seconds` at most.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks_url: str,
        names: Collection[str],
        clock: Callable[[], int],
        refetch_seconds: float = REFETCH_SECONDS,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._url = jwks_url
        self._names = names
        self._clock = clock
        self._refetch_seconds = refetch_seconds
        self._keys: Mapping[str, EllipticCurvePublicKey] = {}
        self._known: OrderedDict[bytes, tuple[int, Claims]] = OrderedDict()
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="agent-keys")
        self._fetch: Future[None] | None = None
        self._fetched_at = float("-inf")

    def start(self) -> None:
        """Begins to fetch the issuer's keys, so that they are there when the first agent calls."""
        self._begin_fetch()

    def close(self) -> None:
        self._fetcher.shutdown(cancel_futures=True)

    async def claims_of(self, token: bytes) -> Claims:
        """What a good token says of who shows it. Raises Unauthenticated `invalid_api_key`."""
        digest = hashlib.sha256(token).digest()
        known = self._known.get(digest)
        if known is not None:
            until, claims = known
            if until > self._clock():
                return claims
            self._known.pop(digest, None)
        until, claims = await self._check(token)
        self._known[digest] = until, claims
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return claims

    async def _check(self, token: bytes) -> tuple[int, Claims]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        parts = token.split(b".")
        if len(token) > TOKEN_LENGTH_MAX or len(parts) != 3:
            raise not_accepted("it is no JWT")
        try:
            header = _header.decode(_from_base64(parts[0]))
            signature = _from_base64(parts[2])
        except (msgspec.DecodeError, ValueError):
            raise not_accepted("it cannot be read, or names no kid") from None
        if header.alg != "ES256" or header.crit is not msgspec.UNSET or len(signature) != 64:
            raise not_accepted("it is not signed with ES256")
        key = await self._key(header.kid)
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        try:
            key.verify(encode_dss_signature(r, s), parts[0] + b"." + parts[1], ECDSA(SHA256()))
            claims = _claims.decode(_from_base64(parts[1]))
        except (InvalidSignature, msgspec.DecodeError, ValueError):
            raise not_accepted("its signature is wrong") from None
        until = check_claims(claims, issuer=self._issuer, audience=self._audience, at=self._clock())
        return until, {name: claims[name] for name in self._names if name in claims}

    async def _key(self, kid: str) -> "EllipticCurvePublicKey":
        if kid not in self._keys:
            self._begin_fetch()
            if self._fetch is not None:
                await asyncio.shield(asyncio.wrap_future(self._fetch))
        if kid not in self._keys:
            raise not_accepted("its kid is none that its issuer publishes")
        return self._keys[kid]

    # The issuer's keys

    def _begin_fetch(self) -> None:
        """Unless one is under way, or the last one was a moment ago."""
        if time.monotonic() - self._fetched_at < self._refetch_seconds:
            return
        self._fetched_at = time.monotonic()
        self._fetch = self._fetcher.submit(self._take_keys)

    def _take_keys(self) -> None:
        try:
            self._keys = read_keys(self._download())
        except Exception:  # whatever the issuer answers, keys that we have stay good, and the next try may succeed
            _log.exception("the keys of the agents' issuer cannot be read from %s", self._url)

    def _download(self) -> bytes:
        import httpx

        with (
            httpx.Client(timeout=FETCH_SECONDS, follow_redirects=False) as client,
            client.stream("GET", self._url, headers={"accept": "application/json"}) as reply,
        ):
            if reply.status_code != 200:
                raise ValueError(f"it answers HTTP {reply.status_code}")
            body = b""
            for piece in reply.iter_bytes():
                body += piece
                if len(body) > KEYS_BYTES_MAX:
                    raise ValueError(f"it sends more than {KEYS_BYTES_MAX} bytes")
        return body


def read_keys(body: bytes) -> "Mapping[str, EllipticCurvePublicKey]":
    """The keys of a JWKS that ES256 can be checked with, by `kid`; others are passed over. Raises ValueError if it is
    none, or one `kid` names two keys."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers

    keys: dict[str, EllipticCurvePublicKey] = {}
    for raw in _jwks.decode(body).keys[:KEYS_MAX]:
        try:
            jwk = _jwk.decode(raw)
            if not jwk.kid or (jwk.kty, jwk.crv, jwk.use, jwk.alg) != ("EC", "P-256", "sig", "ES256"):
                continue
            x, y = int.from_bytes(_from_base64(jwk.x.encode())), int.from_bytes(_from_base64(jwk.y.encode()))
            key = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
        except (msgspec.DecodeError, ValueError):
            continue
        if jwk.kid in keys:
            raise ValueError(f"the kid {jwk.kid!r} names two keys")
        keys[jwk.kid] = key
    return keys


def _from_base64(text: bytes) -> bytes:
    """Base64url without padding (RFC 7515, section 2); raises ValueError for anything else."""
    if b"=" in text or b"+" in text or b"/" in text:
        raise ValueError("this is not base64url")
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
