"""Given what was paid and spent, when money is to go back, then so much of it does, once, with tax and paper."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound, Refusal, Unavailable
from domain.kernel.money import NANOS_PER_PAISA, rupees
from domain.ledger.events import CreditReturned, CreditWithdrawn, CreditWithheld
from domain.payments.events import DocumentIssued, RefundFound, RefundProcessed
from domain.payments.issue import as_issued
from domain.payments.ports import WebhookNotice
from domain.payments.refunds import REFUNDS_A_DAY, note_refund, reason_of, refund_id
from tests.domain.payments.refund_scene import ORG, Scene
from tests.domain.payments.till import TERMS
from tests.fakes import PlainSeals
from tests.given import given_org


@pytest.fixture
def scene() -> Scene:
    return Scene()


def code(refused: pytest.ExceptionInfo[Refusal]) -> str:
    return refused.value.code


# The way of one refund


def test_a_refund_is_withheld_accepted_and_then_gone_with_a_voucher(scene: Scene) -> None:
    payment = scene.pay(100)
    before = len(scene.store.facts)
    refund = scene.request(payment, reason="no longer needed")
    assert scene.store.names(before) == ["RefundRequested", "CreditWithheld"]
    assert (refund.state, refund.credit, refund.tax.total) == ("requested", rupees(100), 11_800)
    assert (refund.reason, reason_of(refund, PlainSeals())) == (f"{ORG}|no longer needed", "no longer needed")
    assert (scene.available, scene.withheld) == (0, rupees(100))
    scene.pursue(refund.id)
    assert scene.store.names(before + 2) == ["RefundAccepted"]
    scene.pursue(refund.id)
    assert scene.store.names(before + 3) == [], "the bank works, and nothing is new"
    scene.gateway.ends(refund.id, "processed")
    scene.pursue(refund.id)
    assert scene.store.names(before + 3) == ["RefundProcessed", "CreditWithdrawn", "DocumentIssued"]
    assert (scene.available, scene.withheld) == (0, 0)
    ended = scene.refund(refund.id)
    assert (ended.state, ended.document, ended.reference) == ("processed", "RF/24-25/000001", "arn1")
    scene.check()


def test_the_voucher_takes_back_the_receipt(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.at += DAY
    refund = scene.refunded(payment, inr=25)
    receipt, voucher = scene.facts(DocumentIssued)
    assert (voucher.kind, voucher.original, voucher.refund) == ("refund_voucher", receipt.number, refund.id)
    assert voucher.tax == refund.tax == scene.facts(RefundProcessed)[0].tax
    document = as_issued(voucher, PlainSeals().open(f"books:{ORG}", voucher.facts) or "")
    assert document.refers_to is not None
    assert (document.refers_to.number, document.refers_to.issued_at) == (receipt.number, receipt.at)
    assert (document.credit, document.paid_at, document.issued_at) == (rupees(25), scene.at, scene.at)
    assert (document.payment_id, document.refund_id, document.buyer.name) == (payment, refund.id, "Asha")


def test_a_tax_invoice_is_taken_back_by_a_credit_note() -> None:
    scene = Scene(replace(TERMS, kind="tax_invoice"))
    refund = scene.refunded(scene.pay(100))
    assert refund.document == "CN/24-25/000001"
    assert scene.facts(DocumentIssued)[1].kind == "credit_note"


def test_a_refund_that_fails_brings_the_credit_back(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment)
    scene.pursue(refund.id)
    scene.gateway.ends(refund.id, "failed")
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "failed"
    assert (scene.available, scene.withheld) == (rupees(100), 0)
    assert scene.facts(CreditReturned)[0].amount == rupees(100)
    scene.check()
    assert scene.refunded(payment).state == "processed", "it can be asked for again"
    scene.check()


def test_a_payment_is_refunded_so_many_times_a_day(scene: Scene) -> None:
    payment = scene.pay(100)
    for _ in range(REFUNDS_A_DAY):
        scene.refunded(payment, inr=2)
    with pytest.raises(Conflict) as refused:
        scene.request(payment, inr=2)
    assert refused.value.code == "too_many_refunds"
    scene.at += DAY
    assert scene.refunded(payment, inr=2).state == "processed"


def test_what_the_gateway_refuses_has_failed_and_says_why(scene: Scene) -> None:
    refund = scene.request(scene.pay(100))
    scene.gateway.trouble = Conflict("payment_refused", "older than six months")
    scene.pursue(refund.id)
    assert scene.refund(refund.id).failure == "older than six months"
    assert scene.available == rupees(100)


def test_a_refusal_is_no_end_while_the_gateway_has_sent_back_more_than_it_lists(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=60)
    scene.gateway.trouble = Conflict("payment_refused", "refunded already")
    scene.gateway.move(payment, "captured", refunded_paise=7_080)
    with pytest.raises(Unavailable):
        scene.pursue(refund.id)
    assert (scene.refund(refund.id).state, scene.withheld) == ("requested", rupees(60))
    scene.gateway.trouble = ""
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "pending"


def test_a_refusal_is_an_end_where_the_gateway_lists_all_that_it_sent_back(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.gateway.refund(payment, amount_paise=1_000, key="by_hand_000", notes={})
    scene.gateway.move(payment, "captured", refunded_paise=1_000)
    refund = scene.request(payment)
    scene.pursue(refund.id)
    assert (scene.refund(refund.id).state, scene.available) == ("failed", rupees(100))


@pytest.mark.parametrize("accepted", [False, True])
def test_a_refund_that_the_gateway_does_not_know_has_failed(scene: Scene, accepted: bool) -> None:
    refund = scene.request(scene.pay(100))
    if accepted:
        scene.pursue(refund.id)
        scene.gateway.by_key.clear()
    scene.gateway.trouble = NotFound("not_found", "no such payment")
    scene.pursue(refund.id)
    assert (scene.refund(refund.id).state, scene.refund(refund.id).failure) == ("failed", "no such payment")
    assert (scene.available, scene.withheld) == (rupees(100), 0)


def test_a_refund_that_is_lost_at_the_gateway_has_not_failed_while_its_money_is_gone(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment)
    scene.pursue(refund.id)
    scene.gateway.by_key.clear()
    scene.gateway.move(payment, "captured", refunded_paise=11_800)
    with pytest.raises(Unavailable):
        scene.pursue(refund.id)
    assert (scene.refund(refund.id).state, scene.withheld) == ("pending", rupees(100))


def test_a_refund_that_was_accepted_does_not_fail_by_a_refused_question(scene: Scene) -> None:
    refund = scene.request(scene.pay(100))
    scene.pursue(refund.id)
    scene.gateway.trouble = Conflict("payment_refused", "something is wrong with the question")
    with pytest.raises(Conflict):
        scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "pending"


@pytest.mark.parametrize("ending", ["pending", "processed", "failed"])
def test_two_who_pursue_a_refund_at_once_record_each_step_once(scene: Scene, ending: str) -> None:
    refund = scene.request(scene.pay(100))
    ask, others = scene.gateway.refund, 1

    def while_another_asks(*given: Any, **named: Any) -> Any:
        nonlocal others
        if others:
            others -= 1
            scene.pursue(refund.id)
        return ask(*given, **named)

    scene.gateway.refund = while_another_asks
    scene.gateway.first_status = ending
    before = len(scene.store.facts)
    scene.pursue(refund.id)
    assert others == 0
    recorded = scene.store.names(before)
    assert len(recorded) == len(set(recorded))
    assert scene.refund(refund.id).state == ending
    scene.check()


def test_an_end_is_final_whatever_is_said_later(scene: Scene) -> None:
    refund = scene.refunded(scene.pay(100))
    scene.gateway.ends(refund.id, "failed")
    before = len(scene.store.facts)
    scene.pursue(refund.id)
    assert scene.store.names(before) == []


def test_a_refund_that_is_processed_at_once_needs_one_look(scene: Scene) -> None:
    scene.gateway.first_status = "processed"
    refund = scene.request(scene.pay(100))
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "processed"
    scene.check()


def test_a_webhook_only_says_where_to_look(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment)
    late = WebhookNotice(event="refund.failed", created_seconds=0, payment=scene.gateway.payments[payment])
    scene.gateway.first_status = "processed"
    note_refund(scene.desk, late, at=scene.at, by="razorpay")
    assert scene.refund(refund.id).state == "processed"
    before = len(scene.store.facts)
    note_refund(scene.desk, late, at=scene.at, by="razorpay")
    note_refund(scene.desk, WebhookNotice(event="refund.failed", created_seconds=0), at=scene.at, by="razorpay")
    assert scene.store.names(before) == []


# How much


def test_what_was_spent_stays_spent(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(40) + 1)
    assert scene.refundable(payment) == rupees(60) - NANOS_PER_PAISA
    with pytest.raises(Invalid, match=r"59\.99") as refused:
        scene.request(payment, inr=60)
    assert code(refused) == "refund_too_large"
    assert scene.refunded(payment).credit == rupees(60) - NANOS_PER_PAISA
    assert scene.available == NANOS_PER_PAISA - 1
    with pytest.raises(Conflict) as refused:
        scene.request(payment)
    assert code(refused) == "nothing_to_refund"
    scene.check()


def test_what_is_promised_to_calls_in_flight_stays(scene: Scene) -> None:
    payment = scene.pay(100)
    call = scene.hold(rupees(30))
    assert call is not None
    assert scene.refundable(payment) == rupees(70)
    scene.request(payment)
    scene.settle(call, rupees(30))
    scene.check()


def test_the_payment_before_is_spent_before(scene: Scene) -> None:
    first, second = scene.pay(100), scene.pay(200)
    scene.spend(rupees(150))
    with pytest.raises(Conflict) as refused:
        scene.request(first)
    assert code(refused) == "nothing_to_refund"
    assert scene.request(second).credit == rupees(150)


def test_parts_add_up_to_the_payment_to_the_paisa() -> None:
    scene = Scene(replace(TERMS, mode="included"))
    payment = scene.pay(101)
    ordered = scene.refund(scene.refunded(payment, inr=7).id)
    for inr in (13, 1, 29):
        scene.refunded(payment, inr=inr)
        scene.check()
    last = scene.refunded(payment)
    back = [scene.refund(id).tax for id in scene.refunds]
    assert sum(tax.total for tax in back) == 10_100
    assert sum(tax.cgst for tax in back) == sum(tax.sgst for tax in back)
    assert scene.refundable(payment) == 0 == scene.available
    assert last.credit + ordered.credit + rupees(43) == sum(tax.taxable for tax in back) * NANOS_PER_PAISA


@given(
    inr=st.integers(100, 1_000),
    parts=st.lists(st.integers(100, 40_000), max_size=6),
    failing=st.lists(st.booleans(), min_size=6, max_size=6),
    included=st.booleans(),
)
def test_however_it_is_cut_up_all_tax_comes_back(
    inr: int, parts: list[int], failing: list[bool], included: bool
) -> None:
    scene = Scene(replace(TERMS, mode="included" if included else "on_top"))
    payment = scene.pay(inr)
    ordered = scene.refundable(payment) // NANOS_PER_PAISA
    for paise, fails in zip(parts, failing, strict=False):
        left = scene.refundable(payment) // NANOS_PER_PAISA
        if paise > left - 100:
            break
        refund = scene.request(payment, credit=paise * NANOS_PER_PAISA)
        scene.pursue(refund.id)
        scene.gateway.ends(refund.id, "failed" if fails else "processed")
        scene.pursue(refund.id)
    scene.refunded(payment)
    back = [refund.tax for refund in map(scene.refund, scene.refunds) if refund.state == "processed"]
    assert sum(tax.taxable for tax in back) == ordered
    assert sum(tax.total for tax in back) == scene.gateway.payments[payment].amount_paise
    scene.check()


@pytest.mark.parametrize(
    ("credit", "expected"),
    [
        (0, "invalid_amount"),
        (-1, "invalid_amount"),
        (rupees(1) + 1, "invalid_amount"),
        (83 * NANOS_PER_PAISA, "invalid_amount"),
        (rupees(101), "refund_too_large"),
    ],
)
def test_an_amount_that_cannot_go_back_is_refused(scene: Scene, credit: int, expected: str) -> None:
    payment = scene.pay(100)
    with pytest.raises(Invalid) as refused:
        scene.request(payment, credit=credit)
    assert (code(refused), refused.value.param) == (expected, "amount_inr")
    assert scene.facts(CreditWithheld) == []


def test_less_than_a_rupee_cannot_go_back(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(100) - 83 * NANOS_PER_PAISA)
    assert scene.refundable(payment) == 83 * NANOS_PER_PAISA
    with pytest.raises(Conflict) as refused:
        scene.request(payment)
    assert code(refused) == "nothing_to_refund"


def test_given_credit_never_becomes_money() -> None:
    scene = Scene()
    given_org(scene.store, "org_b", inr=500)
    with pytest.raises(NotFound):
        scene.desk.request(
            org="org_b", refund="refund_x", payment="grant_org_b", credit=None, reason="", at=scene.at, by="test"
        )


def test_another_orgs_payment_is_not_found(scene: Scene) -> None:
    payment = scene.pay(100)
    given_org(scene.store, "org_b", inr=500)
    with pytest.raises(NotFound) as refused:
        scene.desk.request(
            org="org_b", refund="refund_x", payment=payment, credit=None, reason="", at=scene.at, by="test"
        )
    assert refused.value.param == "payment_id"


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines"])
def test_a_reason_is_one_short_line(scene: Scene, reason: str) -> None:
    with pytest.raises(Invalid):
        scene.request(scene.pay(100), reason=reason)


# Promo credit that came with the payment


def test_promo_credit_goes_with_the_money(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50))
    refund = scene.refunded(payment)
    assert (refund.credit, scene.available) == (rupees(100), 0)
    assert scene.facts(CreditWithdrawn)[0].amount == rupees(150)
    scene.check()


def test_what_was_spent_of_the_promo_credit_is_kept_from_the_money(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50))
    scene.spend(rupees(30))
    refund = scene.refunded(payment)
    assert refund.credit == rupees(70)
    assert scene.available == rupees(30)
    with pytest.raises(Conflict):
        scene.request(payment)
    scene.check()


def test_calls_in_flight_cannot_make_money_of_promo_credit(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50))
    call = scene.hold(rupees(50))
    assert call is not None
    refund = scene.request(payment)
    assert refund.credit == rupees(50), "the promo credit is withheld whole, the call is left the rest of the payment"
    scene.settle(call, rupees(50))
    scene.check()


def test_a_failed_refund_gives_the_promo_credit_back_too(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50))
    refund = scene.request(payment, inr=10)
    assert scene.withheld == rupees(60)
    scene.pursue(refund.id)
    scene.gateway.ends(refund.id, "failed")
    scene.pursue(refund.id)
    assert scene.available == rupees(150)
    scene.check()


def test_promo_credit_that_expired_is_not_kept_from_the_money(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50, days=1))
    scene.spend(rupees(20))
    scene.at += 2 * DAY
    scene.expire()
    assert scene.available == rupees(100)
    assert scene.refundable(payment) == rupees(80)
    assert scene.refunded(payment).credit == rupees(80)
    scene.check()


def test_promo_credit_of_another_payment_is_left_alone(scene: Scene) -> None:
    scene.pay(100, promo=scene.promo(50))
    scene.refunded(scene.pay(200))
    assert scene.available == rupees(150)
    scene.check()


# Again and again


def test_the_same_request_again_is_the_same_refund(scene: Scene) -> None:
    payment = scene.pay(100)
    id = refund_id(ORG, "my key")
    first = scene.request(payment, inr=40, id=id)
    before = len(scene.store.facts)
    assert scene.request(payment, inr=40, id=id) == first
    assert scene.request(payment, id=id) == first
    assert scene.store.names(before) == []


@pytest.mark.parametrize(("inr", "reason"), [(41, ""), (40, "why")])
def test_the_same_key_for_another_request_is_refused(scene: Scene, inr: int, reason: str) -> None:
    payment, other = scene.pay(100), scene.pay(100)
    scene.request(payment, inr=40, id="refund_same")
    for asked in (payment, other):
        with pytest.raises(Conflict) as refused:
            scene.request(asked, inr=inr, reason=reason, id="refund_same")
        assert code(refused) == "idempotency_conflict"


def test_an_idempotency_key_belongs_to_its_org() -> None:
    assert refund_id("org_a", "k") == refund_id("org_a", "k") != refund_id("org_b", "k")


def test_a_payment_has_one_refund_under_way(scene: Scene) -> None:
    payment = scene.pay(100)
    first = scene.request(payment, inr=40)
    with pytest.raises(Conflict, match=first.id) as refused:
        scene.request(payment, inr=40)
    assert code(refused) == "refund_under_way"


@pytest.mark.parametrize("trouble", ["before", "after"])
def test_a_gateway_without_an_answer_is_asked_again_and_refunds_once(scene: Scene, trouble: str) -> None:
    refund = scene.request(scene.pay(100))
    scene.gateway.trouble = trouble
    for _ in range(2):
        with pytest.raises(Unavailable):
            scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "requested"
    scene.gateway.trouble = ""
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "pending"
    assert len(scene.gateway.by_key) == 1
    scene.check()


def test_a_refund_whose_key_the_gateway_has_forgotten_is_found_and_not_made_again(scene: Scene) -> None:
    refund = scene.request(scene.pay(100), inr=40)
    scene.gateway.trouble = "after"
    with pytest.raises(Unavailable):
        scene.pursue(refund.id)
    scene.gateway.trouble = ""
    made = scene.gateway.by_key["forgotten"] = scene.gateway.by_key.pop(refund.id)
    scene.at += DAY
    scene.pursue(refund.id)
    assert scene.refund(refund.id).gateway_refund == made.id
    assert len(scene.gateway.by_key) == 1


@pytest.mark.parametrize("status", ["processed", "failed"])
def test_a_refund_that_was_made_by_hand_takes_the_credit_with_it(scene: Scene, status: str) -> None:
    payment = scene.pay(100)
    scene.gateway.first_status = status
    by_hand = scene.gateway.refund(payment, amount_paise=11_800, key="by_hand_000", notes={})
    refund = scene.request(payment)
    scene.gateway.trouble = Conflict("payment_refused", "refunded already")
    scene.pursue(refund.id)
    ended = scene.refund(refund.id)
    assert ended.state == status
    assert ended.gateway_refund == (by_hand.id if status == "processed" else "")
    assert scene.available == (0 if status == "processed" else rupees(100))


def by_hand(scene: Scene, payment: str, paise: int, *, status: str = "processed") -> WebhookNotice:
    """A refund that was made in the gateway's dashboard, and what its webhook tells."""
    scene.gateway.first_status = status
    made = scene.gateway.refund(payment, amount_paise=paise, key=f"by_hand_{paise}", notes={})
    known = scene.gateway.payments[payment]
    return WebhookNotice(event="refund.processed", created_seconds=0, payment=known, refund=made)


