"""Credit whose time is over goes by itself: to the microsecond, once, and never from under a call."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from adapters.ledger import LedgerWriter
from adapters.wiring import App
from domain.kernel.clock import SECOND
from domain.kernel.money import rupees
from domain.ledger.credit import grant_credit
from domain.ledger.events import CreditExpired, CreditHeld
from projections.balances import balance_of, money_events
from projections.verify import verify
from tests.adapters.bookings import settlement_of
from tests.fakes import FakeClock
from tests.given import NOON, Minted, given_hold, given_key, given_org
from tests.workers.scene import project
from workers.expire_credit import run as expire_credit

OVER = NOON + 3600 * SECOND


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """An org with ₹7 for good, and ₹100 that are over in an hour."""
    app = make_app()
    given_org(app.store, inr=7)
    promo(app, "org_a", expires=OVER)
    return app


def promo(app: App, org: str, *, expires: int) -> None:
    grant_credit(
        app.store, org=org, grant="promo:X", amount=rupees(100), reason="X", expires=expires, at=NOON, by="test"
    )


def run(app: App) -> int:
    """The job, with the read models as far as the log."""
    project(app)
    done = expire_credit(app)
    project(app)
    return done


def expired(app: App, org: str = "org_a") -> list[tuple[int, int, int]]:
    facts = [fact.event for fact in app.log.stream(f"account:{org}")]
    return [(fact.at, fact.amount, fact.left) for fact in facts if isinstance(fact, CreditExpired)]


def test_credit_goes_at_its_moment_and_the_account_says_so(app: App, clock: FakeClock) -> None:
    given_org(app.store, "org_b", inr=0)
    promo(app, "org_b", expires=OVER + 1)
    clock.now = OVER - 1
    assert run(app) == 0
    clock.now = OVER
    assert run(app) == 1
    assert run(app) == 0
    assert expired(app) == [(OVER, rupees(100), 0)]
    assert expired(app, "org_b") == []
    assert app.available("org_a") == rupees(7)
    with app.reading() as connection:
        lines = money_events(connection, "org_a", at=OVER, limit=10)
    assert [(line["type"], line["amount"], line["balance"]) for line in lines] == [
        ("expiry", -rupees(100), rupees(7)),
        ("promo", rupees(100), rupees(107)),
        ("adjustment", rupees(7), rupees(7)),
    ]
    assert verify(app.database_url).findings == []


def test_a_call_in_flight_keeps_what_it_was_promised(app: App, clock: FakeClock) -> None:
    key = given_key(app.store, "org_a", key="key_a")
    given_hold(app.database_url, "req_1", key, amount=rupees(60), at=OVER - SECOND, expires=OVER + 900 * SECOND)
    clock.now = OVER
    assert run(app) == 1
    assert run(app) == 0
    assert app.available("org_a") == rupees(7)

    clock.now = OVER + 60 * SECOND
    settle(app, "req_1", key, cost=rupees(25), at=clock.now)
    assert run(app) == 1
    assert run(app) == 0
    assert expired(app) == [(OVER, rupees(40), rupees(60)), (clock.now, rupees(35), 0)]
    with app.reading() as connection:
        balance = balance_of(connection, "org_a")
    assert balance is not None
    assert (balance["balance"], balance["available"], balance["spent"]) == (rupees(7), rupees(7), rupees(25))
    assert verify(app.database_url).findings == []


def test_a_job_that_sees_an_old_read_model_takes_nothing_twice(app: App, clock: FakeClock) -> None:
    run(app)
    clock.now = OVER
    assert [expire_credit(app), expire_credit(app)] == [1, 0]
    assert len(expired(app)) == 1


def test_a_lot_that_is_at_fault_keeps_no_other_from_expiring(app: App, clock: FakeClock) -> None:
    given_org(app.store, "org_b", inr=0)
    promo(app, "org_b", expires=OVER)
    run(app)
    clock.now = OVER

    class FailsOnce:
        failed = False

        def locked(self, decide: Any, **stamps: Any) -> int | None:
            if not self.failed:
                self.failed = True
                raise ArithmeticError("a fault of ours")
            return app.store.locked(decide, **stamps)

    assert expire_credit(replace(app, store=FailsOnce())) == 1
    assert len(expired(app)) + len(expired(app, "org_b")) == 1


def settle(app: App, request: str, key: Minted, *, cost: int, at: int) -> None:
    held = app.log.stream(f"request:{request}")[0].event
    assert isinstance(held, CreditHeld)

    async def record() -> None:
        writer = LedgerWriter(app.database_url, clock=lambda: at)
        await writer.start()
        assert await writer.end(request, settlement_of(held, cost=cost, at=at)) is None
        await writer.close()

    asyncio.run(record())
