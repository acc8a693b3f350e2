"""The books: every fact of money entered twice, to accounts as an accountant keeps them, so that they always balance.

The accounts, and what each fact enters, are in `domain/ledger/chart.py`. Calls are entered by their sums of a day, the
`spent_days` of `balances`; all else stands in a journal, line by line. Amounts are nano-rupees.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
from psycopg.rows import tuple_row

from domain.kernel.clock import DAY, IST_OFFSET, date_to_day, day_to_date, ist_day
from domain.kernel.events import Event
from domain.ledger.account import Account
from domain.ledger.chart import CHART, ENTRIES, entry_of
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
    RequestSettled,
)
from projections.base import Connection, Cursor, Fold, H, Projection, Sums, day_of, on

TABLES = """
create table books_days (
    org text collate "C" not null,
    day bigint not null,
    account text collate "C" not null,
    debit bigint not null,
    credit bigint not null,
    primary key (org, day, account)
) with (fillfactor = 70);
create table books_journal (
    day bigint not null,
    at bigint not null,
    org text collate "C" not null,
    stream text collate "C" not null,
    fact text collate "C" not null,
    debit text collate "C" not null,
    credit text collate "C" not null,
    amount bigint not null
);
"""
INDEXES = """
create index books_journal_by_day on books_journal (day);
"""

_DAYS = Sums("books_days", keys={"org": "text", "day": "bigint", "account": "text"}, sums=("debit", "credit"))
_USAGE = ENTRIES[RequestSettled][0]


def _on_facts(method: H) -> H:
    for fact in ENTRIES:
        if fact is not RequestSettled:
            method = on(fact)(method)
    return method


class Books(Fold):
    def __init__(self) -> None:
        self._days: defaultdict[tuple[str, int, str], list[int]] = defaultdict(lambda: [0, 0])
        self._journal: list[tuple[Any, ...]] = []

    @_on_facts
    def entered(self, event: Any, stream: str, position: int) -> None:
        day = day_of(event.at)
        for debit, credit, amount in entry_of(event):
            self._days[event.org, day, debit][0] += amount
            self._days[event.org, day, credit][1] += amount
            self._journal.append((day, event.at, event.org, stream, event.NAME, debit, credit, amount))

    def flush(self, cursor: Cursor) -> None:
        _DAYS.add(cursor, self._days)
        if self._journal:
            with cursor.copy("copy books_journal from stdin (format binary)") as copy:
                copy.set_types(["int8", "int8", *["text"] * 5, "int8"])
                for row in self._journal:
                    copy.write_row(row)


PROJECTION = Projection("books", 2, TABLES, Books, INDEXES)


@dataclass(frozen=True, slots=True)
class Balance:
    """An account over a time: what it stood at before, what was debited and credited, and what it stands at then.

    Balances are debits less credits, so that all of them make zero."""

    account: str
    opening: int
    debit: int
    credit: int

    @property
    def closing(self) -> int:
        return self.opening + self.debit - self.credit


def trial_balance(connection: Connection, *, at: int | None = None, org: str | None = None) -> list[Balance]:
    """Every account of the chart from the first day on, now or from all facts up to and including the moment `at` (in
    microseconds), as a replay to it would give them; of all orgs, or of one."""
    sums = _sums(connection, until_day=None if at is None else ist_day(at), org=org)
    if at is not None:
        for account, debit, credit in _sums_within_day(connection, at=at, org=org):
            sums[account][0] += debit
            sums[account][1] += credit
    return [Balance(account, 0, *sums[account]) for account in CHART]


def month_of_books(connection: Connection, month: int, *, org: str | None = None) -> list[Balance]:
    """Every account over the month `yyyymm` on India's calendar: what it opened with, what was entered, what it closed
    with."""
    first, after = days_of_month(month)
    before, then = (_sums(connection, until_day=day, org=org) for day in (first, after))
    return [
        Balance(
            account,
            opening=before[account][0] - before[account][1],
            debit=then[account][0] - before[account][0],
            credit=then[account][1] - before[account][1],
        )
        for account in CHART
    ]


def days_of_month(month: int) -> tuple[int, int]:
    """The first day of `yyyymm`, and the first after it, in days since 1970."""
    first = date_to_day(day_to_date(0).replace(year=month // 100, month=month % 100, day=1))
    following = day_to_date(first + 31).replace(day=1)
    return first, date_to_day(following)


def end_of_month(month: int) -> int:
    """The last microsecond of `yyyymm` on India's calendar."""
    return days_of_month(month)[1] * DAY - IST_OFFSET - 1


