"""The export of what is kept about a person, and its end, through the whole application on a real PostgreSQL."""

from pathlib import Path

import pytest

from adapters.settings import Settings
from domain.accounts.sign_in import sign_in
from domain.kernel.errors import NotFound
from domain.payments.billing import books_subject
from projections.verify import verify
from tests.api.browser import ORIGIN
from tests.api.client import Client
from tests.api.test_people import browser, join, team_of
from tests.given import proof


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, public_url=ORIGIN)


def test_the_export_has_what_is_kept_in_clear(client: Client) -> None:
    asha = browser(client, "asha")
    asha("POST", "/me/keys", {"name": "mine"})
    client.project()
    kept = asha("GET", "/me/export").json()
    signed_up, linked = kept["facts"][:2]
    assert (signed_up["name"], signed_up["fields"]["name"]) == ("accounts.person_signed_up.v1", "Asha")
    assert (linked["fields"]["login"], linked["fields"]["email"]) == ("asha", "asha@example.com")
    assert [(each["org"], each["role"]) for each in kept["memberships"]] == [("org_home_asha", "owner")]
    assert kept["calls"][0]["address"] == "127.0.0.1"
    assert kept["billing_address"] is None


def test_an_erased_person_is_gone_and_the_books_are_as_they_were(client: Client) -> None:
    app = client.services
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    home = ravi.org
    team_of(asha)
    key = ravi("POST", "/me/keys", {"name": "mine"}).json()["key"]
    buyer = app.vault.seal(books_subject(home), "a buyer")
    join(asha, ravi, "ravi", "admin")
    elsewhere = browser(client, "ravi")
    balance = app.available(home)
    client.project()
    assert ravi.code("DELETE", "/me", {"confirm": "asha@example.com"}) == (400, "invalid_request")
    assert asha.code("DELETE", "/me", {"confirm": "asha@example.com"}) == (409, "last_owner")
    assert client.code("DELETE", "/me", key, {"confirm": "ravi@example.com"}) == (403, "forbidden_scope")

    known = app.directory.directory.person("usr_ravi")
    assert known is not None
    gone = ravi("DELETE", "/me", {"confirm": " Ravi@Example.com"})
    assert gone.json() == {"id": "usr_ravi", "erased": True}
    for window in (ravi, elsewhere):
        assert window.code("GET", "/me") == (401, "no_session")
    assert client.code("GET", "/v1/key", key) == (401, "invalid_api_key")
    assert [row["id"] for row in asha("GET", "/me/members").json()["data"]] == ["usr_asha"]
    assert app.vault.open("user:usr_ravi", known.name) is None
    assert app.vault.open(home, "v1.") is None
    assert app.vault.open(books_subject(home), buyer) == "a buyer"
    assert app.available(home) == balance
    client.project()
    assert asha("GET", "/me/audit").json()["data"][0]["actor_name"] is None
    assert verify(app.database_url).findings == []

    app.erase_person("usr_ravi", by="operator")  # a repeat does no harm
    with pytest.raises(NotFound):
        app.erase_person("usr_nobody", by="operator")


def test_nobody_gets_the_sign_up_credit_again_by_being_erased(client: Client) -> None:
    app = client.services
    ravi = browser(client, "ravi")
    ravi("DELETE", "/me", {"confirm": "ravi@example.com"})
    ids = {"person": "usr_again", "org": "org_again", "workspace": "ws_again"}
    again = sign_in(app.store, app.vault.seal, proof("ravi"), **ids, credit=100 * 10**9, at=app.clock())
    assert (again.person, again.new) == ("usr_again", True)
    assert app.available("org_again") == 0
