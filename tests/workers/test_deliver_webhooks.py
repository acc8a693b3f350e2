"""Notices reach endpoints signed, once each as far as we can tell, and again until they do; over real HTTP."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from adapters.ledger import LedgerWriter
from adapters.settings import Settings
from adapters.wiring import App
from domain.accounts.service import create_org, update_workspace
from domain.kernel.clock import DAY, SECOND, ist_month
from domain.kernel.money import rupees
from domain.keys.service import KeyTerms
from domain.ledger.credit import grant_credit
from domain.monitoring.events import AlertBreached, AlertRecovered
from domain.payments.billing import set_low_balance
from domain.webhooks.deliveries import GAPS_SECONDS, GIVEN_UP_AFTER, ask_again, delivery_id, make_secret
from domain.webhooks.endpoints import (
    ALERT_TYPES,
    TYPES,
    add_endpoint,
    ask_test,
    change_endpoint,
    remove_endpoint,
    rotate_secret,
)
from domain.webhooks.events import DeliveryTried
from projections.webhooks import deliveries_of
from tests.adapters.bookings import hold_of, settlement_of
from tests.documents import given_document
from tests.fakes import ClockAhead, Letterbox
from tests.given import Minted, given_key, given_workspace
from tests.hooks import Received, receiver
from tests.workers.scene import project
from workers.deliver_webhooks import run
from workers.notice_budgets import run as notice_budgets
from workers.notice_low_balance import run as notice_low_balance

ORG = "org_a"


@pytest.fixture
def clock() -> ClockAhead:
    return ClockAhead()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, redis_url="", egress_allowed=("127.0.0.1",), egress_http=True)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    app = make_app()
    given_org(app, ORG)
    return app


def given_org(app: App, org: str) -> None:
    sealed = app.vault.seal(org, f"{org}@example.org")
    create_org(app.store, org=org, workspace=f"ws_{org}", name=org, sealed_email=sealed, at=app.clock(), by="test")
    grant = {"grant": f"g_{org}", "amount": rupees(40), "reason": "t"}
    grant_credit(app.store, org=org, at=app.clock(), by="test", **grant)


def hook(app: App, url: str, *types: str, org: str = ORG, alert: str = "") -> tuple[str, str]:
    """A new endpoint: its id and its secret."""
    endpoint, secret = app.new_id("wh"), make_secret(app.entropy(32))
    add_endpoint(
        app.store,
        org=org,
        endpoint=endpoint,
        url=app.vault.seal(org, url),
        secret=app.vault.seal(org, secret),
        types=types or tuple(TYPES),
        alert=alert,
        endpoints_max=10,
        at=app.clock(),
        by="test",
    )
    project(app)
    return endpoint, secret


def sample(app: App, endpoint: str, *, org: str = ORG) -> str:
    """Asks for a notice that tells of nothing; the id of its delivery."""
    position = ask_test(app.store, org=org, endpoint=endpoint, at=app.clock(), by="test")
    project(app)
    return delivery_id(position=position, endpoint=endpoint)


def document(app: App, org: str = ORG, payment: str = "pay_A") -> str:
    number = given_document(app, org, payment_id=payment, order_id=f"order_{payment}")
    project(app)
    return number


def deliver(app: App) -> int:
    done = run(app)
    project(app)
    return done


def deliveries(app: App, endpoint: str, *, org: str = ORG) -> list[dict[str, Any]]:
    with app.reading() as connection:
        return deliveries_of(connection, org, endpoint, before=None, limit=100)


def tries(app: App, delivery: str) -> list[DeliveryTried]:
    return [fact.event for fact in app.log.stream(f"delivery:{delivery}") if isinstance(fact.event, DeliveryTried)]


def endpoint_of(app: App, endpoint: str) -> Any:
    return app.webhooks_of(ORG).by_id[endpoint]


def verified(got: Received, secret: str) -> Any:
    """What was received, as the library of Standard Webhooks reads it. Raises WebhookVerificationError."""
    return Webhook(secret).verify(got.body, got.headers)


def test_the_library_verifies_what_we_send_byte_for_byte(app: App) -> None:
    with receiver() as there:
        endpoint, secret = hook(app, there.url, "receipt.issued")
        number = document(app)
        assert deliver(app) == 1
        (got,) = there.received
        told = verified(got, secret)
        assert told["type"] == "receipt.issued"
        assert told["data"] == {
            "number": number,
            "kind": "receipt_voucher",
            "payment_id": "pay_A",
            "refund_id": None,
            "total_inr": "590",
        }
        (row,) = deliveries(app, endpoint)
        assert got.headers["webhook-id"] == row["delivery"]
        assert (got.path, got.headers["content-type"]) == ("/hook", "application/json")
        assert (row["status"], row["attempts"], row["response_code"], row["next_at"]) == ("delivered", 1, 200, None)
        for wrong in (make_secret(bytes(32)), secret[:-4] + "AAA="):
            with pytest.raises(WebhookVerificationError):
                verified(got, wrong)
        altered = got.body.replace(b"590", b"990")
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(altered, got.headers)
        assert deliver(app) == 0


def test_an_endpoint_is_told_of_what_it_asked_for_and_its_org_alone(app: App) -> None:
    given_org(app, "org_b")
    with receiver() as ours, receiver() as quiet, receiver() as theirs:
        hook(app, ours.url)
        hook(app, quiet.url, "balance.low")
        hook(app, theirs.url, org="org_b")
        document(app)
        assert deliver(app) == 1
        assert (len(ours.received), len(quiet.received), len(theirs.received)) == (1, 0, 0)


def test_what_happened_before_an_endpoint_was_there_is_not_sent(app: App) -> None:
    document(app)
    with receiver() as there:
        hook(app, there.url)
        assert deliver(app) == 0


def test_a_low_balance_is_told_even_where_no_mail_can_be_sent(make_app: Callable[..., App], app: App) -> None:
    silent = make_app(mailer=None)
    set_low_balance(app.store, org=ORG, threshold=rupees(50), at=app.clock(), by="test")
    project(app)
    assert notice_low_balance(silent) == 0, "nobody listens yet"
    with receiver() as there:
        _, secret = hook(app, there.url, "balance.low")
        assert notice_low_balance(silent) == 1
        project(app)
        assert deliver(silent) == 1
        told = verified(there.received[0], secret)
        assert (told["type"], told["data"]) == ("balance.low", {"available_inr": "40", "threshold_inr": "50"})


def test_a_budget_is_told_at_80_and_at_100_percent_once_a_month(app: App, clock: ClockAhead) -> None:
    key = given_key(app.store, ORG, terms=KeyTerms(name="production", monthly_budget=rupees(10)), at=app.clock())
    with receiver() as there:
        _, secret = hook(app, there.url, "budget.reached")
        for inr, told in ((7, 0), (1, 1), (1, 0), (1, 1)):
            spend(app, key, inr)
            assert notice_budgets(app) == told
            assert notice_budgets(app) == 0, "the read model is late, the log is not"
            project(app)
            assert notice_budgets(app) == 0
            assert deliver(app) == told
        month = str(ist_month(app.clock()))
        first, second = (verified(got, secret)["data"] for got in there.received)
        about = {"id": key.key, "name": "production", "month": f"{month[:4]}-{month[4:]}", "budget_inr": "10"}
        assert first == {**about, "percent": 80, "used_inr": "8"}
        assert second == {**about, "percent": 100, "used_inr": "10"}
        clock.forward(seconds=32 * 86_400)
        assert notice_budgets(app) == 0
        spend(app, key, 10)
        assert notice_budgets(app) == 1, "the first notice of a month may be that all is used"


def test_a_workspace_has_its_budget_told_too(app: App) -> None:
    given_workspace(app.store, ORG, "ws_b", at=app.clock())
    update_workspace(app.store, org=ORG, workspace="ws_b", monthly_budget=rupees(10), at=app.clock(), by="test")
    key = given_key(app.store, ORG, terms=KeyTerms(name="k", workspace="ws_b"), at=app.clock())
    with receiver() as there:
        hook(app, there.url, "budget.reached")
        spend(app, key, 9)
        assert notice_budgets(app) == 1
        project(app)
        assert deliver(app) == 1
        assert json.loads(there.received[0].body)["data"]["id"] == "ws_b"


def spend(app: App, key: Minted, inr: int) -> None:
    """One call of the key that costs so much."""
    at = app.clock()
    held = hold_of(org=ORG, key=key.key, workspace=key.workspace, amount=rupees(inr), at=at, expires=at + 60 * SECOND)

    async def call() -> None:
        writer = LedgerWriter(app.database_url, clock=app.clock)
        await writer.start()
        request = app.new_id("req")
        assert await writer.hold(request, held) is None
        assert await writer.end(request, settlement_of(held, cost=rupees(inr), at=at)) is None
        await writer.close()

    asyncio.run(call())
    project(app)


def test_an_alert_reaches_its_own_endpoint_and_those_of_its_org(app: App) -> None:
    with receiver() as own, receiver() as other, receiver() as general:
        _, secret = hook(app, own.url, *ALERT_TYPES, alert="alr_1")
        hook(app, other.url, *ALERT_TYPES, alert="alr_2")
        hook(app, general.url, "alert.breached")
        fields = {"owner": ORG, "collection": "fast", "alert": "alr_1", "checks": 4}
        share = {"metric": "error_rate", "threshold": 250_000}
        record(app, "alert:alr_1", AlertBreached(**fields, **share, notice=1, figure=500_000))
        record(app, "alert:alr_1", AlertRecovered(**fields, metric="latency_p95", threshold=900, notice=2, figure=450))
        assert deliver(app) == 3
        breached, recovered = (verified(got, secret) for got in own.received)
        assert (breached["type"], recovered["type"]) == ALERT_TYPES
        named = {"alert_id": "alr_1", "collection": "fast", "checks": 4}
        assert breached["data"] == {**named, "metric": "error_rate", "threshold": 0.25, "value": 0.5}
        assert recovered["data"] == {**named, "metric": "latency_p95", "threshold": 900, "value": 450}
        assert (len(other.received), len(general.received)) == (0, 1)


def record(app: App, stream: str, event: Any) -> None:
    app.store.locked(lambda _: [(stream, event)], at=app.clock(), by="test")
    project(app)


def test_a_failed_notice_is_sent_again_under_its_id_until_it_has_been_six_times(app: App, clock: ClockAhead) -> None:
    with receiver(500) as there:
        endpoint, secret = hook(app, there.url)
        document(app)
        for gap in (*GAPS_SECONDS, None):
            assert deliver(app) == 1
            assert deliver(app) == 0
            if gap is not None:
                assert deliveries(app, endpoint)[0]["status"] == "pending"
                clock.forward(seconds=gap - 5)
                assert deliver(app) == 0, "too early"
                clock.forward(seconds=6)
        (row,) = deliveries(app, endpoint)
        assert (row["status"], row["attempts"], row["response_code"]) == ("failed", 6, 500)
        assert row["problem"] == "answered 500"
        clock.forward(seconds=30 * 86_400)
        assert deliver(app) == 0
        assert [each.attempt for each in tries(app, row["delivery"])] == [1, 2, 3, 4, 5, 6]
        assert {got.headers["webhook-id"] for got in there.received} == {row["delivery"]}
        assert len({got.body for got in there.received}) == 1
        assert len({got.headers["webhook-timestamp"] for got in there.received}) == 6
        for got in there.received:
            signed = b".".join([row["delivery"].encode(), got.headers["webhook-timestamp"].encode(), got.body])
            assert verify_at_its_time(secret, signed) == got.headers["webhook-signature"]
    assert sum(GAPS_SECONDS) == 8 * 3600


def verify_at_its_time(secret: str, signed: bytes) -> str:
    """The signature by the library's own arithmetic, whatever the time is."""
    import base64

    from standardwebhooks.webhooks import hmac_data

    return "v1," + base64.b64encode(hmac_data(base64.b64decode(secret.removeprefix("whsec_")), signed)).decode()


