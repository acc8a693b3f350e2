"""An org's money as it is shown: at every moment what a replay of the log gives, and every month adds up."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, count

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.accounts.events import OrgCreated
from domain.kernel.clock import DAY, IST_OFFSET, ist_day, ist_month
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
    RequestSettled,
)
from domain.ledger.statement import Statement, days_of_month
from domain.payments.events import ChargebackOpened, RefundRequested, Tax
from projections.balances import balance_as_of, balance_of, lots_due, money_events, statement_of
from projections.base import Connection
from projections.runner import Runner
from tests.projections.history import START, STEPS, Line, append, play

ORGS = ("org0", "org1", "org2")
ACCOUNT_STEPS = ("promo", "add", "lapse", "withhold", "give_back", "withdraw", "grant")
BUSY = [
    (kind, 7 * n % 1000, 13 * n % 1000)
    for n in range(30)
    for kind in ("hold", "settle", "hold", "extend", ACCOUNT_STEPS[n % len(ACCOUNT_STEPS)])
]
WITH_GAPS = st.lists(st.one_of(STEPS, st.just([("wait", 900, 0)] * 4)), max_size=4).map(
    lambda parts: [*chain.from_iterable(parts)]
)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def project(url: str, connection: Connection) -> None:
    runner = Runner(url)
    runner.prepare()
    runner.step(connection)


def moved(event: Event) -> int:
    """What an event did to the balance, told once more and without the ledger's own code."""
    match event:
        case CreditGranted() | CreditAdded():
            return event.amount
        case CreditExpired() | CreditWithdrawn():
            return -event.amount
        case RequestSettled():
            return -event.cost
        case _:
            return 0


def of_org(lines: list[Line], org: str) -> list[Line]:
    return [line for line in lines if getattr(line[1], "org", None) == org]


@pytest.fixture(scope="module")
def shared_database(new_database: Callable[..., str], migrated_template: str) -> str:
    """One for all examples of a test, each with orgs of its own: a statement wants a transaction to itself."""
    url = new_database(template=migrated_template)
    Runner(url).prepare()
    return url


EXAMPLES = count()


# Balances and lines


