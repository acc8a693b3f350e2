"""Persons, their orgs, members and invitations, through the whole application on a real PostgreSQL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.settings import Settings
from api.session import COOKIE, read_cookie
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.ledger.credit import grant_credit
from projections.verify import verify
from tests.api.browser import ORIGIN, signed_in
from tests.api.client import Client
from tests.given import PEPPER, given_key, given_org, given_person, given_session


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, public_url=ORIGIN, people_max=4, teams_max=2)


@dataclass
class Browser:
    """Somebody who is signed in, and follows the cookies that they are sent."""

    client: Client
    person: str
    session: str
    org: str

    def __call__(self, method: str, path: str, json: Any = None) -> httpx.Response:
        reply = self.client(method, path, headers=signed_in(self.person, self.session, self.org), json=json)
        if f"__Host-{COOKIE}" in reply.cookies:
            token = read_cookie(PEPPER, reply.cookies[f"__Host-{COOKIE}"])
            assert token is not None
            assert (token.person, token.session) == (self.person, self.session)
            self.org = token.org
        return reply

    def code(self, method: str, path: str, json: Any = None) -> tuple[int, str]:
        reply = self(method, path, json)
        return reply.status_code, reply.json()["error"]["code"]


def browser(client: Client, name: str) -> Browser:
    app = client.services
    known = given_person(app.store, name, seal=app.vault.seal, at=app.clock())
    session = given_session(app.store, known.person, active=known.home, at=app.clock())
    app.directory.catch_up()
    return Browser(client, known.person, session, known.home)


def team_of(owner: Browser, name: str = "Acme") -> str:
    """A team that the owner founds and looks at, with credit, so that its keys are standard keys."""
    org = str(owner("POST", "/me/orgs", {"name": name}).json()["id"])
    app = owner.client.services
    grant_credit(app.store, org=org, grant="team", amount=rupees(1), reason="test", at=app.clock(), by="test")
    assert owner("POST", "/me/orgs/switch", {"org": org}).status_code == 200
    return org


def join(owner: Browser, guest: Browser, name: str, role: str = "member") -> None:
    """The guest is invited, accepts, and looks at the org."""
    invited = owner("POST", "/me/members", {"email": f"{name}@example.com", "role": role})
    assert invited.status_code == 201, invited.text
    joined = guest("POST", f"/me/invitations/{invited.json()['id']}/accept")
    assert joined.json()["role"] == role
    assert guest("POST", "/me/orgs/switch", {"org": joined.json()["id"]}).status_code == 200


def test_a_new_person_has_an_org_of_their_own_with_a_hundred_rupees(client: Client) -> None:
    asha = browser(client, "asha")
    me = asha("GET", "/me").json()
    assert me["person"] | {"signed_up_at": ""} == {
        "id": "usr_asha",
        "name": "Asha",
        "email": "asha@example.com",
        "providers": ["github"],
        "signed_up_at": "",
    }
    assert (me["org"]["kind"], me["org"]["name"], me["role"], me["key"]) == ("personal", "Personal", "owner", None)
    assert me["limits"] == {"keys": 5, "workspaces": 20, "people": 4, "teams": 2, "requests_per_minute": 120}
    assert client.services.available(asha.org) == 100 * 10**9
    made = asha("POST", "/me/keys", {"name": "mine"}).json()
    by_key = client("GET", "/me", made["key"]).json()
    assert (by_key["person"], by_key["key"]["id"], by_key["role"]) == (None, made["id"], "owner")
    assert by_key["csrf_token"] is None


def test_a_team_is_founded_looked_at_and_deleted(client: Client) -> None:
    asha = browser(client, "asha")
    home = asha.org
    team = team_of(asha, " Acme ")
    assert asha.org == team
    rows = asha("GET", "/me/orgs").json()["data"]
    assert [(row["name"], row["kind"], row["role"], row["active"]) for row in rows] == [
        ("Personal", "personal", "owner", False),
        ("Acme", "team", "owner", True),
    ]
    key = asha("POST", "/me/keys", {"name": "ci"}).json()["key"]
    assert client("GET", "/me/orgs", key).json()["data"][0]["id"] == team
    assert asha("POST", "/me/orgs", {"name": "Two"}).status_code == 201
    assert asha.code("POST", "/me/orgs", {"name": "Three"}) == (400, "org_limit")
    assert asha.code("DELETE", f"/me/orgs/{home}") == (400, "personal_org")
    gone = asha("DELETE", f"/me/orgs/{team}").json()
    assert gone == {"id": team, "deleted": True, "active": home}
    assert asha.org == home
    assert client.code("GET", "/v1/key", key) == (401, "invalid_api_key")
    assert asha.code("DELETE", f"/me/orgs/{team}") == (404, "not_found")
    assert asha.code("POST", "/me/orgs/switch", {"org": team}) == (404, "not_found")
    assert asha("POST", "/me/orgs", {"name": "Three"}).status_code == 201


def test_people_are_invited_join_rise_and_leave(client: Client) -> None:
    asha, ravi, meera = (browser(client, name) for name in ("asha", "ravi", "meera"))
    team = team_of(asha)
    join(asha, ravi, "ravi", "admin")
    pending = ravi("POST", "/me/members", {"email": " Meera@Example.com "}).json()
    assert (pending["email"], pending["role"]) == ("Meera@Example.com", "member")
    assert ravi("GET", "/me/members").json()["pending"] == [pending]
    (waiting,) = meera("GET", "/me/invitations").json()["data"]
    assert (waiting["id"], waiting["org"], waiting["org_name"], waiting["role"]) == (
        pending["id"],
        team,
        "Acme",
        "member",
    )
    assert asha("GET", "/me/invitations").json()["data"] == []
    assert asha.code("POST", f"/me/invitations/{pending['id']}/accept") == (404, "not_found")
    assert meera("POST", f"/me/invitations/{pending['id']}/accept").json()["role"] == "member"
    assert meera("POST", "/me/orgs/switch", {"org": team}).json()["active"] is True

    people = meera("GET", "/me/members").json()
    assert [(row["name"], row["email"], row["role"], row["you"]) for row in people["data"]] == [
        ("Asha", "asha@example.com", "owner", False),
        ("Ravi", "ravi@example.com", "admin", False),
        ("Meera", "meera@example.com", "member", True),
    ]
    assert meera.code("POST", "/me/keys", {"name": "mine"}) == (403, "forbidden_role")
    assert ravi("PATCH", "/me/members/usr_meera", {"role": "admin"}).json()["role"] == "admin"
    key = meera("POST", "/me/keys", {"name": "mine"}).json()["key"]
    assert ravi.code("PATCH", "/me/members/usr_asha", {"role": "member"}) == (403, "forbidden_role")
    assert asha.code("DELETE", "/me/members/usr_asha") == (409, "last_owner")
    assert meera("DELETE", "/me/members/usr_meera").status_code == 200
    assert meera.code("GET", "/me/members") == (403, "forbidden_role")
    assert meera("GET", "/me").json()["org"] is None
    assert client.code("GET", "/me/keys", key) == (403, "forbidden_role"), "the key has lost what its minter lost"
    assert client("GET", "/v1/key", key).status_code == 200, "it still calls models"
    assert verify(client.services.database_url).findings == []


def test_invitations_are_withdrawn_declined_and_counted(client: Client) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team_of(asha)
    first = asha("POST", "/me/members", {"email": "ravi@example.com"}).json()["id"]
    assert ravi("POST", f"/me/invitations/{first}/decline").json() == {"id": first, "declined": True}
    assert ravi.code("POST", f"/me/invitations/{first}/decline") == (404, "not_found")
    second = asha("POST", "/me/members", {"email": "ravi@example.com"}).json()["id"]
    assert asha("DELETE", f"/me/members/pending/{second}").json() == {"id": second, "deleted": True}
    assert asha.code("DELETE", f"/me/members/pending/{second}") == (404, "not_found")
    assert ravi("GET", "/me/invitations").json()["data"] == []
    for number in range(3):
        assert asha("POST", "/me/members", {"email": f"p{number}@example.com"}).status_code == 201
    assert asha.code("POST", "/me/members", {"email": "p9@example.com"}) == (409, "member_limit")


@pytest.mark.parametrize(
    "email", ["", "asha", "@x", "a@", "a@b@c", "a b@c.d", "a@b.c, d@e.f", "x" * 251 + "@b.c", "a\n@b"]
)
def test_what_is_no_address_is_not_invited(client: Client, email: str) -> None:
    asha = browser(client, "asha")
    team_of(asha)
    assert asha.code("POST", "/me/members", {"email": email}) == (400, "invalid_request")


def test_a_personal_org_invites_nobody(client: Client) -> None:
    asha = browser(client, "asha")
    assert asha.code("POST", "/me/members", {"email": "ravi@example.com"}) == (400, "personal_org")


def test_an_operators_org_takes_its_first_person_as_owner(client: Client) -> None:
    """An org that was made at the terminal has a key and nobody in it."""
    app = client.services
    given_org(app.store, "org_op", at=app.clock())
    key = given_key(app.store, "org_op", terms=KeyTerms(name="first"), at=app.clock()).secret
    ravi = browser(client, "ravi")
    assert client.code("POST", "/me/members", key, {"email": "ravi@example.com"}) == (409, "last_owner")
    invited = client("POST", "/me/members", key, {"email": "ravi@example.com", "role": "owner"}).json()
    assert ravi("POST", f"/me/invitations/{invited['id']}/accept").json()["role"] == "owner"
    assert client("GET", "/me/members", key).json()["data"][0]["you"] is False


def test_what_is_anothers_org_is_not_there(client: Client) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team = team_of(asha)
    pending = asha("POST", "/me/members", {"email": "x@example.com"}).json()["id"]
    team_of(ravi, "Other")
    assert ravi.code("DELETE", f"/me/orgs/{team}") == (404, "not_found")
    assert ravi.code("POST", "/me/orgs/switch", {"org": team}) == (404, "not_found")
    assert ravi.code("PATCH", "/me/members/usr_asha", {"role": "member"}) == (404, "not_found")
    assert ravi.code("DELETE", "/me/members/usr_asha") == (404, "not_found")
    assert ravi.code("DELETE", f"/me/members/pending/{pending}") == (404, "not_found")