def test_a_redelivery_goes_out_at_once_and_starts_over(app: App) -> None:
    with receiver(500, 200, 200) as there:
        endpoint, _ = hook(app, there.url)
        document(app)
        deliver(app)
        (row,) = deliveries(app, endpoint)
        for _ in range(2):
            ask_again(app.store, org=ORG, endpoint=endpoint, delivery=row["delivery"], at=app.clock(), by="test")
            project(app)
            assert deliver(app) == 1
            assert deliver(app) == 0
        assert [each.attempt for each in tries(app, row["delivery"])] == [1, 1, 1]
        assert {got.headers["webhook-id"] for got in there.received} == {row["delivery"]}
        assert deliveries(app, endpoint)[0]["status"] == "delivered"


def test_one_that_hangs_holds_up_nobody_else(app: App) -> None:
    with receiver(seconds=12) as slow, receiver() as quick:
        bad, _ = hook(app, slow.url)
        good, _ = hook(app, quick.url)
        document(app)
        document(app, payment="pay_B")
        began = time.monotonic()
        thread = threading.Thread(target=run, args=(app,))
        thread.start()
        while len(quick.received) < 2 and time.monotonic() - began < 8:
            time.sleep(0.05)
        assert len(quick.received) == 2
        assert len(slow.received) == 1, "one at a time, so that what is slow is not made slower"
        assert run(app) == 0, "while one run is under way, another has nothing to do"
        thread.join()
        assert time.monotonic() - began > 10
        project(app)
        assert {row["status"] for row in deliveries(app, good)} == {"delivered"}
        late = deliveries(app, bad)[-1]
        assert (late["status"], late["response_code"]) == ("pending", None)
        assert late["problem"] == "The endpoint did not answer within 10 seconds."


