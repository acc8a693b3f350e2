"""The session cookie: nobody makes one but us, it works as long as its session does, and only from our own pages."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.settings import Settings
from adapters.wiring import App
from api.session import COOKIE, CSRF_HEADER, Token, csrf_token, read_cookie, write_cookie
from domain.accounts.sign_in import end_session, session_expiry
from tests.api.browser import signed_in
from tests.api.client import Client, started
from tests.fakes import FakeClock
from tests.given import PEPPER, given_person, given_session

TOKEN = Token("usr_asha", "ses_1", "org_home_asha")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def services(database_url: str, tmp_path: Path, clock: FakeClock) -> Iterator[App]:
    with started(Settings(home=tmp_path, public_url="https://br.example"), database_url, clock=clock) as services:
        yield services


@pytest.fixture
def client(services: App, clock: FakeClock) -> Client:
    """An application in which Asha is signed in as `ses_1`."""
    given_person(services.store, "asha", seal=services.vault.seal, at=clock())
    given_session(services.store, "usr_asha", active="org_home_asha", session="ses_1", at=clock())
    services.directory.catch_up()
    return Client(services)


def test_a_cookie_says_what_was_written_and_only_to_us() -> None:
    cookie = write_cookie(PEPPER, TOKEN)
    assert read_cookie(PEPPER, cookie) == TOKEN
    assert read_cookie(b"another pepper", cookie) is None
    assert csrf_token(PEPPER, "ses_1") not in cookie


@given(st.text(max_size=300))
def test_what_others_make_up_is_none(made_up: str) -> None:
    assert read_cookie(PEPPER, made_up) is None


@given(st.integers(min_value=0), st.sampled_from("ABab01-_.= é"))
def test_an_altered_cookie_is_none(place: int, letter: str) -> None:
    cookie = write_cookie(PEPPER, TOKEN)
    place %= len(cookie)
    forged = cookie[:place] + letter + cookie[place + 1 :]
    assert read_cookie(PEPPER, forged) == (TOKEN if forged == cookie else None)


def test_a_session_opens_what_is_the_persons(client: Client) -> None:
    me = client("GET", "/me", headers=signed_in(*_token())).json()
    assert (me["person"]["id"], me["person"]["name"], me["org"]["id"], me["role"]) == (
        "usr_asha",
        "Asha",
        "org_home_asha",
        "owner",
    )
    assert me["csrf_token"] == csrf_token(PEPPER, "ses_1")


def test_a_session_that_ended_opens_nothing(client: Client, clock: FakeClock) -> None:
    app = client.services
    clock.now = session_expiry(clock()) - 1
    assert client("GET", "/me", headers=signed_in(*_token())).status_code == 200
    clock.now += 1
    assert client.code("GET", "/me", headers=signed_in(*_token())) == (401, "no_session")
    given_session(app.store, "usr_asha", active="org_home_asha", session="ses_2", at=clock())
    app.directory.catch_up()
    assert client("GET", "/me", headers=signed_in("usr_asha", "ses_2", "org_home_asha")).status_code == 200
    end_session(app.store, person="usr_asha", session="ses_2", at=clock())
    app.directory.catch_up()
    assert client.code("GET", "/me", headers=signed_in("usr_asha", "ses_2", "org_home_asha")) == (401, "no_session")


@pytest.mark.parametrize(
    "forged",
    [Token("usr_ravi", "ses_1", "org_home_asha"), Token("usr_asha", "ses_none", "org_home_asha")],
)
def test_a_genuine_cookie_of_another_persons_session_opens_nothing(client: Client, forged: Token) -> None:
    headers = signed_in(forged.person, forged.session, forged.org)
    assert client.code("GET", "/me", headers=headers) == (401, "no_session")


@pytest.mark.parametrize(
    "sent",
    [
        {"origin": "https://br.example"},
        {"origin": "https://br.example", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin"},
    ],
)
def test_a_page_of_ours_may_change_things(client: Client, sent: dict[str, str]) -> None:
    assert found_team(client, sent).status_code == 201


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"origin": "null"},
        {"origin": "http://test"},
        {"origin": "https://evil.example"},
        {"origin": "https://br.example.evil.example"},
        {"origin": "http://br.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://br.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": "https://br.example", CSRF_HEADER: ""},
        {"origin": "https://br.example", CSRF_HEADER: "x"},
        {"origin": "https://br.example", CSRF_HEADER: csrf_token(PEPPER, "ses_2")},
        {"origin": "https://br.example", CSRF_HEADER: csrf_token(b"another pepper", "ses_1")},
    ],
)
def test_no_other_page_may(client: Client, sent: dict[str, str]) -> None:
    reply = found_team(client, sent)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "csrf_failed")
    assert len(client.services.directory.directory.orgs_of("usr_asha")) == 1


def test_a_key_goes_before_a_cookie(client: Client) -> None:
    headers = signed_in(*_token(), authorization="Bearer br-no-such-key")
    assert client.code("GET", "/me", headers=headers) == (401, "invalid_api_key")


def found_team(client: Client, sent: dict[str, str]) -> httpx.Response:
    """Asks with what is `sent`, and with the right token unless another one is."""
    cookie = f"__Host-{COOKIE}={write_cookie(PEPPER, TOKEN)}"
    headers = {"cookie": cookie, CSRF_HEADER: csrf_token(PEPPER, "ses_1")} | sent
    return client("POST", "/me/orgs", headers=headers, json={"name": "Team"})


def _token() -> tuple[str, str, str]:
    return TOKEN.person, TOKEN.session, TOKEN.org
