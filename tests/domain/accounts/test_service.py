"""Orgs and workspaces: given what happened, when somebody asks, then these facts, or this refusal."""

import pytest

from domain.accounts.events import WorkspaceDeleted, WorkspaceRenamed
from domain.accounts.org import Org
from domain.accounts.service import create_org, create_workspace, delete_workspace, update_workspace
from domain.kernel.errors import Invalid, NotFound, Refusal
from domain.kernel.money import rupees
from domain.kernel.store import fold
from domain.keys.events import KeyMoved
from domain.keys.service import KeyTerms, revoke_key
from domain.ledger.credit import GRANT_MAX, grant_credit
from tests.given import NOON, given_key, given_org, given_workspace
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    given_org(store)
    return store


def refusal(code: str) -> "pytest.RaisesExc[Refusal]":
    return pytest.RaisesExc(Refusal, check=lambda refused: refused.code == code)


def test_an_org_begins_with_a_default_workspace_and_repeats_are_harmless(store: MemoryStore) -> None:
    assert store.names() == ["OrgCreated", "WorkspaceCreated", "CreditGranted"]
    given_org(store)
    assert store.names() == ["OrgCreated", "WorkspaceCreated", "CreditGranted"]
    org = fold(Org(), store.facts)
    assert (org.id, org.created, org.default_workspace.id) == ("org_a", NOON, "ws_org_a")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "line\nbreak", "nul\0"])
def test_a_name_is_something_that_can_be_read(store: MemoryStore, name: str) -> None:
    with pytest.raises(Invalid):
        create_org(store, org="org_b", workspace="ws_b", name=name, sealed_email="", at=NOON, by="t")
    with pytest.raises(Invalid):
        given_workspace(store, "org_a", "ws_x", name=name or " ")
    assert len(store.facts) == 3


def test_only_what_differs_becomes_a_fact(store: MemoryStore) -> None:
    given_workspace(store, "org_a", "ws_x", name="X")
    before = len(store.facts)
    update_workspace(store, org="org_a", workspace="ws_x", name=" X ", monthly_budget=None, at=NOON, by="t")
    assert store.names(before) == []
    update_workspace(store, org="org_a", workspace="ws_x", name="Y", monthly_budget=rupees(3), at=NOON, by="t")
    assert store.names(before) == ["WorkspaceRenamed", "WorkspaceBudgetChanged"]
    assert store.facts[before] == ("workspace:ws_x", WorkspaceRenamed(org="org_a", name="Y", at=NOON, by="t"))


def test_a_deleted_workspace_hands_over_its_live_keys_and_frees_its_name(store: MemoryStore) -> None:
    given_workspace(store, "org_a", "ws_x", name="X")
    live = given_key(store, "org_a", key="key_live", terms=KeyTerms(name="live", workspace="ws_x"))
    dead = given_key(store, "org_a", key="key_dead", terms=KeyTerms(name="dead", workspace="ws_x"))
    revoke_key(store, org="org_a", key=dead.key, reason="", at=NOON, by="t")
    before = len(store.facts)
    delete_workspace(store, org="org_a", workspace="ws_x", at=NOON, by="t")
    assert store.facts[before:] == [
        (f"key:{live.key}", KeyMoved(org="org_a", workspace="ws_org_a", at=NOON, by="t")),
        ("workspace:ws_x", WorkspaceDeleted(org="org_a", at=NOON, by="t")),
    ]
    given_workspace(store, "org_a", "ws_y", name="X")
    with refusal("not_found"):
        given_key(store, "org_a", terms=KeyTerms(name="late", workspace="ws_x"))


def test_what_is_anothers_is_not_there(store: MemoryStore) -> None:
    given_org(store, "org_b")
    with pytest.raises(NotFound):
        update_workspace(store, org="org_b", workspace="ws_org_a", name="mine", at=NOON, by="t")
    with pytest.raises(NotFound):
        create_workspace(
            store,
            org="org_none",
            workspace="ws_x",
            name="x",
            monthly_budget=None,
            workspaces_max=20,
            at=NOON,
            by="t",
        )


@pytest.mark.parametrize("amount", [0, -1, GRANT_MAX + 1])
def test_credit_is_more_than_nothing_and_less_than_absurd(store: MemoryStore, amount: int) -> None:
    with refusal("invalid_amount"):
        grant_credit(store, org="org_a", grant="g", amount=amount, reason="r", at=NOON, by="t")


def test_a_grant_is_known_by_its_id_whatever_its_amount(store: MemoryStore) -> None:
    def grant(amount: int) -> int | None:
        return grant_credit(store, org="org_a", grant="g", amount=amount, reason="r", at=NOON, by="t")

    assert grant(5) is not None
    assert grant(7) is None