@pytest.mark.parametrize(
    ("spent", "paise", "withdrawn", "available"),
    [(0, 5_900, 50, 50), (0, 11_800, 100, 0), (90, 11_800, 30, 0), (120, 11_800, 0, 0)],
)
def test_a_refund_by_other_hands_takes_what_is_left_of_the_payment_and_its_gift(
    scene: Scene, spent: int, paise: int, withdrawn: int, available: int
) -> None:
    payment = scene.pay(100, promo=scene.promo(20))
    if spent:
        scene.spend(rupees(spent))
    notice = by_hand(scene, payment, paise)
    for _ in range(2):
        note_refund(scene.desk, notice, at=scene.at, by="razorpay")
    (found,) = scene.facts(RefundFound)
    assert (found.payment, found.amount_paise, found.withdrawn) == (payment, paise, rupees(withdrawn))
    assert (scene.available, scene.withheld) == (rupees(available), 0)


def test_what_other_hands_sent_back_is_not_taken_from_another_payment(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(100))
    scene.pay(100)
    note_refund(scene.desk, by_hand(scene, payment, 11_800), at=scene.at, by="razorpay")
    assert scene.facts(RefundFound)[0].withdrawn == 0
    assert scene.available == rupees(100)


def test_a_refund_of_ours_or_one_that_waits_is_not_by_other_hands(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=50)
    note_refund(scene.desk, by_hand(scene, payment, 1_180, status="pending"), at=scene.at, by="razorpay")
    scene.gateway.ends(refund.id, "processed")
    ours = replace(by_hand(scene, payment, 1_180), refund=scene.gateway.by_key[refund.id])
    note_refund(scene.desk, ours, at=scene.at, by="razorpay")
    assert scene.refund(refund.id).state == "processed"
    assert scene.facts(RefundFound) == []


