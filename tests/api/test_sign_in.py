"""Signing in over real sockets: two gateways on one ledger, simulated GitHub and Google, browsers with cookies, and all
that somebody may try who is not the one they say."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st

from adapters.gateway import open_gateway
from adapters.settings import Settings
from adapters.wiring import App, build
from api import app as web
from api.session import Token, read_cookie, set_cookie, write_cookie
from api.sign_in import LANDING, Ticket, local_path, write_signed
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import NotFound
from domain.kernel.money import rupees
from projections.runner import Runner
from tests.beside import beside
from tests.fakes import ClockAhead
from tests.given import PEPPER, given_invitation, given_person, given_team
from tests.machine import free_port
from tests.simulated_identity import Browser, Simulated, simulated_identity, typed

NewBrowser = Callable[..., Browser]
names = count(1)


@contextmanager
def serving(settings: Settings, **given: Any) -> Iterator[App]:
    """A gateway in a thread of this process, with all that a process of its own would have."""
    app = build(settings, environment={}, pepper=PEPPER, **given)
    with closing(app), beside(listening(app)):
        yield app


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[None]:
    app.directory.start()
    async with open_gateway(app) as gateway:
        config = uvicorn.Config(
            web.build(app, gateway=gateway),
            host="127.0.0.1",
            port=app.settings.port,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield
        server.should_exit = True
        await serving


@pytest.fixture(scope="module")
def clock() -> ClockAhead:
    return ClockAhead()


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def url(ports: tuple[int, int]) -> str:
    return f"http://127.0.0.1:{ports[0]}"


@pytest.fixture(scope="module")
def _simulator(url: str) -> Iterator[Simulated]:
    with simulated_identity(url) as simulated:
        yield simulated


@pytest.fixture
def simulator(_simulator: Simulated) -> Simulated:
    _simulator.tell("reset")
    return _simulator


@pytest.fixture(scope="module")
def apps(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[..., str],
    migrated_template: str,
    valkey: str,
    _simulator: Simulated,
    ports: tuple[int, int],
    url: str,
    clock: ClockAhead,
) -> Iterator[tuple[App, App]]:
    """Two gateways. The second stands behind a proxy, and lets a client take four steps of sign-ins in ten minutes."""
    home: Path = tmp_path_factory.mktemp("home")
    database = new_database(template=migrated_template)
    Runner(database).prepare()
    common: dict[str, Any] = {"home": home, "public_url": url, **_simulator.settings}
    first = Settings(port=ports[0], sign_ins_max=100_000, **common)
    second = Settings(port=ports[1], sign_ins_max=4, trusted_proxies=("127.0.0.1",), **common)
    stores = {"database_url": database, "redis_url": valkey, "clock": clock}
    with serving(first, **stores) as one, serving(second, **stores) as other:
        yield one, other


@pytest.fixture
def app(apps: tuple[App, App]) -> App:
    return apps[0]


@pytest.fixture
def new_browser(apps: tuple[App, App], simulator: Simulated, url: str) -> Iterator[NewBrowser]:
    made: list[Browser] = []

    def make(at: str = url) -> Browser:
        made.append(Browser(at))
        return made[-1]

    yield make
    for browser in made:
        browser.close()


@pytest.fixture
def browser(new_browser: NewBrowser) -> Browser:
    return new_browser()


@pytest.fixture
def name() -> str:
    """Of somebody who was never here."""
    return f"person{next(names)}"


def code_of(reply: httpx.Response) -> tuple[int, str]:
    assert set(reply.json()) == {"error"}, reply.text
    return reply.status_code, reply.json()["error"]["code"]


def credit(app: App, org: str) -> int:
    try:
        return app.available(org)
    except NotFound:
        return 0


def flags(reply: httpx.Response, cookie: str) -> set[str]:
    [line] = [line for line in reply.headers.get_list("set-cookie") if line.startswith(f"{cookie}=")]
    return {part.strip() for part in line.split(";")[1:]}


# Who somebody is


@pytest.mark.parametrize("provider", ["github", "google"])
def test_the_first_sign_in_makes_a_person_with_an_org_of_their_own_and_a_hundred_rupees(
    browser: Browser, app: App, name: str, provider: str
) -> None:
    reply = browser.sign_in(provider, typed(name), next="/me/keys?limit=5")
    assert (reply.status_code, reply.headers["location"]) == (303, "/me/keys?limit=5")
    assert reply.headers["cache-control"] == "no-store"
    me = browser.me()
    assert (me["person"]["name"], me["person"]["email"]) == (name.title(), f"{name}@example.com")
    assert me["person"]["providers"] == [provider]
    assert (me["org"]["kind"], me["role"]) == ("personal", "owner")
    assert credit(app, me["org"]["id"]) == rupees(100)


@pytest.mark.parametrize("provider", ["github", "google"])
def test_the_second_sign_in_finds_the_same_person_and_gives_nothing_more(
    new_browser: NewBrowser, app: App, name: str, provider: str
) -> None:
    people = []
    for _ in range(3):
        browser = new_browser()
        browser.sign_in(provider, typed(name))
        people.append(browser.me())
    assert len({me["person"]["id"] for me in people}) == 1
    assert credit(app, people[0]["org"]["id"]) == rupees(100)


def test_both_providers_are_one_person_where_both_say_that_the_address_is_verified(
    new_browser: NewBrowser, app: App, name: str
) -> None:
    browser = new_browser()
    browser.sign_in("github", typed(name))
    first = browser.me()
    other = new_browser()
    other.sign_in("google", typed(f"{name}-work", email=f"{name}@Example.com"))
    assert other.me()["person"]["id"] == first["person"]["id"]
    assert other.me()["person"]["providers"] == ["github", "google"]
    assert credit(app, first["org"]["id"]) == rupees(100)


@pytest.mark.parametrize("sure", [("github",), ("google",), ()], ids=str)
def test_an_address_that_one_of_them_does_not_vouch_for_links_nobody(
    new_browser: NewBrowser, app: App, name: str, sure: tuple[str, ...]
) -> None:
    people = []
    for provider in ("github", "google"):
        browser = new_browser()
        browser.sign_in(provider, typed(name, verified=provider in sure))
        people.append(browser.me())
        assert credit(app, people[-1]["org"]["id"]) == (rupees(100) if provider in sure else 0)
    assert people[0]["person"]["id"] != people[1]["person"]["id"]


def test_many_first_sign_ins_at_once_make_one_person_with_one_credit(
    new_browser: NewBrowser, app: App, name: str
) -> None:
    browsers = [new_browser() for _ in range(6)]
    returns = [
        browser.say(browser.begin(way), typed(name))
        for browser, way in zip(browsers, ["github", "google"] * 3, strict=True)
    ]
    with ThreadPoolExecutor() as pool:
        replies = [*pool.map(lambda pair: pair[0].come_back(pair[1]), zip(browsers, returns, strict=True))]
    assert {reply.status_code for reply in replies} == {303}
    assert len({browser.me()["person"]["id"] for browser in browsers}) == 1
    assert credit(app, browsers[0].me()["org"]["id"]) == rupees(100)


# The dance, and whoever would cut in


def test_a_return_is_good_once_on_whichever_gateway(new_browser: NewBrowser, name: str, ports: tuple[int, int]) -> None:
    browser = new_browser()
    back = browser.say(browser.begin("github"), typed(name))
    ticket = dict(browser.http.cookies)
    assert browser.come_back(back).status_code == 303
    assert "br_sign_in" not in browser.http.cookies
    for port in ports:
        again = httpx.get(
            back.replace(f":{ports[0]}/", f":{port}/"),
            cookies=ticket,
            headers={"x-forwarded-for": "198.51.100.7"},
            trust_env=False,
        )
        assert code_of(again) == (400, "sign_in_invalid")
        assert "br_session" not in again.cookies


def test_a_return_belongs_to_the_browser_that_began_it(new_browser: NewBrowser, name: str) -> None:
    attacker, victim = new_browser(), new_browser()
    lure = attacker.say(attacker.begin("github"), typed(name))
    assert code_of(victim.come_back(lure)) == (400, "sign_in_invalid")
    victim.begin("github")
    assert code_of(victim.come_back(lure)) == (400, "sign_in_invalid")
    assert victim.get("/me").status_code == 401


def test_a_code_of_another_sign_in_is_refused_though_the_state_is_right(new_browser: NewBrowser, name: str) -> None:
    for provider in ("github", "google"):
        attacker, victim = new_browser(), new_browser()
        code = parse_qs(urlsplit(attacker.say(attacker.begin(provider), typed(name))).query)["code"][0]
        state = parse_qs(urlsplit(victim.begin(provider)).query)["state"][0]
        reply = victim.get(f"/auth/{provider}/callback", params={"code": code, "state": state})
        assert code_of(reply) == (403, "sign_in_refused")
        assert victim.get("/me").status_code == 401


@pytest.mark.parametrize("provider", ["github", "google"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"denied": True}, (403, "sign_in_refused")),
        ({"state": "wrong"}, (400, "sign_in_invalid")),
        ({"state": "missing"}, (400, "sign_in_invalid")),
        ({"path": "token", "status": 503}, (503, "sign_in_unavailable")),
    ],
    ids=str,
)
def test_what_goes_wrong_at_the_provider_signs_nobody_in(
    browser: Browser,
    simulator: Simulated,
    name: str,
    provider: str,
    fault: dict[str, object],
    expected: tuple[int, str],
) -> None:
    simulator.switch(**fault)
    assert code_of(browser.sign_in(provider, typed(name))) == expected
    assert browser.get("/me").status_code == 401


@pytest.mark.parametrize("fault", [{"nonce": "wrong"}, {"expires_seconds": -120}, {"signature": "none"}], ids=str)
def test_an_id_token_that_does_not_hold_signs_nobody_in(
    browser: Browser, simulator: Simulated, name: str, fault: dict[str, object]
) -> None:
    simulator.switch(**fault)
    assert code_of(browser.sign_in("google", typed(name))) == (403, "sign_in_refused")
    assert browser.get("/me").status_code == 401


def test_a_sign_in_that_takes_longer_than_ten_minutes_is_begun_again(
    browser: Browser, name: str, clock: ClockAhead
) -> None:
    back = browser.say(browser.begin("github"), typed(name))
    clock.ahead += 600 * SECOND
    assert code_of(browser.come_back(back)) == (400, "sign_in_invalid")


def test_a_ticket_is_for_one_provider_and_no_session(browser: Browser, name: str) -> None:
    back = browser.say(browser.begin("github"), typed(name))
    assert code_of(browser.come_back(back.replace("/github/", "/google/"))) == (400, "sign_in_invalid")
    browser.cookie = browser.http.cookies["br_sign_in"]
    assert code_of(browser.get("/me")) == (401, "no_session")
    assert browser.come_back(back).status_code == 303


def test_what_somebody_else_wrote_is_no_ticket(browser: Browser, clock: ClockAhead) -> None:
    ticket = Ticket("github", "00" * 32, "/", clock() + DAY)
    for pepper, purpose in ((b"guessed", b"sign-in ticket"), (PEPPER, b"session cookie")):
        cookies = {"br_sign_in": write_signed(pepper, purpose, ticket)}
        reply = httpx.get(
            f"{browser.url}/auth/github/callback",
            params={"state": ticket.state, "code": "c"},
            cookies=cookies,
            trust_env=False,
        )
        assert code_of(reply) == (400, "sign_in_invalid")


def test_no_header_of_the_request_says_where_the_provider_sends_people_back(browser: Browser, url: str) -> None:
    evil = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    reply = browser.get("/auth/github", headers=evil)
    query = parse_qs(urlsplit(reply.headers["location"]).query)
    assert query["redirect_uri"] == [f"{url}/auth/github/callback"]
    assert "evil" not in reply.headers["location"]


def test_a_browser_that_came_by_another_name_of_this_machine_begins_where_it_will_come_back(
    new_browser: NewBrowser, url: str, name: str
) -> None:
    browser = new_browser(url.replace("127.0.0.1", "localhost"))
    reply = browser.get("/auth/github", params={"next": "/me"})
    assert reply.headers["location"] == f"{url}/auth/github?next=%2Fme"
    assert "br_sign_in" not in reply.cookies


LOCAL = ["/", "/me", "/me/activity?from=2026-11-01&to=2026-11-02", "/docs/%E0%A4%A8", "/a//b", "/a b"]
ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/%2fevil.example",
    "/%5Cevil.example",
    "/%252fevil.example",
    "%2f%2fevil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/%09/evil.example",
    "/%0d%0aset-cookie:br_session=x",
    "https://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/" + "a" * 501,
    "/%25252525252fevil.example",
]


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_after_signing_in_nobody_is_sent_to_another_site(browser: Browser, name: str, wanted: str) -> None:
    reply = browser.sign_in("github", typed(name), next=wanted)
    assert (reply.status_code, reply.headers["location"]) == (303, LANDING)
    assert wanted == "" or wanted not in browser.get("/sign-in", params={"next": wanted}).text


@pytest.mark.parametrize("wanted", LOCAL)
def test_a_path_of_ours_is_where_a_sign_in_may_lead(wanted: str) -> None:
    assert local_path(wanted) == wanted


@given(st.text(alphabet="/\\%2f5cC09aedx.:@?#\t\n\r e", max_size=24))
def test_no_path_leads_away_however_a_browser_or_a_proxy_reads_it(wanted: str) -> None:
    path = local_path(wanted)
    for _ in range(3):
        read = "".join(letter for letter in path if letter not in "\t\n\r").replace("\\", "/")  # as WHATWG's URL does
        assert read.startswith("/")
        assert not read.startswith("//")
        path = unquote(path)


# The session


def test_the_cookies_are_for_no_script_no_other_site_and_thirty_days(browser: Browser, name: str) -> None:
    begun = browser.get("/auth/github")
    assert flags(begun, "br_sign_in") == {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"}
    reply = browser.sign_in("github", typed(name))
    assert flags(reply, "br_session") == {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=2592000"}


@pytest.mark.parametrize(
    ("public_url", "secure"),
    [
        ("https://bharatrouter.example", True),
        ("http://bharatrouter.example", True),
        ("http://10.0.0.1:8000", True),
        ("https://127.0.0.1", True),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_cookies_go_over_tls_alone_except_at_a_developers_own_machine(public_url: str, secure: bool) -> None:
    response = Response()
    set_cookie(SimpleNamespace(pepper=PEPPER, settings=Settings(public_url=public_url)), response, Token("p", "s", "o"))
    assert ("Secure" in response.headers["set-cookie"]) == secure


@given(st.data())
def test_a_cookie_that_was_changed_anywhere_is_nobodys(data: st.DataObject) -> None:
    token = Token("usr_1", "ses_1", "org_1")
    value = write_cookie(PEPPER, token)
    assert read_cookie(PEPPER, value) == token
    place = data.draw(st.integers(0, len(value) - 1))
    changed = value[:place] + data.draw(st.text(max_size=3)) + value[place + data.draw(st.integers(0, 2)) :]
    assert read_cookie(PEPPER, changed) == (token if changed == value else None)
    assert read_cookie(b"another pepper", value) is None


@given(st.text(max_size=60))
def test_what_we_did_not_write_is_no_cookie(value: str) -> None:
    assert read_cookie(PEPPER, value) is None


def test_every_sign_in_begins_a_new_session_and_ends_the_one_before(new_browser: NewBrowser, name: str) -> None:
    browser, thief = new_browser(), new_browser()
    browser.sign_in("github", typed(name))
    planted = browser.cookie
    thief.cookie = planted
    assert thief.me()["person"]["name"] == name.title()
    browser.sign_in("github", typed(name))
    assert browser.cookie != planted
    assert browser.get("/me").status_code == 200
    assert thief.get("/me").status_code == 401
    unsigned = new_browser()
    unsigned.cookie = "ses_known_to_somebody_else"
    unsigned.sign_in("google", typed(name))
    [session] = [row for row in unsigned.get("/me/sessions").json()["data"] if row["current"]]
    assert session["id"].startswith("ses_0")


def test_a_person_sees_and_ends_their_sessions_and_nobody_elses(new_browser: NewBrowser, name: str) -> None:
    here, there, stranger = new_browser(), new_browser(), new_browser()
    here.sign_in("github", typed(name))
    there.http.headers["user-agent"] = "Another browser"
    there.sign_in("google", typed(name))
    stranger.sign_in("github", typed(f"{name}-stranger"))
    rows = here.get("/me/sessions").json()["data"]
    assert [(row["agent"], row["address"], row["current"]) for row in rows] == [
        ("Another browser", "127.0.0.1", False),
        ("Test browser", "127.0.0.1", True),
    ]
    assert code_of(stranger.change("DELETE", f"/me/sessions/{rows[0]['id']}")) == (404, "not_found")
    assert there.get("/me").status_code == 200
    assert here.change("DELETE", f"/me/sessions/{rows[0]['id']}").status_code == 200
    assert code_of(there.get("/me")) == (401, "no_session")
    gone = here.change("DELETE", f"/me/sessions/{rows[1]['id']}")
    assert gone.json() == {"id": rows[1]["id"], "ended": True}
    assert not here.cookie
    assert code_of(here.get("/me")) == (401, "no_session")


def test_a_session_ends_by_itself_after_thirty_days(browser: Browser, name: str, clock: ClockAhead) -> None:
    browser.sign_in("github", typed(name))
    clock.ahead += 30 * DAY - 60 * SECOND
    assert browser.get("/me").status_code == 200
    clock.ahead += 61 * SECOND
    assert code_of(browser.get("/me")) == (401, "no_session")


@pytest.mark.parametrize("everywhere", [False, True])
def test_signing_out_ends_this_session_or_all_of_them_on_both_gateways_within_a_second(
    new_browser: NewBrowser, name: str, ports: tuple[int, int], everywhere: bool
) -> None:
    here, there = new_browser(), new_browser()
    here.sign_in("github", typed(name))
    there.sign_in("google", typed(name))
    cookies = [f"br_session={browser.cookie}" for browser in (here, there)]
    with httpx.Client(trust_env=False) as other:

        def statuses() -> tuple[int, ...]:
            url = f"http://127.0.0.1:{ports[1]}/me"
            return tuple(other.get(url, headers={"cookie": cookie}).status_code for cookie in cookies)

        assert statuses() == (200, 200)
        reply = here.change("POST", "/auth/logout" + "?everywhere=true" * everywhere)
        assert reply.json() == {"signed_out": True, "everywhere": everywhere}
        left = time.monotonic()
        assert not here.cookie
        wanted = (401, 401 if everywhere else 200)
        while statuses() != wanted:
            assert time.monotonic() - left < 5
        assert time.monotonic() - left < 1.5  # two looks at the directory of 0.25 s each are in it


@pytest.mark.parametrize(
    "wrong",
    [
        {"x_br_csrf": None},
        {"x_br_csrf": "guessed"},
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "https://evil.example", "sec_fetch_site": None},
        {"origin": "https://evil.example", "sec_fetch_site": None, "host": "evil.example"},
        {"origin": "null"},
        {"origin": None, "sec_fetch_site": "same-site"},
        {"origin": None, "sec_fetch_site": "none"},
        {"origin": None, "sec_fetch_site": None},
    ],
    ids=str,
)
def test_no_other_site_can_act_by_a_session(browser: Browser, name: str, wrong: dict[str, str | None]) -> None:
    browser.sign_in("github", typed(name))
    assert code_of(browser.change("POST", "/auth/logout?everywhere=true", **wrong)) == (403, "csrf_failed")
    assert browser.get("/me").status_code == 200


def test_the_token_of_one_session_is_no_good_in_another(new_browser: NewBrowser, name: str) -> None:
    here, there = new_browser(), new_browser()
    here.sign_in("github", typed(name))
    there.sign_in("github", typed(name))
    reply = here.change("POST", "/auth/logout", x_br_csrf=there.me()["csrf_token"])
    assert code_of(reply) == (403, "csrf_failed")
    for good in ({}, {"origin": None}, {"sec_fetch_site": None}):
        assert here.change("POST", "/me/orgs", {"name": "Team"}, **good).status_code == 201


def test_looking_at_another_org_signs_the_cookie_anew(browser: Browser, name: str) -> None:
    browser.sign_in("github", typed(name))
    before, team = browser.cookie, browser.change("POST", "/me/orgs", {"name": "Team"}).json()["id"]
    assert browser.change("POST", "/me/orgs/switch", {"org": team}).status_code == 200
    assert browser.cookie != before
    assert browser.me()["org"]["id"] == team


# Pages, limits, and what is not there


def test_the_page_offers_both_and_needs_no_script(browser: Browser, name: str) -> None:
    page = browser.get("/sign-in", params={"next": '/me?a="><script>'})
    assert "Continue with GitHub" in page.text
    assert "Continue with Google" in page.text
    assert "₹100" in page.text
    assert "Development sign-in" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    browser.sign_in("github", typed(name) | {"name": "<b>Asha</b>"})
    assert "Hello, &lt;b&gt;Asha&lt;/b&gt;" in browser.get("/sign-in").text


def test_who_is_signed_in_finds_their_orgs_invitations_and_the_way_out_on_the_page(
    new_browser: NewBrowser, apps: tuple[App, App], name: str
) -> None:
    browser, app = new_browser(), apps[0]
    browser.sign_in("github", typed(name))
    team = given_team(app.store, given_person(app.store, f"boss-of-{name}").person, f"org_of_{name}", at=app.clock())
    invitation = given_invitation(
        app.store, team, f"{name}@example.com", by=f"user:usr_boss-of-{name}", seal=app.vault.seal, at=app.clock()
    )
    page = browser.get("/sign-in")
    policy = page.headers["content-security-policy"]
    nonce = re.findall(r'<script nonce="([0-9a-f]{32})">', page.text)
    assert len(nonce) == 1
    assert f"script-src 'nonce-{nonce[0]}'; connect-src 'self';" in policy
    assert "unsafe" not in policy
    [csrf] = re.findall(r'"x-br-csrf": "([^"]+)"', page.text)
    assert csrf == browser.me()["csrf_token"]
    assert re.findall(r'data-post="([^"]+)"', page.text) == [
        f"/me/invitations/{invitation}/accept",
        f"/me/invitations/{invitation}/decline",
        "/auth/logout",
        "/auth/logout?everywhere=true",
    ]
    assert browser.change("POST", f"/me/invitations/{invitation}/accept").status_code == 200
    page = browser.get("/sign-in")
    assert "<strong>Personal</strong>" in page.text
    assert f"<strong>{team.title()}</strong>" in page.text
    assert "You are invited" not in page.text
    assert browser.change("POST", "/auth/logout").status_code == 200
    signed_out = browser.get("/sign-in").text
    assert "<script" not in signed_out
    assert "Sign out" not in signed_out


def test_a_browser_is_told_on_a_page_what_went_wrong(browser: Browser, simulator: Simulated, name: str) -> None:
    simulator.switch(denied=True)
    back = browser.say(browser.begin("github"), typed(name))
    page = browser.come_back(back, headers={"accept": "text/html,*/*"})
    assert page.status_code == 403
    assert "GitHub did not say who you are" in page.text
    assert "Continue with Google" in page.text


def test_a_client_that_tries_too_often_waits_and_others_do_not(
    new_browser: NewBrowser, apps: tuple[App, App], ports: tuple[int, int]
) -> None:
    browser = new_browser(f"http://127.0.0.1:{ports[1]}")

    def tries(address: str) -> list[int]:
        return [browser.get("/auth/github", headers={"x-forwarded-for": address}).status_code for _ in range(6)]

    assert tries("203.0.113.5, 127.0.0.1") == [303] * 4 + [429] * 2
    assert tries("6.6.6.6, 203.0.113.5") == [429] * 6
    assert tries("2001:db8::1") == [303] * 4 + [429] * 2
    assert tries("2001:db8::ffff:2") == [429] * 6
    refused = browser.get("/auth/github/callback?state=s", headers={"x-forwarded-for": "203.0.113.5"})
    assert code_of(refused) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 600


def test_providers_that_are_not_set_up_are_said_to_be_so(tmp_path: Path, apps: tuple[App, App], valkey: str) -> None:
    settings = Settings(home=tmp_path, port=free_port(), google_client_id="id", google_client_secret="secret")
    given = {"database_url": apps[0].database_url, "redis_url": valkey}
    with (
        serving(settings, **given),
        httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", trust_env=False) as http,
    ):
        for path in ("/auth/github", "/auth/github/callback?state=s&code=c"):
            assert code_of(http.get(path)) == (503, "provider_not_configured")
        assert code_of(http.get("/auth/gitlab")) == (404, "not_found")
        page = http.get("/sign-in").text
        assert "GitHub" not in page
        assert "Development" not in page
        assert code_of(http.get("/auth/logout")) == (404, "not_found")
        assert code_of(http.post("/auth/logout")) == (401, "no_session")
