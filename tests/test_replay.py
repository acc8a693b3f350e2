"""Every projection: what a replay gives is what was there live, wherever the batches ended, and is the truth."""

from collections import Counter, defaultdict

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.ledger.account import Account
from domain.ledger.events import HoldExpired, HoldReleased, RequestRefused, RequestSettled
from domain.ledger.guards import Guards, evolve
from projections.base import find_all
from projections.runner import Copy, Runner, head_of
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import START, STEPS, append, play

ALL = list(find_all().values())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ends=st.lists(st.integers(1, 150), max_size=12))
def test_tables_do_not_depend_on_where_batches_end(database_url: str, steps: list, ends: list[int]) -> None:
    with history_in(database_url, play(steps)) as (cursor, before, head):
        stops = sorted({before, *(min(before + end, head) for end in ends), head})
        live = filled(cursor, ALL, "__live", stops=stops)
        replayed = filled(cursor, ALL, "__again", stops=[before, head], indexes=False)
        assert sums_of(cursor, live) == sums_of(cursor, replayed)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ends=st.lists(st.integers(1, 150), max_size=5))
def test_tables_say_what_the_ledger_decided_by(database_url: str, steps: list, ends: list[int]) -> None:
    lines = play(steps)
    guards = Guards()
    accounts, spent, endings = defaultdict(Account), defaultdict(int), Counter()
    for stream, event in lines:
        evolve(guards, stream, event)
        if stream.startswith("account:"):
            accounts[event.org] = accounts[event.org].evolve(stream, event)
        match event:
            case RequestSettled():
                spent[event.org] += event.cost
                endings[event.org] += 1
                endings[event.org, "settled"] += 1
            case HoldReleased() | HoldExpired() | RequestRefused():
                endings[event.org] += 1
    with history_in(database_url, lines) as (cursor, before, head):
        stops = sorted({before, *(min(before + end, head) for end in ends), head})
        filled(cursor, ALL, "__live", stops=stops).use(cursor)
        for org, balance in guards.balances.items():
            withheld = accounts[org].withheld_amount
            assert accounts[org].when_spent(spent[org]).left == balance.available + balance.held
            cursor.execute("select credit - spent, spent, held, withheld from balances where org = %s", [org])
            shown = balance.available + balance.held + withheld
            assert cursor.fetchone() == (shown, spent[org], balance.held, withheld)
            cursor.execute(
                "select coalesce(sum(calls), 0), coalesce(sum(spent), 0) from spent_days where org = %s", [org]
            )
            assert cursor.fetchone() == (endings[org, "settled"], spent[org])
            cursor.execute("select lot from expiring_lots where org = %s", [org])
            assert {lot for (lot,) in cursor} == {
                lot.id for lot in accounts[org].lots.values() if lot.expires is not None and not lot.closed
            }
            cursor.execute("select count(*), coalesce(sum(cost), 0) from activity where org = %s", [org])
            assert cursor.fetchone() == (endings[org], spent[org])
            cursor.execute("select sum(requests), coalesce(sum(cost), 0) from usage where org = %s", [org])
            assert cursor.fetchone() == (endings[org] or None, spent[org])
            cursor.execute("select coalesce(sum(held), 0) from requests_open where org = %s", [org])
            assert cursor.fetchone() == (balance.held,)
        for scope, allowance in guards.allowances.items():
            cursor.execute("select used, held from budgets where scope = %s and month = %s", [scope, allowance.month])
            assert (cursor.fetchone() or (0, 0)) == (allowance.used, allowance.held)
        cursor.execute("select request, held from requests_open")
        assert dict(cursor.fetchall()) == {request: hold.amount for request, hold in guards.holds.items()}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, moment=st.integers(0, 6_000_000_000))
def test_a_replay_as_of_a_moment_is_that_of_the_events_up_to_it(database_url: str, steps: list, moment: int) -> None:
    lines = play(steps)
    as_of = START + moment
    with history_in(database_url, lines) as (cursor, before, head):
        cut = sums_of(cursor, filled(cursor, ALL, "__cut", stops=[before, head], as_of=as_of, indexes=False))
    with history_in(database_url, [line for line in lines if line[1].at <= as_of]) as (cursor, before, head):
        # Other positions, so the tables that hold some are left out.
        short = sums_of(cursor, filled(cursor, ALL, "__short", stops=[before, head], indexes=False))
    same = [
        name for name in cut if not name.startswith(("activity.", "requests.", "balances.ledger", "ledger.", "audit."))
    ]
    assert {name: cut[name] for name in same} == {name: short[name] for name in same}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_rebuild_gives_the_tables_that_were_there(database_url: str, processes: int) -> None:
    steps = [(kind, 7 * n % 1000, 13 * n % 1000) for n in range(40) for kind in ("hold", "settle", "hold", "extend")]
    runner = Runner(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection, connection.cursor() as cursor:
        append(connection, play(steps))
        runner.prepare()
        runner.step(connection)
        before = sums_of(cursor, Copy(ALL))
        assert before["activity.activity"][0] > 30
        told: list[tuple[int, int]] = []
        runner.rebuild(processes=processes, progress=lambda done, of: told.append((done, of)))
        assert sums_of(cursor, Copy(ALL)) == before
        assert told[-1] == (head_of(cursor), head_of(cursor))
        cursor.execute("select nspname from pg_namespace where nspname like 'view\\_%'")
        assert sorted(name for (name,) in cursor) == sorted(item.schema for item in ALL)