def _sums(connection: Connection, *, until_day: int | None, org: str | None) -> dict[str, list[int]]:
    """Debits and credits by account, of the days before `until_day`."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        """
        with entered as (
            select org, day, account, debit, credit from view_books.books_days
            union all
            select org, day, %(debit)s, spent, 0 from view_balances.spent_days
            union all
            select org, day, %(credit)s, 0, spent from view_balances.spent_days
        )
        select account, sum(debit), sum(credit) from entered
        where (%(day)s::bigint is null or day < %(day)s) and (%(org)s::text is null or org = %(org)s)
        group by account
        """,
        {"day": until_day, "org": org, "debit": _USAGE.debit, "credit": _USAGE.credit},
    )
    found = {account: [int(debit), int(credit)] for account, debit, credit in cursor}
    return {account: found.get(account, [0, 0]) for account in CHART}


def _sums_within_day(connection: Connection, *, at: int, org: str | None) -> Iterator[tuple[str, int, int]]:
    """What was entered from midnight to the moment: facts from the journal, calls from the feed, which has each."""
    day = ist_day(at)
    within = {"day": day, "midnight": day * DAY - IST_OFFSET, "at": at, "org": org}
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        "select debit, credit, sum(amount) from view_books.books_journal"
        " where day = %(day)s and at <= %(at)s and (%(org)s::text is null or org = %(org)s) group by debit, credit",
        within,
    )
    sums = [(debit, credit, int(amount)) for debit, credit, amount in cursor]
    cursor.execute(
        """
        select coalesce(sum(of_org.cost), 0)
        from view_balances.spent_days d cross join lateral (
            select sum(a.cost) as cost from view_activity.activity a
            where a.org = d.org and a.at between %(midnight)s and %(at)s
        ) of_org
        where d.day = %(day)s and (%(org)s::text is null or d.org = %(org)s)
        """,
        within,
    )
    row = cursor.fetchone()
    assert row is not None
    for debit, credit, amount in [*sums, (_USAGE.debit, _USAGE.credit, int(row[0]))]:
        yield debit, amount, 0
        yield credit, 0, amount


@dataclass(slots=True)
class Origin:
    """What became of credit of one origin: of what came in, calls used some, some is gone (expired, or withdrawn), some
    is withheld, and the rest is left."""

    came: int = 0
    used: int = 0
    gone: int = 0
    withheld: int = 0
    left: int = 0


def credit_by_origin(connection: Connection, *, at: int | None = None, org: str | None = None) -> dict[str, Origin]:
    """All credit as `paid` and `promo`, now or at a past moment in microseconds: how much of the customers' credit, and
    of the revenue so far, was paid for.

    Calls do not say which credit they used; it follows from the order of spending, org by org (`ledger/account.py`).
    Where clocks of processes differ, a moment cuts an org's facts after the last that had happened by then.
    """
    used = _used(connection, at=at, org=org)
    found = {"paid": Origin(), "promo": Origin()}
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        "select originator_id, topic, state from events where originator_id between %s and %s"
        " order by originator_id, originator_version",
        ["account:", "account;"] if org is None else [f"account:{org}"] * 2,
    )
    for stream, rows in groupby(cursor, key=lambda row: str(row[0])):
        facts: list[Event] = [msgspec.json.decode(state, type=_ACCOUNT_FACTS[name]) for _, name, state in rows]
        while facts and at is not None and facts[-1].at > at:
            facts.pop()
        _add_origins(found, stream, facts, used=used.get(stream.removeprefix("account:"), 0))
    return found


_ACCOUNT_FACTS: Mapping[str, type[Event]] = {
    fact.NAME: fact
    for fact in (CreditGranted, CreditAdded, CreditExpired, CreditWithheld, CreditReturned, CreditWithdrawn)
}


def _add_origins(found: Mapping[str, Origin], stream: str, facts: Sequence[Event], *, used: int) -> None:
    account = Account()
    gone: defaultdict[str, int] = defaultdict(int)
    for fact in facts:
        if isinstance(fact, CreditExpired):
            gone[fact.lot] += fact.amount
        elif isinstance(fact, CreditWithdrawn):
            for id, amount in account.withheld[fact.reference].items():
                gone[id] += amount
        account = account.evolve(stream, fact)
    account = account.when_spent(used)
    withheld: defaultdict[str, int] = defaultdict(int)
    for parts in account.withheld.values():
        for id, amount in parts.items():
            withheld[id] += amount
    for lot in account.lots.values():
        origin = found["paid" if lot.paid else "promo"]
        origin.came += lot.amount
        origin.left += lot.left
        origin.gone += gone[lot.id]
        origin.withheld += withheld[lot.id]
        origin.used += lot.amount - lot.left - gone[lot.id] - withheld[lot.id]


def _used(connection: Connection, *, at: int | None, org: str | None) -> dict[str, int]:
    """What calls of each org have cost in all."""
    day = None if at is None else ist_day(at)
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        """
        select d.org, sum(case when %(day)s::bigint is null or d.day < %(day)s then d.spent else (
            select coalesce(sum(a.cost), 0) from view_activity.activity a
            where a.org = d.org and a.at between %(midnight)s and %(at)s
        ) end)
        from view_balances.spent_days d
        where (%(org)s::text is null or d.org = %(org)s) and (%(day)s::bigint is null or d.day <= %(day)s)
        group by d.org
        """,
        {
            "day": day,
            "midnight": None if day is None else day * DAY - IST_OFFSET,
            "at": at,
            "org": org,
        },
    )
    return {org: int(used) for org, used in cursor}