def test_a_redirect_is_not_followed_and_counts_as_a_failure(app: App) -> None:
    with receiver(307) as there, receiver() as elsewhere:
        there.headers = {"location": elsewhere.url}
        endpoint, _ = hook(app, there.url)
        deliveries_id = sample(app, endpoint)
        assert deliver(app) == 1
        assert not elsewhere.received
        (tried,) = tries(app, deliveries_id)
        assert (tried.status, tried.problem) == (307, "redirected, which is not followed")


def test_nothing_is_sent_behind_the_wall(make_app: Callable[..., App], app: App, tmp_path: Path) -> None:
    with receiver() as there:
        endpoint, _ = hook(app, there.url)
        delivery = sample(app, endpoint)
        from adapters.egress import Egress

        guarded = make_app(egress=Egress(http=True))
        assert deliver(guarded) == 1
        assert not there.received
        (tried,) = tries(app, delivery)
        assert tried.status == 0
        assert "never called" in tried.problem


def test_a_rotated_secret_signs_beside_the_one_before_for_a_day(app: App, clock: ClockAhead) -> None:
    with receiver() as there:
        endpoint, old = hook(app, there.url)
        new = make_secret(app.entropy(32))
        sealed = app.vault.seal(ORG, new)
        rotate_secret(app.store, org=ORG, endpoint=endpoint, secret=sealed, at=app.clock(), by="test")
        sample(app, endpoint)
        deliver(app)
        assert verified(there.received[0], old) == verified(there.received[0], new)
        assert there.received[0].headers["webhook-signature"].count("v1,") == 2
        clock.forward(seconds=86_401)
        sample(app, endpoint)
        deliver(app)
        assert there.received[1].headers["webhook-signature"].count("v1,") == 1


