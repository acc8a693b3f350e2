"""Histories to project: made of random steps, yet such as the ledger would have let happen."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

import msgspec
import psycopg
from hypothesis import strategies as st
from psycopg import sql

from domain.accounts.events import (
    OrgCreated,
    WorkspaceBudgetChanged,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRenamed,
)
from domain.catalog.price import cost, make_rates
from domain.inference.metering import Usage
from domain.kernel.clock import DAY, SECOND
from domain.kernel.events import Event
from domain.keys.events import (
    KeyDisabled,
    KeyEnabled,
    KeyLimitsChanged,
    KeyMinted,
    KeyModelsChanged,
    KeyMoved,
    KeyRenamed,
    KeyRevoked,
    KeyRotated,
)
from domain.ledger.account import Account
from domain.ledger.events import (
    Attempt,
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
    RequestRefused,
    RequestSettled,
)
from domain.ledger.guards import Guards, evolve, may_extend, may_hold

START = 1_793_440_000 * SECOND  # a few hours before November begins in India
RATES = make_rates(provider="sarvam", model="sarvam-30b", priced_on="2026-10-01", input=3, output=7, cached_input=1)

Line = tuple[str, Event]
Step = tuple[str, int, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["hold"] * 6
            + ["settle"] * 4
            + ["release", "expire", "extend", "extend", "refuse", "grant", "key", "workspace", "wait"]
            + ["promo", "add", "lapse", "withhold", "give_back", "withdraw"]
        ),
        st.integers(0, 1_000),
        st.integers(0, 1_000),
    ),
    max_size=60,
)


def play(steps: Iterable[Step], *, prefix: str = "") -> list[Line]:
    """The facts of three orgs with two keys each, and of what the steps make them do. `prefix` keeps names apart."""
    return _Play(prefix).run(steps)


class _Play:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.lines: list[Line] = []
        self.guards = Guards()
        self.at = START
        self.numbers = itertools.count(1)
        self.holds: dict[str, CreditHeld] = {}
        self.accounts: defaultdict[str, Account] = defaultdict(Account)

    def run(self, steps: Iterable[Step]) -> list[Line]:
        for org in range(3):
            self.note(f"org:{self.prefix}org{org}", OrgCreated(at=self.at, name=f"Org {org}"))
            self.note(
                f"workspace:{self.prefix}ws{org}",
                WorkspaceCreated(at=self.at, org=f"{self.prefix}org{org}", name="Default", default=True),
            )
            for key in range(2):
                event = KeyMinted(
                    at=self.at,
                    org=f"{self.prefix}org{org}",
                    workspace=f"{self.prefix}ws{org}",
                    name=f"key {key}",
                    prefix="br-000000000",
                    digest="00",
                    monthly_budget=2_000_000 if key else None,
                    models=("sarvam-30b", 'quo"ted\\'),
                )
                self.note(f"key:{self.prefix}key{org}{key}", event)
        for kind, one, two in steps:
            # Two clocks that differ by up to 300 ms: not every event happened after the one before it in the log.
            self.at += one * SECOND // 3
            getattr(self, kind)(one, two, self.at - two * 300)
        return self.lines

    def note(self, stream: str, event: Event) -> None:
        evolve(self.guards, stream, event)
        self.lines.append((stream, event))
        if stream.startswith("account:"):
            self.accounts[event.org] = self.accounts[event.org].evolve(stream, event)

    def wait(self, one: int, two: int, at: int) -> None:
        self.at += one * DAY // 300

    def grant(self, one: int, two: int, at: int) -> None:
        org = f"{self.prefix}org{one % 3}"
        grant = CreditGranted(
            at=at,
            org=org,
            grant=str(next(self.numbers)),
            amount=1_000 * two,
            reason="test",
            spent=self.guards.balances[org].spent,
        )
        self.note(f"account:{org}", grant)

    def promo(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        self.note(
            f"account:{org}",
            CreditGranted(
                at=at,
                org=org,
                grant=f"promo:{next(self.numbers)}",
                amount=1_000 * two + 1,
                reason="Diwali",
                expires=at + two * DAY // 10 + 1 if two % 3 else None,
                payment=f"pay_{two}" if two % 2 else "",
                spent=spent,
            ),
        )

    def add(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        number = next(self.numbers)
        payment = f"{self.prefix}pay_{number}"
        added = CreditAdded(
            at=at, org=org, payment=payment, order=f"order_{number}", amount=1_000 * two + 1, spent=spent
        )
        self.note(f"account:{org}", added)

    def lapse(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        account = self.accounts[org].when_spent(spent)
        over = [lot for lot in account.lots.values() if lot.expires is not None and not lot.closed]
        if not over:
            return
        lot = over[two % len(over)]
        amount = min(lot.left, self.guards.balances[org].available)
        left = lot.left - amount + sum(parts.get(lot.id, 0) for parts in account.withheld.values())
        if amount or not left:
            self.note(
                f"account:{org}", CreditExpired(at=at, org=org, lot=lot.id, amount=amount, left=left, spent=spent)
            )

    def withhold(self, one: int, two: int, at: int) -> None:
        org, spent = self.account(one)
        rest, parts = min(500 * two, self.guards.balances[org].available), {}
        for lot in reversed(self.accounts[org].when_spent(spent).in_order_of_spending()):
            if part := min(rest, lot.left):
                parts[lot.id] = part
                rest -= part
        if parts:
            reference = f"{self.prefix}rfnd_{next(self.numbers)}"
            amount = sum(parts.values())
            withheld = CreditWithheld(at=at, org=org, reference=reference, amount=amount, parts=parts, spent=spent)
            self.note(f"account:{org}", withheld)

    def give_back(self, one: int, two: int, at: int) -> None:
        self.conclude(CreditReturned, one, two, at)

    def withdraw(self, one: int, two: int, at: int) -> None:
        self.conclude(CreditWithdrawn, one, two, at)

    def conclude(self, fact: type[CreditReturned | CreditWithdrawn], one: int, two: int, at: int) -> None:
        """Ends one of the org's withholdings, if there is any."""
        org, spent = self.account(one)
        withheld = list(self.accounts[org].withheld.items())
        if withheld:
            reference, parts = withheld[two % len(withheld)]
            amount = sum(parts.values())
            self.note(f"account:{org}", fact(at=at, org=org, reference=reference, amount=amount, spent=spent))

    def account(self, one: int) -> tuple[str, int]:
        """An org, and what it has spent."""
        org = f"{self.prefix}org{one % 3}"
        return org, self.guards.balances[org].spent

    def hold(self, one: int, two: int, at: int) -> None:
        org, key = one % 3, one % 2
        if not self.guards.balances[f"{self.prefix}org{org}"].available:
            self.grant(org, 999, at)
        held = CreditHeld(
            at=at,
            org=f"{self.prefix}org{org}",
            key=f"{self.prefix}key{org}{key}",
            workspace=f"{self.prefix}ws{org}",
            amount=two * 10,
            expires=at + 900 * SECOND,
            endpoint="/v1/chat/completions",
            model=f"model-{two % 4}",
            candidates=("sarvam/sarvam-30b",),
            excluded={"openai/gpt": "residency"},
        )
        if may_hold(self.guards, held) is None:
            request = f"{self.prefix}req{next(self.numbers)}"
            self.holds[request] = held
            self.note(f"request:{request}", held)

    def extend(self, one: int, two: int, at: int) -> None:
        if self.holds:
            request = self.pick(one)
            if may_extend(self.guards, request, two) is None:
                extended = HoldExtended(at=at, org=self.holds[request].org, amount=two, expires=at + 900 * SECOND)
                self.note(f"request:{request}", extended)

    def settle(self, one: int, two: int, at: int) -> None:
        if not self.holds:
            return
        request = self.pick(one)
        held = self.guards.holds[request].amount
        usage = Usage(input=two, cached_input=one % 50, output=one % 100, source="counted" if two % 2 else "provider")
        worth = cost(RATES, usage)
        self.end(
            request,
            lambda who: RequestSettled(
                at=at,
                **who,
                provider="sarvam",
                residency="IN",
                held=held,
                cost=min(worth, held),
                shortfall=max(worth - held, 0),
                usage=usage,
                rates=RATES,
                attempts=(Attempt(route="sarvam/sarvam-30b", end="served"),),
                first_byte_ms=two,
                duration_ms=one + two,
                streamed=bool(one % 2),
            ),
        )

    def release(self, one: int, two: int, at: int) -> None:
        if self.holds:
            request = self.pick(one)
            held = self.guards.holds[request].amount
            self.end(request, lambda who: HoldReleased(at=at, **who, held=held, code="all_routes_failed"))

    def expire(self, one: int, two: int, at: int) -> None:
        if self.holds:
            request = self.pick(one)
            held = self.guards.holds[request].amount
            self.end(request, lambda who: HoldExpired(at=at, **who, held=held))

    def refuse(self, one: int, two: int, at: int) -> None:
        refused = RequestRefused(
            at=at,
            org=f"{self.prefix}org{one % 3}",
            key=f"{self.prefix}key{one % 3}{one % 2}",
            workspace=f"{self.prefix}ws{one % 3}",
            endpoint="/v1/embeddings",
            model=["no such model", "nul\0here", "x" * 5_000, 'tab\tand\nline \\ "quote" {brace}', ""][two % 5],
            code="model_not_found",
        )
        self.note(f"request:{self.prefix}req{next(self.numbers)}", refused)

    def key(self, one: int, two: int, at: int) -> None:
        org = f"{self.prefix}org{one % 3}"
        changes: list[Event] = [
            KeyRenamed(at=at, org=org, name=f"renamed {two}"),
            KeyLimitsChanged(at=at, org=org, monthly_budget=None, rpm_limit=two, daily_limit=None),
            KeyModelsChanged(at=at, org=org, models=(f"model-{two}",)),
            KeyDisabled(at=at, org=org),
            KeyEnabled(at=at, org=org),
            KeyMoved(at=at, org=org, workspace=f"{self.prefix}ws{one % 3}"),
            KeyRotated(at=at, org=org, prefix=f"br-{two}", digest="01", old_digest="00", old_until=at),
            KeyRevoked(at=at, org=org, reason="test"),
        ]
        self.note(f"key:{self.prefix}key{one % 3}{one % 2}", changes[two % len(changes)])

    def workspace(self, one: int, two: int, at: int) -> None:
        org = f"{self.prefix}org{one % 3}"
        stream = f"workspace:{self.prefix}other{next(self.numbers)}"
        self.note(stream, WorkspaceCreated(at=at, org=org, name="Other", monthly_budget=two))
        changes: list[Event] = [
            WorkspaceRenamed(at=at, org=org, name="Renamed"),
            WorkspaceBudgetChanged(at=at, org=org, monthly_budget=one),
            WorkspaceDeleted(at=at, org=org),
        ]
        self.note(stream, changes[two % len(changes)])

    def pick(self, one: int) -> str:
        return list(self.holds)[one % len(self.holds)]

    def end(self, request: str, make: Callable[[dict[str, str]], Event]) -> None:
        held = self.holds.pop(request)
        who = {name: getattr(held, name) for name in ("org", "key", "workspace", "endpoint", "model")}
        self.note(f"request:{request}", make(who))


def append(connection: psycopg.Connection, lines: Sequence[Line]) -> int:
    """Writes facts to the log as every writer does, and answers the position of the last."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(7301)")
        for stream, event in lines:
            connection.execute(
                "insert into events (originator_id, originator_version, topic, state)"
                " select %(stream)s, coalesce(max(originator_version), 0) + 1, %(name)s, %(state)s"
                " from events where originator_id = %(stream)s",
                {"stream": stream, "name": event.NAME, "state": msgspec.json.encode(event)},
            )
        row = connection.execute("select coalesce(max(notification_id), 0) from events").fetchone()
    assert row is not None
    return row[0]


def write_guards(connection: psycopg.Connection, lines: Sequence[Line]) -> None:
    """Makes the guard tables what the ledger would have left behind."""
    guards = Guards()
    for stream, event in lines:
        evolve(guards, stream, event)
    for table, rows in (("balance", guards.balances), ("allowance", guards.allowances), ("hold", guards.holds)):
        for identity, row in rows.items():
            values = [identity, *astuple(row)]
            connection.execute(
                sql.SQL("insert into {} values ({})").format(
                    sql.Identifier(table), sql.SQL(", ").join([sql.Placeholder()] * len(values))
                ),
                values,
            )
