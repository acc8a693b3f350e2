"""What each org's credit is, what of it was spent, is held or withheld; and every line of its account.

The balance is what came in, less what expired, went back or was spent. Of it `held` waits for calls in flight and
`withheld` for refunds and chargebacks under way; the rest is available.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.rows import dict_row

from domain.accounts.events import OrgCreated
from domain.kernel.clock import DAY, IST_OFFSET
from domain.kernel.errors import NotFound
from domain.ledger.credit import kind_of_grant
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    RequestSettled,
)
from domain.ledger.statement import USAGE, Entry, Statement, check_month, days_of_month, make_statement
from domain.payments.events import ChargebackOpened, RefundRequested
from projections.base import Connection, Cursor, Fold, Projection, Sums, clean, day_of, on
from projections.requests import LONG

# A line for each fact of an account: `amount` is what it did to the balance, `withheld` to the part that is set aside,
# `spent` what calls had cost by then in all. `reference` is the lot, or that under which credit was withheld.
TABLES = """
create table balances (
    org text collate "C" primary key,
    credit bigint not null,
    spent bigint not null,
    held bigint not null,
    withheld bigint not null
) with (fillfactor = 50);
create table spent_days (
    org text collate "C" not null,
    day bigint not null,
    calls bigint not null,
    spent bigint not null,
    primary key (org, day)
) with (fillfactor = 50);
create table ledger_lines (
    org text collate "C" not null,
    position bigint not null,
    at bigint not null,
    type text collate "C" not null,
    amount bigint not null,
    withheld bigint not null,
    spent bigint not null,
    reference text collate "C" not null,
    payment text collate "C" not null,
    note text not null,
    primary key (org, position)
);
create table withheld_for (
    org text collate "C" not null,
    reference text collate "C" not null,
    payment text collate "C" not null,
    note text not null,
    primary key (org, reference)
);
create table expiring_lots (
    org text collate "C" not null,
    lot text collate "C" not null,
    expires bigint not null
);
create index expiring_lots_due on expiring_lots (expires);
create index expiring_lots_by_org on expiring_lots (org);
"""

_BALANCES = Sums("balances", keys={"org": "text"}, sums=("credit", "spent", "held", "withheld"))
_SPENT_DAYS = Sums("spent_days", keys={"org": "text", "day": "bigint"}, sums=("calls", "spent"))
_FACT = ("org", "amount", "spent")


class Balances(Fold):
    def __init__(self) -> None:
        self._balances: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._spent_days: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._lines: list[tuple[Any, ...]] = []
        self._withheld_for: list[tuple[str, str, str, str]] = []
        self._expiring: list[tuple[str, str, int]] = []
        self._closed: list[tuple[str, str]] = []

    @on(OrgCreated, "name")
    def created(self, event: OrgCreated, stream: str, position: int) -> None:
        self._balances[stream.removeprefix("org:")]

    # Calls

    @on(CreditHeld, "org", "amount")
    @on(HoldExtended, "org", "amount")
    def held(self, event: CreditHeld | HoldExtended, stream: str, position: int) -> None:
        self._balances[event.org][2] += event.amount

    @on(RequestSettled, "org", "held", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        balance = self._balances[event.org]
        balance[1] += event.cost
        balance[2] -= event.held
        day = self._spent_days[event.org, day_of(event.at)]
        day[0] += 1
        day[1] += event.cost

    @on(HoldReleased, "org", "held")
    @on(HoldExpired, "org", "held")
    def freed(self, event: HoldReleased | HoldExpired, stream: str, position: int) -> None:
        self._balances[event.org][2] -= event.held

    # The account

    @on(CreditGranted, *_FACT, "grant", "reason", "expires", "payment")
    def granted(self, event: CreditGranted, stream: str, position: int) -> None:
        kind = kind_of_grant(event.grant)
        self._line(event, position, kind, event.grant, event.amount, payment=event.payment, note=event.reason)
        if event.expires is not None:
            self._expiring.append((event.org, event.grant, event.expires))

    @on(CreditAdded, *_FACT, "payment")
    def added(self, event: CreditAdded, stream: str, position: int) -> None:
        self._line(event, position, "topup", event.payment, event.amount, payment=event.payment, note="Top-up")

    @on(CreditExpired, *_FACT, "lot", "left")
    def expired(self, event: CreditExpired, stream: str, position: int) -> None:
        self._line(event, position, "expiry", event.lot, -event.amount)
        if event.left == 0:
            self._closed.append((event.org, event.lot))

    @on(CreditWithheld, *_FACT, "reference")
    def withheld(self, event: CreditWithheld, stream: str, position: int) -> None:
        self._line(event, position, "withheld", event.reference, 0, withheld=event.amount)

    @on(CreditReturned, *_FACT, "reference")
    def returned(self, event: CreditReturned, stream: str, position: int) -> None:
        self._line(event, position, "returned", event.reference, 0, withheld=-event.amount)

    @on(CreditWithdrawn, *_FACT, "reference")
    def withdrawn(self, event: CreditWithdrawn, stream: str, position: int) -> None:
        self._line(event, position, "refund", event.reference, -event.amount, withheld=-event.amount)

    # What the account calls by a reference

    @on(RefundRequested, "org", "refund", "payment")
    def refund_requested(self, event: RefundRequested, stream: str, position: int) -> None:
        self._withheld_for.append((event.org, event.refund, event.payment, "Refund"))

    @on(ChargebackOpened, "org", "chargeback", "payment")
    def chargeback_opened(self, event: ChargebackOpened, stream: str, position: int) -> None:
        self._withheld_for.append((event.org, event.chargeback, event.payment, "Chargeback"))

    def _line(
        self,
        event: CreditGranted | CreditAdded | CreditExpired | CreditWithheld | CreditReturned | CreditWithdrawn,
        position: int,
        kind: str,
        reference: str,
        amount: int,
        *,
        withheld: int = 0,
        payment: str = "",
        note: str = "",
    ) -> None:
        balance = self._balances[event.org]
        balance[0] += amount
        balance[3] += withheld
        self._lines.append(
            (event.org, position, event.at, kind, amount, withheld, event.spent, reference, payment, clean(note))
        )

    def flush(self, cursor: Cursor) -> None:
        _BALANCES.add(cursor, self._balances)
        _SPENT_DAYS.add(cursor, self._spent_days)
        if self._lines:
            with cursor.copy("copy ledger_lines from stdin") as copy:
                for line in self._lines:
                    copy.write_row(line)
        if self._withheld_for:
            cursor.executemany(
                "insert into withheld_for values (%s, %s, %s, %s) on conflict do nothing", self._withheld_for
            )
        if self._expiring:
            cursor.executemany("insert into expiring_lots values (%s, %s, %s)", self._expiring)
        if self._closed:  # after the inserts, since a lot may come and go within one batch
            cursor.executemany("delete from expiring_lots where org = %s and lot = %s", self._closed)


PROJECTION = Projection("balances", 3, TABLES, Balances, weight=5)


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """All queries inside see the read models as they are at the first of them, so that their figures add up."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        yield


