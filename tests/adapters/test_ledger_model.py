"""The database and the pure rules are two tellings of one story: whatever is asked in whatever order, they decide the
same, keep the same rows, and the log folds to those rows.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.eventstore import EventStore
from adapters.ledger import LedgerWriter, cost_of, expire_due
from adapters.log import LogReader, recorded
from adapters.postgres import connect
from domain.accounts.service import create_workspace, update_workspace
from domain.kernel.clock import DAY, SECOND, next_ist_midnight, next_ist_month
from domain.kernel.events import Event
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.service import KeyTerms, KeyWishes, mint_key, update_key
from domain.keys.trial import TrialTerms, trial_stream
from domain.ledger.credit import grant_credit
from domain.ledger.events import Ending, HoldExpired, HoldExtended
from domain.ledger.guards import Allowance, Balance, Denied, Guards, Hold, evolve, may_end, may_extend, may_hold
from tests.adapters.bookings import ENDPOINT, MODEL, hold_of, refusal_of, release_of, settlement_of
from tests.given import NOON, PEPPER, Minted, given_key, given_org

ORGS, KEYS_EACH = 2, 3
MINUTE = 60 * SECOND

Command = tuple[str, str, Any]
"""What is asked (`hold`, `extend`, `end`, `note`), of which request, with which fact."""


class Story:
    """Orgs of its own in the database, and beside it the model, under one clock; what happens is up to chance."""

    serial = itertools.count()

    def __init__(self, seed: int, url: str, store: EventStore, log: LogReader) -> None:
        self.chance = Random(seed)
        self.url, self.store, self.log = url, store, log
        self.now = NOON
        self.position = log.head()
        self.model, self.folded = Guards(), Guards()
        self.endings: dict[str, Event | None] = {}  # by request: every id in the log, with its ending
        self.answered: Counter[tuple[str, str | None]] = Counter()
        self.name = f"m{next(self.serial)}"
        self.numbers = itertools.count()
        self.orgs = [given_org(store, f"{self.name}_{n}", inr=0, at=self.now) for n in range(ORGS)]
        self.workspaces = []
        self.keys: list[Minted] = []
        self.further: dict[str, list[str]] = {}  # by key: what its calls may count against too
        for org in self.orgs:
            second = f"ws2_{org}"
            limits: dict[str, Any] = {"monthly_budget": None, "workspaces_max": 2, "at": self.now, "by": "test"}
            create_workspace(store, org=org, workspace=second, name="Second", **limits)
            self.workspaces += [(org, f"ws_{org}"), (org, second)]
            for n in range(KEYS_EACH):
                terms = KeyTerms(name=f"k{n}", workspace=second if n == 0 else None)
                self.keys.append(given_key(store, org, key=f"key{n}_{org}", terms=terms, at=self.now))
            self.further[self.keys[-1].key] = [self.ephemeral(self.keys[-1], n) for n in range(2)]
            self.further[self.keys[-2].key] = [self.trial(org)]
        self.catch_up()

    def ephemeral(self, parent: Minted, number: int) -> str:
        key = f"eph{number}_{parent.key}"
        mint_ephemeral_key(
            self.store,
            key=key,
            secret=f"br-eph-{key}",
            pepper=PEPPER,
            parent=parent.key,
            parent_models=None,
            parent_expires=None,
            terms=EphemeralTerms(budget=(150, 500)[number]),
            at=self.now,
        )
        return key

    def trial(self, org: str) -> str:
        mint_key(
            self.store,
            org=org,
            key=f"trial_{org}",
            secret=f"br-trial-{org}",
            pepper=PEPPER,
            terms=KeyTerms(name="trial", scope="inference"),
            active_max=9,
            at=self.now,
            by="test",
            trial=TrialTerms(models=frozenset({"m"}), daily_limit=4),
        )
        return trial_stream(org)

    # What happens

    async def go_on(self, writer: LedgerWriter) -> None:
        """One step: a batch mostly, else a change of what it is decided on."""
        match self.chance.randrange(14):
            case 0 | 1:
                self.grant()
            case 2 | 3:
                self.limit_key()
            case 4:
                self.limit_workspace()
            case 5:
                self.wait()
            case 6:
                self.sweep()
            case _:
                commands = [self.command() for _ in range(self.chance.choice([1, 2, 8, 20, 40]))]
                await self.batch(writer, commands)
        self.compare()

    def grant(self) -> None:
        amount = self.chance.choice([1, 30, 300, 1_000])
        grant = f"g{next(self.numbers)}"
        org = self.chance.choice(self.orgs)
        grant_credit(self.store, org=org, grant=grant, amount=amount, reason="r", at=self.now, by="test")

    def limit_key(self) -> None:
        key = self.chance.choice(self.keys)
        wishes = KeyWishes(
            monthly_budget=self.chance.choice([None, 0, 50, 200, 600]),
            daily_limit=self.chance.choice([None, None, 0, 5, 12, 30]),
        )
        update_key(self.store, org=key.org, key=key.key, wishes=wishes, at=self.now, by="test")

    def limit_workspace(self) -> None:
        org, workspace = self.chance.choice(self.workspaces)
        budget = self.chance.choice([None, 0, 100, 400, 900])
        update_workspace(self.store, org=org, workspace=workspace, monthly_budget=budget, at=self.now, by="test")

    def wait(self) -> None:
        later = [next_ist_midnight(self.now), next_ist_month(self.now), self.now + 7 * MINUTE]
        self.now = self.chance.choice(later) + self.chance.choice([0, 1, 5 * MINUTE])

    def sweep(self) -> None:
        due = [request for request, hold in self.model.holds.items() if hold.expires < self.now]
        for request in due:
            self.take(request, self.expired(request))
        assert expire_due(self.url, now=self.now) == len(due)

    def command(self) -> Command:
        kind = self.chance.choices(["hold", "again", "extend", "end", "note"], weights=[10, 1, 4, 7, 1])[0]
        request = self.some_request()
        hold = self.model.holds.get(request)
        if kind == "hold" or not request:
            return "hold", f"{self.name}_r{next(self.numbers)}", self.held()
        if kind == "again":
            return "hold", request, self.held()
        if kind == "note":
            seen = self.chance.random() < 0.5
            note = refusal_of(org=self.orgs[0], key="k", workspace="w", at=self.now)
            return "note", request if seen else f"{self.name}_r{next(self.numbers)}", note
        if kind == "extend":
            amount = self.chance.choice([0, 1, 20, 60])
            org = hold.org if hold else self.orgs[0]
            return "extend", request, HoldExtended(at=self.now, org=org, amount=amount, expires=self.now + 20 * MINUTE)
        return "end", request, self.ending(hold)

    def some_request(self) -> str:
        """An open one mostly, perhaps one that is long over, or one that only this batch makes."""
        if self.model.holds and self.chance.random() < 0.85:
            return self.chance.choice(list(self.model.holds))
        if self.chance.random() < 0.3:
            return f"{self.name}_r{next(self.numbers)}"
        return self.chance.choice(list(self.endings)) if self.endings else ""

    def held(self) -> Any:
        key = self.chance.choice(self.keys)
        return hold_of(
            org=key.org,
            key=key.key,
            workspace=key.workspace,
            allowance=self.chance.choice(["", *self.further.get(key.key, [])]),
            amount=self.chance.choice([0, 1, 10, 25, 40]),
            at=self.now,
            expires=self.now + self.chance.choice([1, 10, 30]) * MINUTE,
        )

    def ending(self, hold: Hold | None) -> Ending:
        """Now and then mistaken in what is held, or costing more than that."""
        amount = hold.amount if hold else 9
        believed = max(amount + self.chance.choice([0] * 8 + [-1, 3]), 0)
        names = {"org": hold.org, "key": hold.key, "workspace": hold.workspace} if hold else {}
        held = hold_of(**{"org": "o", "key": "k", "workspace": "w"} | names, amount=believed, at=self.now, expires=0)
        if self.chance.random() < 0.3:
            return release_of(held, at=self.now)
        return settlement_of(held, cost=amount * self.chance.choice([0, 30, 100, 100, 110]) // 100, at=self.now)

    def expired(self, request: str) -> HoldExpired:
        hold = self.model.holds[request]
        return HoldExpired(
            at=self.now,
            by="worker:expire_holds",
            org=hold.org,
            key=hold.key,
            workspace=hold.workspace,
            endpoint=ENDPOINT,
            model=MODEL,
            held=hold.amount,
        )

    # What is decided

    async def batch(self, writer: LedgerWriter, commands: list[Command]) -> None:
        """Hands all of it in at once, so that it travels as one batch, and compares the answers."""
        futures = [getattr(writer, kind)(request, event) for kind, request, event in commands]
        answers = await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert answers == self.decide(commands)
        self.answered.update(
            (kind, denied and denied.code) for (kind, _, _), denied in zip(commands, answers, strict=True)
        )

    def decide(self, commands: list[Command]) -> list[Denied | None]:
        """What the pure rules say: ends first, then extensions, then holds, then notes."""
        answers: list[Denied | None] = [None] * len(commands)
        lists: dict[str, list[tuple[int, str, Any]]] = {"end": [], "extend": [], "hold": [], "note": []}
        for n, (kind, request, event) in enumerate(commands):
            lists[kind].append((n, request, event))

        mistaken = self.end_all(lists["end"], answers)
        for n, request, event in lists["extend"]:
            answers[n] = may_extend(self.model, request, event.amount)
            if answers[n] is None:
                evolve(self.model, f"request:{request}", event)
        for n, request, event in lists["hold"]:
            answers[n] = Denied("duplicate") if request in self.endings else may_hold(self.model, event)
            if answers[n] is None:
                self.endings[request] = None
                evolve(self.model, f"request:{request}", event)
        for _, request, _ in lists["note"]:
            self.endings.setdefault(request, None)
        while mistaken:  # the writer corrects them and hands them in again, together
            mistaken = self.end_all(mistaken, answers)
        return answers

    def end_all(self, ends: list[tuple[int, str, Any]], answers: list[Denied | None]) -> list[tuple[int, str, Any]]:
        """Ends what can be ended, then says why the others cannot; returns those to be corrected and repeated."""
        refused = []
        for n, request, event in ends:
            answers[n] = may_end(self.model, request, cost_of(event), held=event.held)
            if answers[n] is None:
                self.take(request, event)
            else:
                refused.append((n, request, event))
        mistaken = []
        for n, request, event in refused:
            denied = may_end(self.model, request, cost_of(event), held=event.held)
            assert denied is not None
            if denied.code == "held":
                mistaken.append((n, request, msgspec.structs.replace(event, held=denied.limit)))
            answers[n] = None if self.endings.get(request) == event else denied  # a repeat is harmless
        return mistaken

    def take(self, request: str, event: Ending) -> None:
        evolve(self.model, f"request:{request}", event)
        self.endings[request] = event

    # What there is

    def catch_up(self) -> None:
        """Folds what is new in the log; the model takes over what is not for the ledger to decide."""
        for fact in recorded(self.log.after(self.position, limit=100_000)):
            self.position = fact.position
            evolve(self.folded, fact.stream, fact.event)
            if not fact.stream.startswith("request:"):
                evolve(self.model, fact.stream, fact.event)

    def compare(self) -> None:
        self.catch_up()
        assert self.folded == self.model
        assert self.tables() == self.model

    def tables(self) -> Guards:
        with connect(self.url) as connection:

            def rows(query: str, names: Iterable[str]) -> list[tuple[Any, ...]]:
                return connection.execute(query.encode(), [list(names)]).fetchall()

            balances = rows("select * from balance where org = any(%s)", self.orgs)
            allowances = rows("select * from allowance where scope = any(%s)", self.model.allowances)
            holds = rows("select * from hold where request = any(%s)", self.endings)
        return Guards(
            balances={org: Balance(*rest) for org, *rest in balances},
            allowances={scope: Allowance(*rest) for scope, *rest in allowances},
            holds={request: Hold(*rest) for request, *rest in holds},
        )


def tell(story: Story, steps: int) -> None:
    async def play() -> None:
        writer = LedgerWriter(story.url, clock=lambda: story.now)
        await writer.start()
        try:
            for _ in range(steps):
                await story.go_on(writer)
        finally:
            await writer.close()

    asyncio.run(play())
    story.now += DAY
    story.sweep()  # every hold ends at last
    story.compare()
    assert all(balance.held == 0 for balance in story.model.balances.values())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 40))
def test_the_database_decides_as_the_rules_do_and_its_log_folds_to_its_tables(
    database_url: str, store: EventStore, log: LogReader, seed: int, steps: int
) -> None:
    tell(Story(seed, database_url, store, log), steps)


def test_a_long_story_meets_every_answer(database_url: str, store: EventStore, log: LogReader) -> None:
    """So that the test above compares something."""
    story = Story(1, database_url, store, log)
    tell(story, 400)
    assert set(story.answered) == {
        *(("hold", code) for code in (None, "duplicate", "daily", "key_budget", "workspace_budget")),
        *(("hold", code) for code in ("ephemeral_budget", "trial_daily")),
        *(("extend", code) for code in (None, "ended", "key_budget", "workspace_budget", "insufficient_credits")),
        ("extend", "ephemeral_budget"),
        *(("end", code) for code in (None, "ended", "over")),
        ("hold", "insufficient_credits"),
        ("note", None),
    }
