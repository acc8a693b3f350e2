"""GitHub and Google as providers of identities, against their simulators: what holds, and all that does not."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from adapters.settings import Settings
from adapters.sign_in import GitHub, Google, identity_providers
from domain.accounts.ports import Identified, IdentityProvider
from domain.kernel.errors import Forbidden, Refusal, Unavailable
from tests.simulated_identity import CLIENTS, Simulated, simulated_identity, typed

PUBLIC_URL = "http://127.0.0.1:8123"
VERIFIER, NONCE, STATE = "v" * 43, "n" * 43, "s" * 43
NAMES = ("github", "google")


@pytest.fixture(scope="module")
def _simulator() -> Iterator[Simulated]:
    with simulated_identity(PUBLIC_URL) as simulated:
        yield simulated


@pytest.fixture
def simulator(_simulator: Simulated) -> Simulated:
    _simulator.tell("reset")
    return _simulator


@pytest.fixture
def providers(simulator: Simulated) -> Iterator[dict[str, IdentityProvider]]:
    settings = simulator.settings
    github = GitHub(
        url=settings["github_url"],
        api_url=settings["github_api_url"],
        client_id=settings["github_client_id"],
        client_secret=settings["github_client_secret"],
        timeout_seconds=1,
    )
    google = Google(
        issuer=settings["google_url"],
        client_id=settings["google_client_id"],
        client_secret=settings["google_client_secret"],
        timeout_seconds=1,
    )
    yield {"github": github, "google": google}
    github.close()
    google.close()


def redirect_uri(name: str) -> str:
    return f"{PUBLIC_URL}/auth/{name}/callback"


def page_of(providers: dict[str, IdentityProvider], name: str) -> str:
    uri = redirect_uri(name)
    return providers[name].address(redirect_uri=uri, state=STATE, verifier=VERIFIER, nonce=NONCE)


def code_of(providers: dict[str, IdentityProvider], name: str, person: dict[str, str] | None = None) -> str:
    back = httpx.post(page_of(providers, name), data=person or typed("asha"), trust_env=False).headers["location"]
    assert back.startswith(redirect_uri(name))
    query = parse_qs(urlsplit(back).query)
    assert query["state"] == [STATE]
    return query["code"][0]


def identify(providers: dict[str, IdentityProvider], name: str, code: str, **more: str) -> Identified:
    given: dict[str, Any] = {"redirect_uri": redirect_uri(name), "verifier": VERIFIER, "nonce": NONCE} | more
    return providers[name].identify(code=code, **given)


@pytest.mark.parametrize("name", NAMES)
def test_whoever_signs_in_is_known_by_a_lasting_id_and_a_verified_address(
    providers: dict[str, IdentityProvider], name: str
) -> None:
    first = identify(providers, name, code_of(providers, name))
    assert (first.name, first.email, first.email_verified) == ("Asha", "asha@example.com", True)
    assert first.login == {"github": "asha", "google": "asha@example.com"}[name]
    moved = typed("asha", email="other@example.com")
    assert identify(providers, name, code_of(providers, name, moved)).subject == first.subject
    assert identify(providers, name, code_of(providers, name, typed("vikram"))).subject != first.subject


@pytest.mark.parametrize("name", NAMES)
def test_an_address_counts_as_verified_only_where_the_provider_says_so_of_the_primary_one(
    providers: dict[str, IdentityProvider], simulator: Simulated, name: str
) -> None:
    unsaid = identify(providers, name, code_of(providers, name, typed("asha", verified=False)))
    assert (unsaid.email, unsaid.email_verified) == ("asha@example.com", False)
    simulator.switch(email="none")
    nothing = identify(providers, name, code_of(providers, name))
    assert (nothing.email, nothing.email_verified) == ("", False)
    simulator.switch()
    odd = identify(providers, name, code_of(providers, name, typed("asha", email="not an address")))
    assert (odd.email, odd.email_verified) == ("", False)


@pytest.mark.parametrize("name", NAMES)
def test_a_code_is_good_once_for_its_own_verifier_and_address_and_ten_minutes(
    providers: dict[str, IdentityProvider], simulator: Simulated, name: str
) -> None:
    def refused(code: str, **more: str) -> None:
        with pytest.raises(Forbidden) as refusal:
            identify(providers, name, code, **more)
        assert refusal.value.code == "sign_in_refused"

    code = code_of(providers, name)
    refused(code, verifier="w" * 43)
    refused(code, redirect_uri="http://127.0.0.1:8123/auth/elsewhere/callback")
    identify(providers, name, code)
    refused(code)
    refused("made-up")
    refused(code_of(providers, {"github": "google", "google": "github"}[name]))
    code = code_of(providers, name)
    simulator.tell("advance", {"seconds": 601})
    refused(code)


@pytest.mark.parametrize("name", NAMES)
def test_the_wrong_secret_opens_nothing(
    providers: dict[str, IdentityProvider], simulator: Simulated, name: str
) -> None:
    wrong = {f"{name}_client_secret": "guessed"}
    other = identity_providers(Settings(public_url=PUBLIC_URL, **simulator.settings | wrong))[name]
    with pytest.raises(Forbidden):
        other.identify(code=code_of(providers, name), redirect_uri=redirect_uri(name), verifier=VERIFIER, nonce=NONCE)
    other.close()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"nonce": "wrong"}, "'nonce'"),
        ({"nonce": "missing"}, "'nonce'"),
        ({"signature": "wrong"}, "BadSignatureError"),
        ({"signature": "none"}, "UnsupportedAlgorithmError"),
        ({"signature": "hs256"}, "UnsupportedAlgorithmError"),
        ({"signature": "unknown key"}, "InvalidKeyIdError"),
        ({"issuer": "https://accounts.google.com.evil.example"}, "'iss'"),
        ({"audience": "another-client"}, "'aud'"),
        ({"audience": []}, "'aud'"),
        ({"audience": ["another-client", "a-third"]}, "'aud'"),
        ({"expires_seconds": -120}, "ExpiredTokenError"),
        ({"access_token_hash": "wrong"}, "'at_hash'"),
        ({"id_token": False}, "DecodeError"),
    ],
    ids=str,
)
def test_an_id_token_that_is_not_the_issuers_own_for_us_for_this_sign_in_and_of_now_is_refused(
    providers: dict[str, IdentityProvider],
    simulator: Simulated,
    fault: dict[str, object],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = code_of(providers, "google")
    simulator.switch(**fault)
    with pytest.raises(Forbidden) as refusal:
        identify(providers, "google", code)
    assert refusal.value.code == "sign_in_refused"
    assert why in caplog.text
    simulator.switch()
    identify(providers, "google", code_of(providers, "google"))


def test_a_nonce_of_another_sign_in_is_refused(providers: dict[str, IdentityProvider]) -> None:
    with pytest.raises(Forbidden):
        identify(providers, "google", code_of(providers, "google"), nonce="m" * 43)


def test_new_keys_of_the_issuer_are_fetched_when_they_are_met(
    providers: dict[str, IdentityProvider], simulator: Simulated
) -> None:
    identify(providers, "google", code_of(providers, "google"))
    simulator.tell("rotate")
    identify(providers, "google", code_of(providers, "google"))


FAULTS = [
    ("github", "access_token"),
    ("github", "GET /github/api/user"),
    ("github", "/emails"),
    ("google", "POST /google/token"),
    ("google", "certs"),
]


@pytest.mark.parametrize(("name", "path"), FAULTS)
@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 302}, {"body": "<html>"}, {"body": "[1]"}, {"sleep_seconds": 1.5}], ids=str
)
def test_a_provider_that_does_not_answer_as_it_should_is_unavailable(
    providers: dict[str, IdentityProvider], simulator: Simulated, name: str, path: str, fault: dict[str, object]
) -> None:
    code = code_of(providers, name)
    simulator.switch(path=path, times=1, **fault)
    with pytest.raises(Refusal) as refusal:
        identify(providers, name, code)
    assert isinstance(refusal.value, Unavailable)
    assert refusal.value.code == "sign_in_unavailable"


def test_google_is_asked_where_to_go_and_must_answer_for_itself(
    providers: dict[str, IdentityProvider], simulator: Simulated
) -> None:
    described = simulator.url + "/google/.well-known/openid-configuration"
    body = httpx.get(described, trust_env=False).text.replace(f'"{simulator.url}/google"', '"https://evil.example"')
    for fault in ({"status": 500}, {"body": "{}"}, {"body": body}):
        simulator.switch(path="openid-configuration", **fault)
        with pytest.raises(Unavailable):
            page_of(providers, "google")
    simulator.switch()
    query = parse_qs(urlsplit(page_of(providers, "google")).query)
    assert query["scope"] == ["openid email profile"]
    assert query["nonce"] == [NONCE]
    assert query["code_challenge_method"] == ["S256"]
    assert VERIFIER not in str(query)


@pytest.mark.parametrize("name", NAMES)
def test_the_providers_page_sends_nobody_anywhere_but_back_to_us(
    providers: dict[str, IdentityProvider], name: str
) -> None:
    page = httpx.URL(page_of(providers, name))
    for wrong in (
        {"redirect_uri": "https://evil.example/auth/github/callback"},
        {"redirect_uri": redirect_uri(name) + "/more"},
        {"client_id": "another"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"state": ""},
    ):
        reply = httpx.post(page.copy_merge_params(wrong), data=typed("asha"), trust_env=False)
        assert reply.status_code in (400, 401), wrong
        assert "location" not in reply.headers


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"github", "google"}),
        ({"host": "localhost", "public_url": "http://localhost:8000"}, {"github", "google"}),
        ({"host": "0.0.0.0", "public_url": PUBLIC_URL}, set()),
        ({"host": "192.168.1.4"}, set()),
        ({"public_url": "https://bharatrouter.example"}, set()),
    ],
)
def test_simulated_providers_count_only_where_nobody_else_can_reach_the_product(
    settings: dict[str, Any], expected: set[str], simulator: Simulated
) -> None:
    assert set(identity_providers(Settings(**simulator.settings | settings))) == expected
    real: dict[str, Any] = dict(CLIENTS) | settings
    assert set(identity_providers(Settings(**real))) == {"github", "google"}


def test_without_a_client_id_there_is_no_provider_and_half_a_registration_is_a_mistake() -> None:
    assert not identity_providers(Settings())
    with pytest.raises(ValueError, match="BR_GITHUB_CLIENT_SECRET"):
        Settings(github_client_id="only")