def test_the_balance_at_any_moment_is_what_a_replay_to_it_gives(
    database_url: str, connection: psycopg.Connection
) -> None:
    lines = play([*BUSY, ("wait", 400, 0), *BUSY])
    append(connection, lines)
    project(database_url, connection)
    last = max(event.at for _, event in lines)
    moments = [START - 1, *(START + n * (last - START) // 12 for n in range(13)), last + DAY]
    moments += [lines[len(lines) // 2][1].at, lines[len(lines) // 2][1].at - 1]
    moments += [event.at for _, event in lines if isinstance(event, CreditWithheld | CreditExpired)][:6]
    for moment in moments:
        replayed = {row["org"]: row for row in Runner(database_url).replay("balances", as_of=moment)["balances"]}
        for org in ORGS:
            row = replayed.get(org, {"credit": 0, "spent": 0, "held": 0, "withheld": 0})
            balance = row["credit"] - row["spent"]
            assert balance_as_of(connection, org, at=moment) == {
                "balance": balance,
                "held": row["held"],
                "withheld": row["withheld"],
                "available": balance - row["held"] - row["withheld"],
                "spent": row["spent"],
            }
            assert balance == sum(moved(event) for _, event in of_org(lines, org) if event.at <= moment)
    for org in ORGS:
        now = balance_of(connection, org)
        assert now is not None
        assert now.pop("position") == len(lines)
        assert balance_as_of(connection, org, at=last) == now


@settings(max_examples=30)
@given(steps=WITH_GAPS, shares=st.lists(st.integers(0, 10_000), min_size=3, max_size=6), picks=st.lists(st.integers(0)))
def test_the_balance_at_random_moments_is_that_of_the_events_up_to_them(
    shared_database: str, steps: list, shares: list[int], picks: list[int]
) -> None:
    prefix = f"{next(EXAMPLES)}:"
    lines = play(steps, prefix=prefix)
    length = max(event.at for _, event in lines) - START
    moments = [START + length * share // 10_000 for share in shares]
    moments += [lines[pick % len(lines)][1].at for pick in picks]
    with psycopg.connect(shared_database, autocommit=True) as connection:
        append(connection, lines)
        Runner(shared_database).step(connection)
        for org in (f"{prefix}{org}" for org in ORGS):
            for moment in moments:
                facts = [event for _, event in of_org(lines, org) if event.at <= moment]
                shown = balance_as_of(connection, org, at=moment)
                assert shown["balance"] == sum(map(moved, facts))
                assert shown["withheld"] == sum(map(set_aside, facts))
                assert shown["spent"] == sum(event.cost for event in facts if isinstance(event, RequestSettled))
                listed = money_events(connection, org, at=moment, limit=1_000)
                assert sum(row["amount"] for row in listed) - shown["spent"] == shown["balance"]


def set_aside(event: Event) -> int:
    match event:
        case CreditWithheld():
            return event.amount
        case CreditReturned() | CreditWithdrawn():
            return -event.amount
        case _:
            return 0


def test_the_balance_after_each_line_is_that_of_its_place_in_the_log(
    database_url: str, connection: psycopg.Connection
) -> None:
    lines = play(BUSY)
    append(connection, lines)
    project(database_url, connection)
    for org in ORGS:
        sums = accumulate(moved(event) if getattr(event, "org", None) == org else 0 for _, event in lines)
        expected = {
            position: (moved(event), balance)
            for position, ((stream, event), balance) in enumerate(zip(lines, sums, strict=True), 1)
            if stream == f"account:{org}" and moved(event)
        }
        rows = money_events(connection, org, at=2**62, limit=1_000)
        assert {row["id"]: (row["amount"], row["balance"]) for row in rows} == expected
        assert [row["id"] for row in rows] == sorted(expected, reverse=True)
        assert min(row["balance"] for row in rows) >= 0
        paged, before = [], None
        while page := money_events(connection, org, at=2**62, limit=2, before=before):
            paged += page
            before = page[-1]["id"]
        assert paged == rows


def test_lines_say_what_they_were_and_which_payment_was_behind_them(
    database_url: str, connection: psycopg.Connection
) -> None:
    account, payments, tax = "account:a", "payment:order_1", Tax(2_000, 18, igst=360)
    refund = RefundRequested(at=6, org="a", refund="rf_1", payment="pay_1", credit=200, tax=tax, reason="no use")
    parts = {"pay_1": 200, "promo:TEN": 50}
    chargeback = ChargebackOpened(at=8, org="a", chargeback="cb_1", payment="pay_2", amount_paise=7, withheld=70)
    append(
        connection,
        [
            ("org:a", OrgCreated(at=1, name="A")),
            (account, CreditGranted(at=2, org="a", grant="signup", amount=100, reason="Sign-up credit", expires=50)),
            (account, CreditGranted(at=3, org="a", grant="g1", amount=10, reason="thanks\0" + "x" * 900)),
            (account, CreditAdded(at=4, org="a", payment="pay_1", order="order_1", amount=500)),
            (account, CreditGranted(at=4, org="a", grant="promo:TEN", amount=50, reason="TEN", payment="pay_1")),
            (account, CreditAdded(at=5, org="a", payment="pay_2", order="order_2", amount=70)),
            (payments, refund),
            (account, CreditWithheld(at=6, org="a", reference="rf_1", amount=250, parts=parts)),
            (account, CreditWithdrawn(at=7, org="a", reference="rf_1", amount=250)),
            (payments, chargeback),
            (account, CreditWithheld(at=8, org="a", reference="cb_1", amount=70, parts={"pay_2": 70})),
            (account, CreditReturned(at=9, org="a", reference="cb_1", amount=70)),
            (payments, chargeback),
            (account, CreditWithheld(at=10, org="a", reference="cb_1", amount=70, parts={"pay_2": 70})),
            (account, CreditWithdrawn(at=11, org="a", reference="cb_1", amount=70)),
            (account, CreditExpired(at=60, org="a", lot="signup", amount=100, left=0)),
            (account, CreditExpired(at=61, org="a", lot="signup", amount=0, left=0)),
        ],
    )  # fmt: skip
    project(database_url, connection)
    rows = [
        (row["type"], row["amount"], row["payment"], row["note"][:22], row["balance"])
        for row in reversed(money_events(connection, "a", at=100, limit=100))
    ]
    assert rows == [
        ("promo", 100, "", "Sign-up credit", 100),
        ("adjustment", 10, "", "thanks" + "x" * 16, 110),
        ("topup", 500, "pay_1", "Top-up", 610),
        ("promo", 50, "pay_1", "TEN", 660),
        ("topup", 70, "pay_2", "Top-up", 730),
        ("refund", -250, "pay_1", "Refund", 480),
        ("refund", -70, "pay_2", "Chargeback", 410),
        ("expiry", -100, "", "Sign-up credit", 310),
    ]
    assert [row["type"] for row in money_events(connection, "a", at=3, limit=100)] == ["adjustment", "promo"]
    assert money_events(connection, "b", at=100, limit=100) == []


def test_lots_are_due_from_their_last_moment_until_they_are_closed(
    database_url: str, connection: psycopg.Connection
) -> None:
    def grant(org: str, lot: str, expires: int | None) -> Line:
        return f"account:{org}", CreditGranted(org=org, grant=lot, amount=9, reason="", expires=expires)

    def expire(org: str, lot: str, left: int) -> Line:
        return f"account:{org}", CreditExpired(org=org, lot=lot, amount=9 - left, left=left)

    append(connection, [grant("a", "1", 20), grant("a", "2", 10), grant("b", "1", 20), grant("b", "never", None)])
    project(database_url, connection)
    assert lots_due(connection, at=9) == []
    assert lots_due(connection, at=10) == [("a", "2")]
    assert lots_due(connection, at=20) == [("a", "2"), ("a", "1"), ("b", "1")]
    append(connection, [expire("a", "1", 0), expire("a", "2", 4), grant("c", "1", 5), expire("c", "1", 0)])
    project(database_url, connection)
    assert lots_due(connection, at=99) == [("a", "2"), ("b", "1")]


# Statements


@settings(max_examples=30)
@given(steps=WITH_GAPS)
def test_every_month_adds_up_to_what_a_replay_gives(shared_database: str, steps: list) -> None:
    prefix = f"{next(EXAMPLES)}:"
    lines = play(steps, prefix=prefix)
    now = max(event.at for _, event in lines)
    with psycopg.connect(shared_database, autocommit=True) as connection:
        append(connection, lines)
        Runner(shared_database).step(connection)
        for org in (f"{prefix}{org}" for org in ORGS):
            balance = 0
            for month in months(START, now):
                statement = statement_of(connection, org, month=month, now=now)
                assert statement.opening == balance
                check_against_replay(statement, of_org(lines, org))
                balance = statement.closing
            assert balance == sum(moved(event) for _, event in of_org(lines, org))


def months(first: int, last: int) -> list[int]:
    return sorted({ist_month(at) for at in range(first, last, DAY)} | {ist_month(last)})


def check_against_replay(statement: Statement, lines: list[Line]) -> None:
    """Each row, each sum and both balances against the events themselves."""
    facts = [event for _, event in lines if ist_month(event.at) == statement.month]
    settled = [event for event in facts if isinstance(event, RequestSettled)]
    calls = Counter(ist_day(event.at) for event in settled)
    spent: defaultdict[int, int] = defaultdict(int)
    for event in settled:
        spent[ist_day(event.at)] += event.cost
    usage = [entry for entry in statement.entries if entry.type == "usage"]
    assert [(entry.day, entry.calls, -entry.amount) for entry in usage] == [
        (day, calls[day], spent[day]) for day in sorted(calls)
    ]
    events = [entry for entry in statement.entries if entry.type != "usage"]
    others = sorted((event for event in facts if event not in settled), key=lambda event: ist_day(event.at))
    assert [(entry.at, entry.amount) for entry in events] == [
        (event.at, moved(event)) for event in others if moved(event)
    ]
    assert statement.closing - statement.opening == sum(map(moved, facts))
    assert statement.used == sum(spent.values())
    assert statement.calls == len(settled)
    assert statement.credited - statement.debited == sum(entry.amount for entry in events)
    assert [entry.balance for entry in statement.entries] == list(
        accumulate((entry.amount for entry in statement.entries), initial=statement.opening)
    )[1:]
    assert (statement.entries[-1].balance if statement.entries else statement.opening) == statement.closing


def test_a_statement_that_differs_from_the_ledger_by_a_nano_is_not_given(
    database_url: str, connection: psycopg.Connection
) -> None:
    lines = play(BUSY)
    append(connection, lines)
    project(database_url, connection)
    now = lines[-1][1].at
    assert statement_of(connection, "org0", month=ist_month(now), now=now).entries
    connection.execute("update view_balances.balances set spent = spent + 1 where org = 'org0'")
    with pytest.raises(AssertionError, match="the ledger at"):
        statement_of(connection, "org0", month=ist_month(now), now=now)


def test_there_are_statements_from_the_first_month_to_this_one(
    database_url: str, connection: psycopg.Connection
) -> None:
    midnight = days_of_month(202512)[0] * DAY - IST_OFFSET
    append(connection, [("org:a", OrgCreated(at=midnight - 1, name="A"))])
    project(database_url, connection)
    for month in (202511, 202512, 202601):
        statement = statement_of(connection, "a", month=month, now=midnight + 40 * DAY)
        assert (statement.opening, list(statement.entries), statement.closing) == (0, [], 0)
        assert ist_month(statement.first_day * DAY) == ist_month(statement.last_day * DAY) == month
    assert statement.last_day == ist_day(midnight + 40 * DAY)
    for month in (202510, 202602):
        with pytest.raises(Invalid, match="2025-11 to 2026-01") as refused:
            statement_of(connection, "a", month=month, now=midnight + 40 * DAY)
        assert refused.value.code == "invalid_range"
    with pytest.raises(NotFound):
        statement_of(connection, "b", month=202512, now=midnight)