# Balances


def balance_of(connection: Connection, org: str) -> dict[str, int] | None:
    """`balance`, `held`, `withheld`, `available` and `spent` in nano-rupees, and the `position` in the log up to which
    they are; None for an org that is not known (yet)."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select credit - spent as balance, held, withheld, credit - spent - held - withheld as available, spent,
            (select at from view_balances.position) as position
        from view_balances.balances where org = %s
        """,
        [org],
    ).fetchone()


def balance_as_of(connection: Connection, org: str, *, at: int) -> dict[str, int]:
    """The same amounts from all events up to and including the moment `at`, in microseconds: what a replay would give.

    Whole days come from their sums, the rest of the last day from the feed; what was then in flight from the log, for
    the requests that ended soon after, took long, or are still open.
    """
    row = _one(
        connection,
        """
        select
            (select coalesce(sum(amount), 0) from view_balances.ledger_lines
                where org = %(org)s and at <= %(at)s)::bigint as credit,
            (select coalesce(sum(withheld), 0) from view_balances.ledger_lines
                where org = %(org)s and at <= %(at)s)::bigint as withheld,
            (
                (select coalesce(sum(spent), 0) from view_balances.spent_days
                    where org = %(org)s and day < %(day)s)
                + (select coalesce(sum(cost), 0) from view_activity.activity
                    where org = %(org)s and at between %(midnight)s and %(at)s)
            )::bigint as spent,
            (select coalesce(sum((convert_from(state, 'utf8')::json ->> 'amount')::bigint), 0) from events
                where originator_id in (
                    select 'request:' || request from view_requests.requests_open
                        where org = %(org)s and held_at <= %(at)s
                    union all
                    select 'request:' || request from view_activity.activity
                        where org = %(org)s and at > %(at)s and at <= %(at)s + %(long)s
                    union all
                    select 'request:' || request from view_requests.requests_long
                        where org = %(org)s and held_at <= %(at)s and ended_at > %(at)s + %(long)s
                )
                and topic in (%(held)s, %(extended)s)
                and (convert_from(state, 'utf8')::json ->> 'at')::bigint <= %(at)s)::bigint as held
        """,
        {
            "org": org,
            "at": at,
            "day": day_of(at),
            "midnight": day_of(at) * DAY - IST_OFFSET,
            "held": CreditHeld.NAME,
            "extended": HoldExtended.NAME,
            "long": LONG,
        },
    )
    balance = row["credit"] - row["spent"]
    return {
        "balance": balance,
        "held": row["held"],
        "withheld": row["withheld"],
        "available": balance - row["held"] - row["withheld"],
        "spent": row["spent"],
    }


