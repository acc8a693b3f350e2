"""The control path's store on a real PostgreSQL: whole changes, true to what they were decided on, guards included."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader
from adapters.postgres import LOG_LOCK, connect
from domain.accounts.events import OrgCreated, WorkspaceRenamed
from domain.accounts.org import Org
from domain.accounts.service import create_workspace, delete_workspace, update_workspace
from domain.kernel.errors import Invalid, NotFound, Unavailable
from domain.kernel.money import rupees
from domain.kernel.store import Change, Decision
from domain.keys.events import KeyMinted
from domain.keys.service import KeyTerms, KeyWishes, update_key
from domain.ledger.credit import grant_credit
from tests.given import NOON, given_key, given_org


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_facts_are_stored_under_their_names_for_life_and_stamped(
    store: EventStore, log: LogReader, database_url: str
) -> None:
    given_org(store, "org_a", inr=0)
    (fact,) = log.stream("org:org_a")
    assert fact.event == OrgCreated(at=NOON, by="test", name="Org_A")
    assert (fact.position, fact.version) == (1, 1)
    stored = rows(database_url, "select topic, convert_from(state, 'UTF8')::json ->> 'name' from events")
    assert stored == [("accounts.org_created.v1", "Org_A"), ("accounts.workspace_created.v1", "Default")]


def test_the_guards_change_in_the_same_transaction(store: EventStore, database_url: str) -> None:
    given_org(store, "org_a", inr=100)
    key = given_key(store, "org_a", terms=KeyTerms(name="k", monthly_budget=5, daily_limit=7))
    assert rows(database_url, "select * from balance") == [("org_a", rupees(100), 0, 0)]
    allowances = "select scope, budget, daily from allowance order by 1"
    assert rows(database_url, allowances) == [(key.key, 5, 7), ("ws_org_a", None, None)]

    update_key(store, org="org_a", key=key.key, wishes=KeyWishes(monthly_budget=None, daily_limit=9), at=NOON, by="t")
    update_workspace(store, org="org_a", workspace="ws_org_a", monthly_budget=11, at=NOON, by="t")
    assert rows(database_url, allowances) == [(key.key, None, 9), ("ws_org_a", 11, None)]


def test_a_failing_guard_takes_its_facts_with_it(store: EventStore, log: LogReader, database_url: str) -> None:
    given_org(store)
    rows(database_url, "insert into allowance (scope) values ('key_taken') returning scope")
    with pytest.raises(Unavailable):
        given_key(store, "org_a", key="key_taken")
    assert log.stream("key:key_taken") == []


def test_a_look_makes_nobody_wait_and_waits_for_nobody(store: EventStore, database_url: str) -> None:
    given_org(store, "org_a", inr=100)
    with connect(database_url) as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (LOG_LOCK,))
        seen = store.look(lambda read: (read.count("account:org_a"), read.balance("org_a").available))
    assert seen == (1, rupees(100))
    with pytest.raises(NotFound):
        store.look(lambda read: read.balance("org_none"))


def test_a_repeated_grant_is_harmless(store: EventStore, database_url: str) -> None:
    given_org(store, "org_a", inr=0)
    for expected in (True, False, False):
        position = grant_credit(store, org="org_a", grant="g1", amount=5, reason="r", at=NOON, by="t")
        assert (position is not None) is expected
    assert rows(database_url, "select available from balance") == [(5,)]


def test_the_same_grant_made_at_once_counts_once(store: EventStore, database_url: str) -> None:
    given_org(store, "org_a", inr=0)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(grant_credit, store, org="org_a", grant="g", amount=5, reason="r", at=NOON, by="t")
    assert rows(database_url, "select available from balance") == [(5,)]


def test_credit_for_an_unknown_org_is_refused(store: EventStore, log: LogReader) -> None:
    with pytest.raises(NotFound):
        grant_credit(store, org="org_none", grant="g", amount=5, reason="r", at=NOON, by="t")
    assert log.head() == 0


def test_of_many_keys_minted_at_once_only_as_many_as_allowed_are(store: EventStore, database_url: str) -> None:
    given_org(store)
    refusals = []

    def mint(number: int) -> None:
        try:
            given_key(store, "org_a", terms=KeyTerms(name=f"key {number}"))
        except Invalid as refusal:
            refusals.append(refusal.code)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(mint, range(12)))
    assert refusals == ["key_limit"] * 7
    minted = f"select count(*) from events where topic = '{KeyMinted.NAME}'"
    assert rows(database_url, minted) == [(5,)]


def test_a_name_is_given_once_however_many_ask_at_once(store: EventStore) -> None:
    given_org(store)
    codes: list[str] = []

    def mint(_: int) -> None:
        try:
            given_key(store, "org_a", terms=KeyTerms(name="same"))
            codes.append("minted")
        except Invalid as refusal:
            codes.append(refusal.code)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(mint, range(6)))
    assert sorted(codes) == ["duplicate_key_name"] * 5 + ["minted"]


def test_deleting_a_workspace_moves_its_keys_in_the_same_transaction(store: EventStore, log: LogReader) -> None:
    given_org(store)
    create_workspace(
        store,
        org="org_a",
        workspace="ws_x",
        name="X",
        monthly_budget=None,
        workspaces_max=20,
        at=NOON,
        by="t",
    )
    key = given_key(store, "org_a", terms=KeyTerms(name="k", workspace="ws_x"))
    before = log.head()
    delete_workspace(store, org="org_a", workspace="ws_x", at=NOON, by="t")
    names = [name for _, _, _, name, _ in log.after(before, limit=10)]
    assert names == ["keys.key_moved.v1", "accounts.workspace_deleted.v1"]
    assert log.stream(f"key:{key.key}")[-1].event.workspace == "ws_org_a"


def test_a_decision_is_made_again_when_its_org_moved_on_meanwhile(store: EventStore) -> None:
    given_org(store)
    seen: list[int] = []

    def decide(state: Org) -> Decision:
        seen.append(len(state.workspaces))
        if len(seen) == 1:
            thread = threading.Thread(target=make_workspace)
            thread.start()
            thread.join()
        return [("workspace:ws_org_a", WorkspaceRenamed(org="org_a", name="again"))]

    def make_workspace() -> None:
        create_workspace(
            store,
            org="org_a",
            workspace="ws_y",
            name="Y",
            monthly_budget=None,
            workspaces_max=20,
            at=NOON,
            by="t",
        )

    store.change(Change("org:org_a", Org(), decide), at=NOON, by="t")
    assert seen == [1, 2]


def test_an_orgs_history_is_its_own_and_nobody_elses(store: EventStore, log: LogReader) -> None:
    for org in ("org_a", "org_b"):
        given_org(store, org)
        given_key(store, org)
    streams = {fact.stream.partition(":")[0] for fact in log.org("org_a")}
    assert streams == {"org", "workspace", "key"}
    assert {getattr(fact.event, "org", "org_a") for fact in log.org("org_a")} == {"org_a"}


def test_an_orgs_history_is_found_by_its_index_whatever_has_grown(store: EventStore, database_url: str) -> None:
    given_org(store)
    with connect(database_url) as connection:
        connection.execute("insert into events select 'request:' || n, 1, 'x', '{}' from generate_series(1, 20000) n")
        connection.execute("analyze events")
        found = connection.execute(
            "explain select 1 from events where org_of(originator_id, state) = %s and notification_id > %s"
            " and is_configuration(originator_id)",
            ["org_a", 0],
        ).fetchall()
        called = connection.execute("explain verbose select is_configuration(originator_id) from events").fetchall()
    assert "events_org_idx" in str(found)
    assert "star:" in str(called)
    assert "is_configuration" not in str(called), "every append would pay for a call"


def test_readers_meet_positions_in_order_while_many_write(store: EventStore, log: LogReader) -> None:
    for number in range(4):
        given_org(store, f"org_{number}", inr=0)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.extend(row[0] for row in log.after(seen[-1] if seen else 0, limit=1000))

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(4) as threads:
        for number in range(80):
            org = f"org_{number % 4}"
            threads.submit(grant_credit, store, org=org, grant=f"g{number}", amount=1, reason="r", at=NOON, by="t")
    done.set()
    reader.join()
    seen.extend(row[0] for row in log.after(seen[-1], limit=1000))
    assert seen == [row[0] for row in log.after(0, limit=1000)]
    assert len(seen) == 8 + 80


def test_the_log_cannot_be_rewritten(store: EventStore, database_url: str) -> None:
    given_org(store)
    for sql in ("update events set topic = 'x'", "delete from events", "truncate events"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            rows(database_url, sql)


def test_without_a_database_the_ledger_is_unavailable(log: LogReader, database_url: str) -> None:
    given_org(store := EventStore(database_url, log))
    store.close()
    nowhere = EventStore("postgresql://127.0.0.1:1/none", log)
    with pytest.raises(Unavailable) as refused:
        given_org(nowhere, "org_b")
    assert refused.value.code == "ledger_unavailable"