def test_a_test_is_sent_once(app: App, clock: ClockAhead) -> None:
    with receiver(500) as there:
        endpoint, secret = hook(app, there.url, "balance.low")
        sample(app, endpoint)
        assert deliver(app) == 1
        assert verified(there.received[0], secret)["type"] == "webhook.test"
        assert deliveries(app, endpoint)[0]["status"] == "failed"
        clock.forward(seconds=3600)
        assert deliver(app) == 0


def test_one_that_fails_for_five_days_is_disabled_and_its_owner_told_once(
    app: App, clock: ClockAhead, box: Letterbox
) -> None:
    with receiver(500) as there:
        endpoint, _ = hook(app, there.url)
        for number in range(2):
            document(app, payment=f"pay_{number}")
            for gap in (0, *GAPS_SECONDS):
                clock.forward(seconds=gap + 1)
                deliver(app)
            assert endpoint_of(app, endpoint).disabled == ("" if number == 0 else "failing")
            clock.forward(seconds=GIVEN_UP_AFTER // SECOND)
        (mail,) = box.mails
        assert mail.to == f"{ORG}@example.org"
        assert "127.0.0.1" in mail.text
        assert endpoint in mail.text
        sent = len(there.received)
        document(app, payment="pay_late")
        assert deliver(app) == 0
        there.answers = [200]
        change_endpoint(app.store, org=ORG, endpoint=endpoint, enabled=True, at=app.clock(), by="test")
        project(app)
        assert deliver(app) == 0, "what was missed is not sent later"
        document(app, payment="pay_later")
        assert deliver(app) == 1
        assert len(there.received) == sent + 1


def test_one_that_works_now_and_then_stays_on(app: App, clock: ClockAhead) -> None:
    with receiver(500, 500, 500, 500, 500, 500, 200, 500) as there:
        endpoint, _ = hook(app, there.url)
        for number in range(3):
            document(app, payment=f"pay_{number}")
            for gap in (0, *GAPS_SECONDS):
                clock.forward(seconds=gap + 1)
                deliver(app)
            clock.forward(seconds=3 * DAY // SECOND)
        assert endpoint_of(app, endpoint).disabled == ""


def test_one_that_says_it_is_gone_is_disabled_at_once(app: App, box: Letterbox) -> None:
    with receiver(410) as there:
        endpoint, _ = hook(app, there.url)
        document(app)
        deliver(app)
        assert endpoint_of(app, endpoint).disabled == "gone"
        assert len(box.mails) == 1
        assert deliveries(app, endpoint)[0]["status"] == "failed"


def test_a_removed_one_gets_nothing_any_more(app: App) -> None:
    with receiver() as there:
        endpoint, _ = hook(app, there.url)
        document(app)
        remove_endpoint(app.store, org=ORG, endpoint=endpoint, at=app.clock(), by="test")
        assert run(app) == 1, "the read model has not heard of it; the log has"
        project(app)
        assert run(app) == 0
        assert not there.received
        assert deliveries(app, endpoint) == []


def test_a_read_model_that_is_late_sends_nothing_twice(app: App) -> None:
    with receiver() as there:
        hook(app, there.url)
        document(app)
        run(app)
        run(app)
        assert len(there.received) == 1


def test_a_worker_that_dies_before_recording_sends_it_again_under_its_id(
    make_app: Callable[..., App], app: App
) -> None:
    class DyingStore:
        def change(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("it dies here")

        def close(self) -> None:
            pass

    with receiver() as there:
        hook(app, there.url)
        document(app)
        run(make_app(store=DyingStore()))
        assert deliver(app) == 1
        assert len({got.headers["webhook-id"] for got in there.received}) == 1
        assert len(there.received) == 2


def test_a_fault_in_one_delivery_stops_no_other(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with receiver() as there:
        endpoint = app.new_id("wh")
        add_endpoint(
            app.store,
            org=ORG,
            endpoint=endpoint,
            url="v1.not-a-seal",
            secret="v1.not-a-seal",
            types=["receipt.issued"],
            endpoints_max=10,
            at=app.clock(),
            by="test",
        )
        hook(app, there.url)
        document(app)
        deliver(app)
        assert len(there.received) == 1
        assert f"a delivery to {endpoint} failed" in caplog.text


def test_secrets_and_urls_are_sealed_in_the_log(app: App) -> None:
    with receiver() as there:
        endpoint, secret = hook(app, f"{there.url}?token=hush")
        sample(app, endpoint)
        deliver(app)
    with psycopg.connect(app.database_url) as connection:
        states = b"".join(bytes(row[0]) for row in connection.execute("select state from events").fetchall())
    assert b"hush" not in states
    assert secret.encode() not in states
    assert json.loads(there.received[0].body)["data"].keys() == {"asked_at"}