# Money events

_MONEY_EVENTS = """
    select l.position as id, l.at, l.type, l.amount, l.balance,
        coalesce(nullif(l.payment, ''), w.payment, '') as payment,
        case l.type
            when 'expiry' then coalesce(g.note, l.reference)
            when 'refund' then coalesce(w.note, 'Refund')
            else l.note
        end as note
    from (
        select *, (sum(amount) over (order by position) - spent)::bigint as balance
        from view_balances.ledger_lines where org = %(org)s
    ) l
    left join view_balances.withheld_for w on w.org = l.org and w.reference = l.reference and l.type = 'refund'
    left join view_balances.ledger_lines g
        on g.org = l.org and g.reference = l.reference and l.type = 'expiry' and g.type in ('promo', 'adjustment')
    where l.amount <> 0
"""


def money_events(
    connection: Connection, org: str, *, at: int, limit: int, before: int | None = None
) -> list[dict[str, Any]]:
    """What moved the org's balance other than calls, up to the moment `at` (microseconds), newest first: at most
    `limit`. The next page is what comes `before` the `id` of the last row.

    `type` is `topup`, `promo`, `adjustment`, `expiry` or `refund`, the last two with an `amount` below zero. `balance`
    is what everything before it in the log had left, calls included, and itself. Amounts are nano-rupees; `payment` is
    "" where there is none. The `note` of an expiry is that of the lot.
    """
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        f"{_MONEY_EVENTS} and l.at <= %(at)s and (%(before)s::bigint is null or l.position < %(before)s)"
        " order by l.position desc limit %(limit)s",
        {"org": org, "at": at, "before": before, "limit": limit},
    ).fetchall()


def statement_of(connection: Connection, org: str, *, month: int, now: int) -> Statement:
    """The org's month `yyyymm` of India's calendar, so far if it still runs at the moment `now`.

    The closing balance is that of the balances table, not a sum of what is shown. Raises NotFound for an org that is
    not known (yet), Invalid `invalid_range` for a month before it was made or after this one.
    """
    with snapshot(connection):
        made = connection.execute("select name, created_at from view_orgs.orgs where org = %s", [org]).fetchone()
        if made is None:
            raise NotFound("not_found", "No such org.", param="org")
        name, created = made
        check_month(month, created=created, now=now)
        first_day, end_day = days_of_month(month)
        bounds = {
            "org": org,
            "first_day": first_day,
            "end_day": end_day,
            "start": first_day * DAY - IST_OFFSET,
            "end": end_day * DAY - IST_OFFSET,
        }
        events = connection.cursor(row_factory=dict_row).execute(
            f"{_MONEY_EVENTS} and l.at >= %(start)s and l.at < %(end)s order by l.position", bounds
        )
        entries = [
            Entry(day_of(row["at"]), row["at"], row["type"], row["amount"], payment=row["payment"], note=row["note"])
            for row in events
        ]
        days = connection.execute(
            "select day, calls, spent from view_balances.spent_days"
            " where org = %(org)s and day >= %(first_day)s and day < %(end_day)s",
            bounds,
        )
        entries += [Entry(day, None, USAGE, -spent, calls=calls) for day, calls, spent in days]
        sums = _one(
            connection,
            """
            select
                (coalesce((select sum(amount) from view_balances.ledger_lines
                    where org = %(org)s and at < %(start)s), 0)
                - coalesce((select sum(spent) from view_balances.spent_days
                    where org = %(org)s and day < %(first_day)s), 0))::bigint as opening,
                (coalesce((select credit - spent from view_balances.balances where org = %(org)s), 0)
                - coalesce((select sum(amount) from view_balances.ledger_lines
                    where org = %(org)s and at >= %(end)s), 0)
                + coalesce((select sum(spent) from view_balances.spent_days
                    where org = %(org)s and day >= %(end_day)s), 0))::bigint as closing
            """,
            bounds,
        )
    return make_statement(
        org=org,
        name=name,
        month=month,
        now=now,
        opening=sums["opening"],
        entries=entries,
        closing=sums["closing"],
    )


# Lots


def lots_due(connection: Connection, *, at: int) -> list[tuple[str, str]]:
    """Org and lot of all credit whose time is over at the moment `at` and that is not closed, the oldest first."""
    return connection.execute(
        "select org, lot from view_balances.expiring_lots where expires <= %s order by expires, org, lot", [at]
    ).fetchall()


def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> dict[str, int]:
    row = connection.cursor(row_factory=dict_row).execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row
