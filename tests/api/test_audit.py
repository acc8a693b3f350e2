"""The audit trail, through the whole application on a real PostgreSQL."""

import csv
import io
from pathlib import Path

import pytest

from adapters.log import load_all_facts
from adapters.settings import Settings
from domain.kernel.events import REGISTER
from projections.audit import AUDITED
from projections.verify import verify
from tests.api.browser import ORIGIN
from tests.api.client import Client
from tests.api.test_people import browser, join, team_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, public_url=ORIGIN)


def test_each_change_is_told_with_who_made_it_from_where_and_what_was_before(client: Client) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team_of(asha)
    join(asha, ravi, "ravi")
    assert asha("PATCH", "/me/members/usr_ravi", {"role": "admin"}).status_code == 200
    made = ravi("POST", "/me/keys", {"name": "=ci", "scope": "full", "budget_inr": 50}).json()
    changed = client("PATCH", f"/me/keys/{made['id']}", made["key"], {"budget_inr": "12.5", "name": "ci"})
    assert changed.status_code == 200, changed.text
    address = {"name": "Acme", "address": ["1 MG Road"], "city": "Pune", "pin": "411001", "state": "27"}
    assert asha("PUT", "/me/billing/address", address).status_code == 200
    assert asha("PUT", "/me/billing/low-balance", {"threshold_inr": 20}).status_code == 200
    assert ravi("DELETE", f"/me/keys/{made['id']}").status_code == 200
    client.project()

    rows = asha("GET", "/me/audit").json()["data"]
    told = [(row["actor_name"], row["action"], row["before"], row["after"]) for row in rows[:3]]
    assert told[0][:2] == ("Ravi", "key_revoked")
    assert (told[0][2], told[0][3]["status"]) == ({"status": "active", "reason": None}, "revoked")
    assert told[1] == ("Asha", "low_balance_set", None, {"threshold_inr": "20"})
    assert told[2][3]["buyer"]["city"] == "Pune"
    by_action = {row["action"]: row for row in rows}
    limits = by_action["key_limits_changed"]
    assert (limits["actor"], limits["actor_name"]) == (f"key:{made['id']}", "ci")
    assert (limits["before"]["monthly_budget_inr"], limits["after"]["monthly_budget_inr"]) == ("50", "12.5")
    assert (by_action["key_renamed"]["before"], by_action["key_renamed"]["after"]) == ({"name": "=ci"}, {"name": "ci"})
    assert (by_action["role_changed"]["before"], by_action["role_changed"]["after"]) == (
        {"role": "member"},
        {"role": "admin"},
    )
    assert by_action["member_invited"]["after"]["email"] == "ravi@example.com"
    assert by_action["member_invited"]["thing"] == by_action["invitation_accepted"]["thing"]
    assert {row["address"] for row in rows} == {"127.0.0.1"}
    assert all(row["agent"].startswith("python-httpx/") for row in rows)
    assert not any("digest" in name for row in rows for name in row["after"])
    assert verify(client.services.database_url).findings == []

    pages, before = [], ""
    while True:
        page = asha("GET", f"/me/audit?limit=3{before}").json()
        pages += page["data"]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert pages == rows
    table = list(csv.DictReader(io.StringIO(asha("GET", "/me/audit?format=csv").text)))
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert asha.code("GET", "/me/audit?before=x") == (400, "invalid_request")


def test_the_trail_is_its_orgs_alone_and_not_for_members(client: Client) -> None:
    asha, ravi = browser(client, "asha"), browser(client, "ravi")
    team_of(asha)
    client.project()
    assert {row["action"] for row in ravi("GET", "/me/audit").json()["data"]} == {
        "org_created",
        "workspace_created",
        "member_added",
    }
    join(asha, ravi, "ravi")
    assert ravi.code("GET", "/me/audit") == (403, "forbidden_role")


NO_CHANGES_OF_ORGS = {
    # of a person alone, who sees them with GET /me/sessions and /me/export
    "accounts.all_sessions_ended.v1",
    "accounts.claimed.v1",
    "accounts.identity_linked.v1",
    "accounts.person_erased.v1",
    "accounts.person_signed_up.v1",
    "accounts.session_ended.v1",
    "accounts.session_org_switched.v1",
    "accounts.session_started.v1",
    "accounts.team_closed.v1",
    "accounts.team_founded.v1",
    "accounts.team_joined.v1",
    # what stands in the trail by another fact of the same transaction
    "accounts.acted.v1",
    "keys.identity_taken.v1",
    # nothing that an org has configured
    "accounts.invitation_mailed.v1",
    "byo.key_checked.v1",
    "keys.ephemeral_key_minted.v1",
    "webhooks.budget_reached.v1",
    "webhooks.delivery_tried.v1",
    "webhooks.redelivery_asked.v1",
    "webhooks.sample_asked.v1",
}


def test_every_fact_that_changes_an_org_is_in_the_trail() -> None:
    load_all_facts()
    contexts = ("accounts.", "byo.", "keys.", "routing.", "webhooks.")
    left_out = {name for name in REGISTER if name.startswith(contexts)} - {fact.NAME for fact in AUDITED}
    assert left_out == NO_CHANGES_OF_ORGS
