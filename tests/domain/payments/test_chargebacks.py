"""Given a payment, when a bank says this of a dispute, in whatever order, then so much of its credit is set aside."""

import itertools
from dataclasses import replace

import pytest

from domain.kernel.errors import Conflict, NotFound, Unavailable
from domain.kernel.money import NANOS_PER_PAISA, rupees
from domain.ledger.credit import account_of, grant_credit
from domain.ledger.events import CreditWithheld
from domain.payments.chargebacks import demand
from domain.payments.document import Document, settlement
from domain.payments.events import ChargebackLost, ChargebackOpened, ChargebackWon, DocumentIssued, Tax
from domain.payments.issue import as_issued
from domain.payments.ports import DisputeStatus
from tests.domain.payments.refund_scene import ORG, Scene
from tests.domain.payments.till import TERMS, given_order
from tests.fakes import PlainSeals


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_open_dispute_sets_the_credit_aside(scene: Scene) -> None:
    payment = scene.pay(100)
    before = len(scene.store.facts)
    scene.dispute(payment, "open")
    assert scene.store.names(before) == ["ChargebackOpened", "CreditWithheld"]
    assert (scene.available, scene.withheld) == (0, rupees(100))
    scene.check()


def test_a_dispute_that_is_won_gives_it_back(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.dispute(payment, "open")
    scene.dispute(payment, "won")
    assert (scene.available, scene.withheld) == (rupees(100), 0)
    scene.check()
    assert scene.refunded(payment).state == "processed", "and it can be refunded again"


def test_a_dispute_that_is_lost_takes_it(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.dispute(payment, "open")
    scene.dispute(payment, "lost", deducted=11_800)
    assert (scene.available, scene.withheld) == (0, 0)
    (lost,) = scene.facts(ChargebackLost)
    assert (lost.amount_paise, lost.withheld) == (11_800, rupees(100))
    scene.check()


@pytest.mark.parametrize(("deducted", "available"), [(0, rupees(100)), (11_800, 0)])
def test_an_enquiry_that_is_closed_costs_only_what_was_deducted(scene: Scene, deducted: int, available: int) -> None:
    payment = scene.pay(100)
    scene.dispute(payment, "open")
    scene.dispute(payment, "closed", deducted=deducted)
    assert scene.available == available
    scene.check()


@pytest.mark.parametrize("end", ["won", "lost"])
def test_repeats_and_any_order_come_to_the_same(end: DisputeStatus) -> None:
    told: list[DisputeStatus] = ["open", "under_review", end]
    for order in itertools.permutations([*told, *told]):
        scene = Scene()
        payment = scene.pay(100)
        for status in order:
            scene.dispute(payment, status)
        assert len(scene.facts(ChargebackOpened)) == 1
        assert (len(scene.facts(ChargebackWon)), len(scene.facts(ChargebackLost))) == (end == "won", end == "lost")
        assert (scene.available, scene.withheld) == (rupees(100) if end == "won" else 0, 0)
        scene.check()


def test_what_was_decided_stays_decided(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.dispute(payment, "lost")
    before = len(scene.store.facts)
    for status in ("open", "won", "lost", "closed"):
        scene.dispute(payment, status)
    assert scene.store.names(before) == []


def test_what_was_spent_is_our_loss_and_on_record(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(80))
    scene.dispute(payment, "lost")
    assert scene.available == 0
    (lost,) = scene.facts(ChargebackLost)
    assert (lost.amount_paise, lost.withheld) == (11_800, rupees(20))
    scene.check()


def test_nothing_is_left_to_set_aside(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(100))
    for status in ("open", "lost"):
        scene.dispute(payment, status)
    assert scene.facts(CreditWithheld) == []
    assert scene.facts(ChargebackLost)[0].withheld == 0
    scene.check()


def test_the_disputed_payment_pays_first_then_other_paid_credit(scene: Scene) -> None:
    first = scene.pay(100)
    second = scene.pay(100, promo=scene.promo(50))
    scene.spend(rupees(80))
    scene.dispute(second, "open", paise=11_800)
    assert scene.facts(CreditWithheld)[0].parts == {second: rupees(100)}
    scene.dispute(first, "open", id="disp_2", paise=11_800)
    assert scene.facts(CreditWithheld)[1].parts == {first: rupees(70)}
    scene.check()


@pytest.mark.parametrize(("end", "available"), [("won", rupees(200)), ("lost", 0)])
def test_promo_credit_that_came_with_the_payment_goes_the_way_of_the_money(
    scene: Scene, end: DisputeStatus, available: int
) -> None:
    payment = scene.pay(100, promo=scene.promo(100))
    scene.dispute(payment, "open")
    assert (scene.available, scene.withheld) == (0, rupees(200))
    assert scene.facts(ChargebackOpened)[0].withheld == rupees(100), "the books know what was paid for"
    scene.dispute(payment, end)
    assert (scene.available, scene.withheld) == (available, 0)
    assert [lost.withheld for lost in scene.facts(ChargebackLost)] == [rupees(100)] * (end == "lost")
    scene.check()


def test_promo_credit_is_set_aside_though_no_paid_credit_is_left(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(100))
    gifted = scene.pay(100, promo=scene.promo(50))
    scene.dispute(payment, "open")
    assert scene.available == rupees(50), "a gift that came with another payment is left alone"
    scene.dispute(gifted, "open", id="disp_2")
    scene.dispute(gifted, "lost", id="disp_2")
    assert scene.available == 0
    assert scene.facts(ChargebackLost)[0].withheld == 0
    scene.check()


def test_calls_in_flight_keep_what_they_were_promised_of_a_gift(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(50))
    call = scene.hold(rupees(30))
    assert call is not None
    scene.dispute(payment, "open")
    assert (scene.available, scene.withheld) == (0, rupees(120))
    scene.settle(call, rupees(30))
    scene.check()


def test_what_the_gateway_says_of_a_dispute_is_recorded_clean_and_short(scene: Scene) -> None:
    payment = scene.pay(100)
    for status in ("open", "won"):
        scene.dispute(payment, status, id="disp\0_1" + "x" * 400, phase="charge\0back" + "x" * 400)
    (opened,) = scene.facts(ChargebackOpened)
    assert "\0" not in opened.chargeback + opened.phase
    assert max(len(opened.chargeback), len(opened.phase)) <= 300
    assert scene.available == rupees(100), "and it is known again"


def test_given_credit_does_not_answer_for_a_payment(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.refunded(payment)
    grant_credit(scene.store, org=ORG, grant="thanks", amount=rupees(50), reason="", at=scene.at, by="operator")
    scene.dispute(payment, "open")
    assert (scene.available, scene.withheld) == (rupees(50), 0)
    scene.check()


def test_a_dispute_that_was_won_before_we_heard_of_it_touches_nothing(scene: Scene) -> None:
    payment = scene.pay(100)
    before = len(scene.store.facts)
    scene.dispute(payment, "won")
    assert scene.store.names(before) == ["ChargebackOpened", "ChargebackWon"]
    assert scene.facts(ChargebackOpened)[0].withheld == 0


def test_other_paid_credit_answers_for_what_was_spent(scene: Scene) -> None:
    first, second = scene.pay(100), scene.pay(100)
    scene.spend(rupees(60))
    scene.dispute(first, "open")
    assert scene.facts(CreditWithheld)[0].parts == {first: rupees(40), second: rupees(60)}
    assert scene.available == rupees(40)
    scene.check()


def test_calls_in_flight_keep_what_they_were_promised(scene: Scene) -> None:
    payment = scene.pay(100)
    call = scene.hold(rupees(30))
    assert call is not None
    scene.dispute(payment, "open")
    assert (scene.available, scene.withheld) == (0, rupees(70))
    scene.settle(call, rupees(30))
    scene.check()


@pytest.mark.parametrize(
    ("paise", "nanos"),
    [(11_800, rupees(100)), (5_900, rupees(50)), (1, NANOS_PER_PAISA), (20_000, rupees(100)), (0, 0)],
)
def test_a_demand_means_the_credit_that_its_money_had_bought(paise: int, nanos: int) -> None:
    assert demand(Tax(taxable=10_000, percent=18, igst=1_800), paise) == nanos


@pytest.mark.parametrize("status", ["open", "lost"])
def test_a_disputed_payment_is_not_refunded_on_top(scene: Scene, status: DisputeStatus) -> None:
    payment = scene.pay(100)
    scene.dispute(payment, status, paise=1_000)
    assert scene.available > 0
    with pytest.raises(Conflict, match="demanded") as refused:
        scene.request(payment)
    assert refused.value.code == "nothing_to_refund"


def test_a_refund_under_way_and_a_dispute_do_not_take_the_same_credit(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=60)
    scene.pursue(refund.id)
    scene.dispute(payment, "open")
    assert scene.withheld == rupees(100)
    scene.check()
    scene.gateway.ends(refund.id, "processed")
    scene.pursue(refund.id)
    scene.dispute(payment, "lost")
    assert (scene.available, scene.withheld) == (0, 0)
    scene.check()


@pytest.mark.parametrize(("status", "end"), [("open", "won"), ("open", "lost"), ("lost", "lost")])
def test_a_refund_that_the_gateway_has_not_accepted_ends_when_the_bank_demands_the_payment(
    scene: Scene, status: DisputeStatus, end: DisputeStatus
) -> None:
    payment = scene.pay(100, promo=scene.promo(20))
    refund = scene.request(payment, inr=60)
    scene.dispute(payment, status)
    scene.pursue(refund.id)
    assert scene.gateway.by_key == {}, "no money went out beside the bank's demand"
    assert scene.refund(refund.id).state == "failed"
    assert (scene.available, scene.withheld) == (0, 0 if status == "lost" else rupees(120))
    scene.dispute(payment, end)
    assert (scene.available, scene.withheld) == (rupees(120) if end == "won" else 0, 0)
    scene.check()


def test_a_refund_that_the_gateway_made_unheard_goes_on_though_the_bank_demands_the_payment(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=60)
    scene.gateway.trouble = "after"
    with pytest.raises(Unavailable):
        scene.pursue(refund.id)
    scene.gateway.trouble = ""
    scene.dispute(payment, "open")
    scene.pursue(refund.id)
    assert scene.refund(refund.id).state == "pending"
    scene.check()


def test_what_a_failed_refund_returns_answers_for_the_dispute(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=60)
    scene.pursue(refund.id)
    scene.dispute(payment, "open")
    scene.gateway.ends(refund.id, "failed")
    scene.pursue(refund.id)
    assert (scene.available, scene.withheld) == (0, rupees(100))
    scene.dispute(payment, "lost")
    assert scene.facts(ChargebackLost)[0].withheld == rupees(100)
    scene.check()


def test_a_dispute_of_nobodys_payment_is_none_of_ours(scene: Scene) -> None:
    for order in ("", "order_of_another_shop00"):
        scene.dispute(scene.gateway.pays(order).id, "lost")
    with pytest.raises(NotFound):
        scene.chargebacks.look("disp_unknown", at=scene.at, by="razorpay")
    assert scene.facts(ChargebackOpened) == []


def test_a_dispute_of_a_payment_that_was_set_aside_touches_no_credit(scene: Scene) -> None:
    scene.pay(100)
    ordered = given_order(scene.till, ORG)
    wrong = scene.gateway.pays(ordered.order, amount_paise=1)
    scene.till.look(wrong.id, learned="webhook", at=scene.at, by="test")
    scene.dispute(wrong.id, "open")
    assert account_of(scene.store, ORG).withheld_amount == 0


def test_a_dispute_that_comes_before_its_payment_is_to_be_told_again(scene: Scene) -> None:
    ordered = given_order(scene.till, ORG)
    with pytest.raises(Unavailable, match="not on record yet"):
        scene.dispute(scene.gateway.pays(ordered.order).id, "open")


# Its tax


def test_what_was_not_used_is_an_advance_that_went_back_and_has_a_voucher(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.spend(rupees(60) + 7)
    scene.dispute(payment, "open")
    before = len(scene.store.facts)
    scene.dispute(payment, "lost")
    assert scene.store.names(before) == ["ChargebackLost", "CreditWithdrawn", "DocumentIssued"]
    receipt, voucher = scene.facts(DocumentIssued)
    (lost,) = scene.facts(ChargebackLost)
    assert (voucher.kind, voucher.original, voucher.refund) == ("refund_voucher", receipt.number, "disp_1")
    assert (lost.document, lost.tax, lost.withheld) == (voucher.number, voucher.tax, rupees(40) - 7)
    assert (voucher.tax.taxable, voucher.tax.cgst, voucher.tax.sgst) == (3_999, 360, 360)
    assert "Chargeback" in dict(settlement(opened(voucher)))
    scene.check()


def opened(voucher: DocumentIssued) -> Document:
    return as_issued(voucher, PlainSeals().open(f"books:{ORG}", voucher.facts) or "")


def test_what_was_used_was_supplied_and_its_tax_stays(scene: Scene) -> None:
    payment = scene.pay(100)
    scene.pay(100)
    scene.spend(rupees(100))
    scene.dispute(payment, "lost")
    (lost,) = scene.facts(ChargebackLost)
    assert (lost.withheld, lost.tax, lost.document) == (rupees(100), None, "")
    assert len(scene.facts(DocumentIssued)) == 2
    scene.check()


def test_refunds_and_chargebacks_of_a_payment_give_its_tax_back_once() -> None:
    scene = Scene(replace(TERMS, mode="included"))
    payment = scene.pay(101)
    scene.refunded(payment, inr=33)
    pending = scene.request(payment, inr=20)
    scene.pursue(pending.id)
    for n, paise in enumerate((1_001, 10_100)):
        scene.dispute(payment, "lost", id=f"disp_{n}", paise=paise, deducted=paise)
    scene.gateway.ends(pending.id, "processed")
    scene.pursue(pending.id)
    receipt, *back = scene.facts(DocumentIssued)
    assert len(back) == 4
    for head in ("taxable", "cgst", "sgst"):
        assert sum(getattr(voucher.tax, head) for voucher in back) == getattr(receipt.tax, head)
    scene.check()


def test_a_bank_that_takes_less_than_it_demanded_leaves_the_rest(scene: Scene) -> None:
    payment = scene.pay(100, promo=scene.promo(20))
    scene.dispute(payment, "open")
    assert scene.available == 0
    scene.dispute(payment, "lost", deducted=5_900)
    assert scene.available == rupees(50)
    (lost,) = scene.facts(ChargebackLost)
    assert (lost.amount_paise, lost.withheld, lost.tax and lost.tax.total) == (5_900, rupees(50), 5_900)
    scene.check()


def test_an_account_that_moves_on_while_the_voucher_is_drafted_is_looked_at_again(scene: Scene) -> None:
    payment = scene.pay(100)
    refund = scene.request(payment, inr=60)
    scene.pursue(refund.id)
    scene.gateway.ends(refund.id, "failed")

    def while_drafting(payment: str) -> DocumentIssued | None:
        scene.pursue(refund.id)
        return scene._original(payment)

    scene.chargebacks = replace(scene.chargebacks, original=while_drafting)
    with pytest.raises(Unavailable, match="moved on"):
        scene.dispute(payment, "lost")
    scene.dispute(payment, "lost")
    assert [lost.withheld for lost in scene.facts(ChargebackLost)] == [rupees(100)]
    scene.check()
