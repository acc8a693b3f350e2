"""An org hears that its credit runs low at most once in 24 hours, whoever looks and whatever dies meanwhile."""

from collections.abc import Callable
from functools import partial

import pytest

from adapters.wiring import App
from domain.accounts.service import create_org
from domain.kernel.clock import DAY, SECOND
from domain.kernel.mail import MailUnreachable
from domain.kernel.money import rupees
from domain.ledger.credit import grant_credit
from domain.payments.billing import set_low_balance
from domain.payments.events import LowBalanceNoticed
from tests.at_once import at_once
from tests.fakes import FakeClock, Letterbox
from tests.workers.scene import project
from workers.notice_low_balance import run

ORG = "org_a"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_793_440_000 * SECOND)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """An org with ₹40 that wants to hear of less than ₹50."""
    app = make_app()
    sealed = app.vault.seal(ORG, "owner@example.org")
    create_org(app.store, org=ORG, workspace="ws_a", name="A", sealed_email=sealed, at=app.clock(), by="test")
    give(app, 40)
    warn_below(app, 50)
    return app


def give(app: App, inr: int) -> None:
    grant_credit(app.store, org=ORG, grant=app.new_id("g"), amount=rupees(inr), reason="t", at=app.clock(), by="test")


def warn_below(app: App, inr: int | None) -> None:
    threshold = None if inr is None else rupees(inr)
    set_low_balance(app.store, org=ORG, threshold=threshold, at=app.clock(), by="test")
    project(app)


def notices(app: App) -> list[LowBalanceNoticed]:
    return [fact.event for fact in app.log.stream(f"billing:{ORG}") if isinstance(fact.event, LowBalanceNoticed)]


def test_it_says_what_is_left_and_what_was_asked_for(app: App, box: Letterbox) -> None:
    assert run(app) == 1
    mail = box.mails[0]
    assert mail.to == "owner@example.org"
    for body in (mail.subject + mail.text, mail.subject + mail.html):
        assert "₹40.00" in body
    assert "₹50.00" in mail.text
    assert "₹50.00" in mail.html
    assert [(notice.available, notice.threshold) for notice in notices(app)] == [(rupees(40), rupees(50))]


def test_it_says_so_once_in_24_hours(app: App, box: Letterbox, clock: FakeClock) -> None:
    first = clock.now
    for hours in range(0, 60, 4):
        clock.now = first + hours * 3600 * SECOND
        run(app)
        project(app)
    assert [(notice.at - first) // (3600 * SECOND) for notice in notices(app)] == [0, 24, 48]
    assert len(box.mails) == 3
    assert len({mail.id for mail in box.mails}) == 3


def test_a_microsecond_short_of_a_day_is_too_early(app: App, box: Letterbox, clock: FakeClock) -> None:
    run(app)
    project(app)
    clock.now += DAY - 1
    assert run(app) == 0
    clock.now += 1
    assert run(app) == 1


def test_a_late_read_model_and_many_workers_bring_no_second_mail(
    make_app: Callable[..., App], app: App, box: Letterbox
) -> None:
    apps = [app, make_app(), make_app()]
    at_once(*[partial(run, one) for one in apps])
    assert run(app) == 0
    assert len(box.mails) == len(notices(app)) == 1


def test_a_mail_server_that_is_away_costs_the_mail_but_brings_no_second_one(app: App, box: Letterbox) -> None:
    box.fault = MailUnreachable("nobody there")
    assert run(app) == 0
    box.fault = None
    project(app)
    assert run(app) == 0
    assert not box.mails
    assert len(notices(app)) == 1


def another(app: App, org: str) -> None:
    sealed = app.vault.seal(org, f"{org}@example.org")
    create_org(app.store, org=org, workspace=f"ws_{org}", name="B", sealed_email=sealed, at=app.clock(), by="test")
    set_low_balance(app.store, org=org, threshold=rupees(50), at=app.clock(), by="test")
    project(app)


def test_a_fault_with_one_org_keeps_it_from_no_other(app: App, box: Letterbox) -> None:
    another(app, "org_b")
    box.faults = [AttributeError("a fault of ours")]
    assert run(app) == 1
    assert [mail.to for mail in box.mails] == ["org_b@example.org"]


def test_while_the_mail_server_is_away_one_mail_is_lost_at_most(app: App, box: Letterbox) -> None:
    another(app, "org_b")
    box.faults = [MailUnreachable("away")]
    assert run(app) == 0
    assert not box.mails
    project(app)
    assert run(app) == 1
    assert [mail.to for mail in box.mails] == ["org_b@example.org"]


def test_enough_credit_says_nothing(app: App, box: Letterbox) -> None:
    give(app, 10)
    assert run(app) == 0
    assert not box.mails


def test_whoever_wants_to_hear_nothing_hears_nothing(app: App, box: Letterbox) -> None:
    warn_below(app, None)
    assert run(app) == 0


def test_nothing_is_on_record_while_nobody_could_be_told(make_app: Callable[..., App], app: App) -> None:
    assert run(make_app(mailer=None)) == 0
    app.vault.erase(ORG)
    assert run(app) == 0
    assert not notices(app)
