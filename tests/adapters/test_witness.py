"""From where a change came is on record beside it: for people and keys, and for what orgs have configured alone."""

from collections.abc import Iterator

import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader, recorded
from adapters.witness import Witness
from domain.accounts.events import Acted
from domain.accounts.service import create_workspace, delete_workspace
from domain.accounts.sign_in import end_all_sessions
from domain.kernel.errors import NotFound
from domain.keys.service import KeyTerms
from tests.given import NOON, given_key, given_person, given_session, seal_openly


@pytest.fixture
def plain(database_url: str, log: LogReader) -> Iterator[EventStore]:
    store = EventStore(database_url, log)
    given_person(store)
    yield store
    store.close()


@pytest.fixture
def store(plain: EventStore) -> EventStore:
    ids = iter(range(100))
    return plain.witnessed(Witness(seal_openly, lambda kind: f"{kind}_{next(ids)}", "192.0.2.1", "curl"))


def acts(log: LogReader) -> list[tuple[list[str], Acted]]:
    """Each with the streams of the facts that it is about."""
    facts = recorded(log.after(0, limit=1_000))
    return [
        ([about.stream for about in facts[place - fact.event.facts : place]], fact.event)
        for place, fact in enumerate(facts)
        if isinstance(fact.event, Acted)
    ]


def test_one_record_stands_right_behind_all_facts_of_a_change(log: LogReader, store: EventStore) -> None:
    org = "org_home_asha"
    create_workspace(
        store, org=org, workspace="ws_2", name="2", monthly_budget=None, workspaces_max=9, at=NOON, by="user:usr_asha"
    )
    key = given_key(store, org, key="key_1", terms=KeyTerms(name="k", workspace="ws_2"), by="user:usr_asha")
    delete_workspace(store, org=org, workspace="ws_2", at=NOON, by=f"key:{key.key}")
    found = acts(log)
    assert [streams for streams, _ in found] == [
        ["workspace:ws_2"],
        ["key:key_1"],
        ["key:key_1", "workspace:ws_2"],
    ]
    by_person, _, by_key = (act for _, act in found)
    assert (by_person.subject, by_person.address) == ("user:usr_asha", "sealed for user:usr_asha: 192.0.2.1")
    assert (by_key.subject, by_key.agent) == (org, f"sealed for {org}: curl")
    assert (by_key.by, by_key.at) == ("key:key_1", NOON)


def test_nothing_is_recorded_of_what_did_not_change_or_is_nobodys_call(
    log: LogReader, plain: EventStore, store: EventStore
) -> None:
    with pytest.raises(NotFound):
        delete_workspace(store, org="org_home_asha", workspace="ws_nobody", at=NOON, by="user:usr_asha")
    given_key(store, "org_home_asha", by="operator")
    given_key(plain, "org_home_asha", by="user:usr_asha")
    given_session(store, "usr_asha", active="org_home_asha")
    end_all_sessions(store, person="usr_asha", at=NOON)
    assert acts(log) == []