def test_a_refund_by_other_hands_is_not_taken_for_the_next_of_ours(scene: Scene) -> None:
    payment = scene.pay(100)
    note_refund(scene.desk, by_hand(scene, payment, 5_900), at=scene.at, by="razorpay")
    refund = scene.request(payment, inr=50)
    scene.at += DAY
    scene.pursue(refund.id)
    assert len(scene.gateway.by_key) == 2
    assert scene.refund(refund.id).state == "processed"


def test_a_refund_of_ours_is_not_taken_for_the_next_one(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.refunded(payment, inr=50)
    second = scene.request(payment, inr=50)
    scene.at += DAY
    scene.pursue(second.id)
    assert len(scene.gateway.by_key) == 2
    scene.check()


def test_a_refund_waits_for_the_receipt_that_its_voucher_refers_to(scene: Scene) -> None:
    refund = scene.request(scene.pay(100))
    scene.gateway.first_status = "processed"
    without = replace(scene.desk, original=lambda payment: None)
    with pytest.raises(Unavailable):
        without.pursue(refund.order, at=scene.at, by="test")
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "processed"
    scene.check()


class Crash(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("ending", ["processed", "failed"])
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kept", [False, True])
def test_a_crash_at_any_write_loses_nothing_and_refunds_once(ending: str, writes: int, kept: bool) -> None:
    """Killed before or after each append of request, acceptance and end; whoever comes next finishes it."""
    scene = Scene()
    payment = scene.pay(100, promo=scene.promo(10))
    scene.gateway.first_status = ending
    locked, change = scene.store.locked, scene.store.change
    past = 0

    def killed(write):
        def run(*given, **named):
            nonlocal past
            past += 1
            if past - 1 == writes and not kept:
                raise Crash
            done = write(*given, **named)
            if past - 1 == writes:
                raise Crash
            return done

        return run

    scene.store.locked, scene.store.change = killed(locked), killed(change)
    with pytest.raises(Crash):
        scene.pursue(scene.request(payment, id="refund_crash").id)
    scene.store.locked, scene.store.change = locked, change
    scene.refunds = ["refund_crash"]
    scene.check()
    scene.pursue(scene.request(payment, id="refund_crash").id)
    scene.check()
    assert scene.refund("refund_crash").state == ending
    assert scene.available == (0 if ending == "processed" else rupees(110))
    assert len(scene.gateway.by_key) == 1


# Any interleaving

KINDS = (
    "pay gift hold hold settle settle release request request request pursue pursue process process fail trouble open"
    " win lose expire"
)
STEPS = st.lists(
    st.tuples(st.sampled_from([*KINDS.split()]), st.integers(0, 1_000), st.integers(0, 10**11)),
    max_size=40,
)


@given(steps=STEPS, included=st.booleans(), state=st.sampled_from(["29", "32", "04"]))
def test_the_books_hold_in_any_interleaving(steps: list[tuple[str, int, int]], included: bool, state: str) -> None:
    scene = Scene(replace(TERMS, mode="included" if included else "on_top"), state)
    scene.pay(300)
    for kind, one, two in steps:
        with contextlib.suppress(Conflict, Invalid, Unavailable):
            happen(scene, kind, one, two)
        scene.check()
    scene.gateway.trouble = ""
    for id in scene.refunds:
        scene.pursue(id)
        if scene.refund(id).is_open:
            scene.gateway.ends(id, "processed")
            scene.pursue(id)
        assert not scene.refund(id).is_open
    scene.check()


def happen(scene: Scene, kind: str, one: int, two: int) -> None:
    payment = scene.payments[one % len(scene.payments)]
    call = [*scene.holds][one % len(scene.holds)] if scene.holds else ""
    refund = scene.refunds[one % len(scene.refunds)] if scene.refunds else ""
    at_gateway = refund in scene.gateway.by_key and scene.gateway.by_key[refund].status == "pending"
    match kind:
        case "pay":
            scene.pay(100 + one % 900)
        case "gift":
            scene.pay(100 + one % 900, promo=scene.promo(1 + two % 400, days=one % 3 or None))
        case "hold":
            scene.hold(1 + two)
        case "settle" if call:
            scene.settle(call, two % (scene.holds[call] + 1))
        case "release" if call:
            scene.settle(call, 0)
        case "request":
            part = scene.refundable(payment) * (one % 101) // 100
            scene.request(payment, credit=None if two % 3 == 0 else part - part % NANOS_PER_PAISA)
        case "pursue" if refund:
            scene.pursue(refund)
        case "process" if at_gateway:
            scene.gateway.ends(refund, "processed")
        case "fail" if at_gateway:
            scene.gateway.ends(refund, "failed")
        case "trouble":
            scene.gateway.trouble = ["", "", "before", "after"][one % 4]
        case "open":
            scene.dispute(payment, "open", id=f"disp_{payment}", paise=1 + two % 100_000)
        case "win":
            scene.dispute(payment, "won", id=f"disp_{payment}", paise=1 + two % 100_000)
        case "lose":
            scene.dispute(payment, "lost", id=f"disp_{payment}", paise=1 + two % 100_000)
        case "expire":
            scene.at += DAY
            scene.expire()
