"""Tokens of agents: what the issuer signed is taken and remembered, and nothing that looks like it."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.agent_tokens import AgentTokens, read_keys
from domain.kernel.errors import Unauthenticated
from tests.issuer import AUDIENCE, ISSUER, Issuer, in_base64, jwk


def now() -> int:
    return time.time_ns() // 1000


@contextmanager
def tokens_of(issuer: Issuer, *, clock: Callable[[], int] = now, **more: float) -> Iterator[AgentTokens]:
    given: dict[str, Any] = {"jwks_url": issuer.url, "names": ("sub",), "clock": clock} | more
    tokens = AgentTokens(issuer=ISSUER, audience=AUDIENCE, **given)
    yield tokens
    tokens.close()


@pytest.fixture
def tokens(issuer: Issuer) -> Iterator[AgentTokens]:
    with tokens_of(issuer) as tokens:
        yield tokens


def claims_of(tokens: AgentTokens, token: str) -> Any:
    return asyncio.run(tokens.claims_of(token.encode()))


def test_a_token_of_the_issuer_says_who_shows_it(tokens: AgentTokens, issuer: Issuer) -> None:
    assert claims_of(tokens, issuer.token()) == {"sub": "bot"}
    assert claims_of(tokens, issuer.token(header={"typ": "at+jwt"}, sub="other")) == {"sub": "other"}
    assert issuer.fetches == 1


def spoilt(part: int) -> Callable[[Issuer], str]:
    """One character of a part changed, in its middle."""

    def spoil(issuer: Issuer) -> str:
        parts = issuer.token().split(".")
        middle = len(parts[part]) // 2
        other = "B" if parts[part][middle] != "B" else "C"
        parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
        return ".".join(parts)

    return spoil


def with_own_key(issuer: Issuer) -> str:
    """Signed by a key that the token itself brings, or says where to fetch."""
    issuer.keys["own"] = own = ec.generate_private_key(ec.SECP256R1())
    token = issuer.token(kid="own", header={"kid": "k1", "jwk": jwk(own), "jku": issuer.url, "x5u": issuer.url})
    del issuer.keys["own"]
    return token


ATTACKS: dict[str, Callable[[Issuer], str]] = {
    "no signature, alg none": lambda issuer: issuer.unsigned(header={"alg": "none", "kid": "k1"}) + ".",
    "alg None with the signature of another": lambda issuer: issuer.token(header={"alg": "None"}),
    "HS256 with the public key as PEM": lambda issuer: issuer.signed_by_hash(issuer.pem()),
    "HS256 with the published keys": lambda issuer: issuer.signed_by_hash(issuer.published()),
    "ES384 in name": lambda issuer: issuer.token(header={"alg": "ES384"}),
    "lower case": lambda issuer: issuer.token(header={"alg": "es256"}),
    "critical extension": lambda issuer: issuer.token(header={"crit": ["exp"]}),
    "its own key": with_own_key,
    "no kid": lambda issuer: issuer.token(header={"kid": None}),
    "kid of no key": lambda issuer: issuer.token(header={"kid": "k2"}),
    "kid that is a path": lambda issuer: issuer.token(header={"kid": "../../dev/null"}),
    "kid that is a query": lambda issuer: issuer.token(header={"kid": "x' union select 'k1"}),
    "kid that is no string": lambda issuer: issuer.token(header={"kid": ["k1"]}),
    "changed header": spoilt(0),
    "changed claims": spoilt(1),
    "changed signature": spoilt(2),
    "empty signature": lambda issuer: issuer.unsigned(header={"kid": "k1"}) + ".",
    "zero signature": lambda issuer: issuer.unsigned(header={"kid": "k1"}) + "." + in_base64(bytes(64)),
    "long signature": lambda issuer: issuer.token() + "AAAA",
    "padded": lambda issuer: issuer.token() + "=",
    "two parts": lambda issuer: issuer.token().rsplit(".", 1)[0],
    "four parts": lambda issuer: issuer.token() + ".AAAA",
    "no JSON": lambda issuer: "eyJ." + issuer.token().split(".", 1)[1],
    "another issuer": lambda issuer: issuer.token(iss="https://evil.test"),
    "another audience": lambda issuer: issuer.token(aud="other"),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 31),
    "for ever": lambda issuer: issuer.token(exp=None),
    "for a day": lambda issuer: issuer.token(exp=int(time.time()) + 86_400),
    "not yet": lambda issuer: issuer.token(nbf=int(time.time()) + 60),
    "no scope": lambda issuer: issuer.token(scope=None),
    "another scope": lambda issuer: issuer.token(scope="models:list"),
    "huge": lambda issuer: issuer.token(padding="x" * 9_000),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=[*ATTACKS])
def test_nothing_else_is_taken(tokens: AgentTokens, issuer: Issuer, attack: Callable[[Issuer], str]) -> None:
    claims_of(tokens, issuer.token())
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refused:
            claims_of(tokens, attack(issuer))
        assert refused.value.code == "invalid_api_key"
    assert issuer.fetches == 1


def test_an_unknown_kid_fetches_the_keys_anew_but_seldom(issuer: Issuer) -> None:
    with tokens_of(issuer, refetch_seconds=0.5) as tokens:
        claims_of(tokens, issuer.token())
        issuer.keys["k2"] = ec.generate_private_key(ec.SECP256R1())
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                claims_of(tokens, issuer.token(kid="k2"))
        assert issuer.fetches == 1
        time.sleep(0.5)
        assert claims_of(tokens, issuer.token(kid="k2")) == {"sub": "bot"}
        assert issuer.fetches == 2


def test_all_who_wait_for_the_keys_wait_for_one_fetch(tokens: AgentTokens, issuer: Issuer) -> None:
    issuer.pause_seconds = 0.2

    async def together() -> list[Any]:
        return await asyncio.gather(*[tokens.claims_of(issuer.token(sub=f"b{n}").encode()) for n in range(50)])

    assert [each["sub"] for each in asyncio.run(together())] == [f"b{n}" for n in range(50)]
    assert issuer.fetches == 1


def test_a_known_token_is_a_look_up_until_it_expires(issuer: Issuer) -> None:
    moment = now()
    with tokens_of(issuer, clock=lambda: moment) as tokens:
        token = issuer.token().encode()

        async def often() -> float:
            await tokens.claims_of(token)
            began = time.process_time()
            for _ in range(1_000):
                await tokens.claims_of(token)
            return time.process_time() - began

        assert asyncio.run(often()) < 0.05
        moment += 331_000_000
        with pytest.raises(Unauthenticated):
            asyncio.run(often())


def test_keys_that_cannot_be_read_leave_those_that_were(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    with tokens_of(issuer, refetch_seconds=0) as tokens:
        claims_of(tokens, issuer.token())
        for body in (b"{", b"[]", b'{"keys": 1}', b"x" * 300_000):
            issuer.body = body
            with pytest.raises(Unauthenticated):
                claims_of(tokens, issuer.token(header={"kid": "k9"}))
            assert claims_of(tokens, issuer.token(sub=f"after {len(body)}"))
    assert caplog.text.count("cannot be read from") == 4


def test_of_a_jwks_only_keys_for_es256_are_taken() -> None:
    key, larger = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    found = [
        jwk(key, kid="good"),
        jwk(key, kid="also good", use="sig", alg="ES256"),
        jwk(key, kid="to encrypt", use="enc"),
        jwk(key, kid="other alg", alg="ES384"),
        jwk(larger, kid="other curve", crv="P-384"),
        jwk(larger, kid="beyond the curve"),
        jwk(key, kid="off the curve", y=jwk(key)["x"]),
        jwk(key),
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"},
        "no key",
    ]
    assert set(read_keys(json.dumps({"keys": found}).encode())) == {"good", "also good"}
    with pytest.raises(ValueError, match="two keys"):
        read_keys(json.dumps({"keys": [jwk(key, kid="a"), jwk(key, kid="a")]}).encode())
