"""An org that pays, spends and wants its money back, in memory; and what must be true of its books at any moment."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from domain.catalog.price import make_rates
from domain.inference.metering import Usage
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, NotFound, Refusal, Unavailable
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA, rupees
from domain.ledger.credit import account_of, expire_credit
from domain.ledger.events import CreditAdded, CreditExpired, CreditGranted, CreditHeld, CreditWithdrawn, RequestSettled
from domain.ledger.guards import Guards, evolve, may_hold
from domain.payments.chargebacks import ChargebackDesk
from domain.payments.events import ChargebackLost, DocumentIssued, PromoCreated, TopUpOrdered
from domain.payments.ports import DisputeStatus, GatewayDispute, GatewayRefund
from domain.payments.promo import create_promo
from domain.payments.refunds import OrderRefunds, Refund, RefundDesk, refundable, wallet_of
from domain.payments.tax import HEADS
from domain.payments.topup import Terms
from tests.domain.payments.till import KARNATAKA, TERMS, FakeGateway, given_order, make_till
from tests.fakes import PlainSeals
from tests.given import NOON, given_key, given_org
from tests.memory_store import MemoryStore

ORG = "org_a"
RATES = make_rates(provider="p", model="m", priced_on="2024-01-01", input=1, output=1)


class RefundingGateway(FakeGateway):
    """Refunds too: one for each key, `pending` until a test moves it. While `trouble` is "before" or "after", a refund
    is not heard of or carried out without an answer; while it is a Refusal, that is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.by_key: dict[str, GatewayRefund] = {}
        self.trouble: str | Refusal = ""
        self.first_status: Any = "pending"
        self.now_seconds = NOON // SECOND
        self.by_dispute: dict[str, GatewayDispute] = {}

    def refund(self, payment: str, *, amount_paise: int, key: str, notes: Mapping[str, str]) -> GatewayRefund:
        if isinstance(self.trouble, Refusal):
            raise self.trouble
        if self.trouble == "before":
            raise Unavailable("payments_unavailable", "no answer")
        if key not in self.by_key:
            back = sum(refund.amount_paise for refund in self.refunds_of(payment) if refund.status != "failed")
            if back + amount_paise > self.payments[payment].amount_paise:
                raise Conflict("payment_refused", "more than was captured")
            self.by_key[key] = GatewayRefund(
                id=f"rfnd_{len(self.by_key) + 1:014d}",
                payment=payment,
                amount_paise=amount_paise,
                currency="INR",
                status=self.first_status,
                created_seconds=self.now_seconds,
            )
        if self.trouble == "after":
            raise Unavailable("payments_unavailable", "no answer")
        made = self.by_key[key]
        assert (made.payment, made.amount_paise) == (payment, amount_paise), "another request under the same key"
        return made

    def refunds_of(self, payment: str) -> Sequence[GatewayRefund]:
        return [refund for refund in self.by_key.values() if refund.payment == payment]

    def refund_status(self, id: str) -> GatewayRefund:
        if isinstance(self.trouble, Refusal):
            raise self.trouble
        if self.trouble:
            raise Unavailable("payments_unavailable", "no answer")
        found = next((refund for refund in self.by_key.values() if refund.id == id), None)
        if found is None:
            raise NotFound("not_found", "no such refund")
        return found

    def refunds(self, *, since_seconds: int) -> Sequence[GatewayRefund]:
        return [refund for refund in self.by_key.values() if refund.created_seconds >= since_seconds]

    def dispute(self, id: str) -> GatewayDispute:
        if id not in self.by_dispute:
            raise NotFound("not_found", "no such dispute")
        return self.by_dispute[id]

    def disputes(self, *, since_seconds: int) -> Sequence[GatewayDispute]:
        return [dispute for dispute in self.by_dispute.values() if dispute.created_seconds >= since_seconds]

    def close(self) -> None:
        pass

    def ends(self, refund: str, status: Any) -> None:
        """What the bank says, of our refund."""
        self.by_key[refund] = replace(self.by_key[refund], status=status, reference="arn1")


class Scene:
    """One org; each method is one thing that happens. Payments and requests are known by their numbers, from 0."""

    def __init__(self, terms: Terms = TERMS, state: str = KARNATAKA) -> None:
        self.at = NOON
        self.store = MemoryStore()
        self.gateway = RefundingGateway()
        self.till = make_till(self.store, self.gateway, terms)
        self.desk = RefundDesk(store=self.store, gateway=self.gateway, seals=PlainSeals(), original=self._original)
        self.chargebacks = ChargebackDesk(
            store=self.store, gateway=self.gateway, seals=PlainSeals(), original=self._original
        )
        self.state = state
        self.key = given_key(self.store, given_org(self.store, ORG, inr=0), key="key_a")
        self.payments: list[str] = []
        self.refunds: list[str] = []
        self.holds: dict[str, int] = {}
        self._numbers = itertools.count(1)

    # What happens

    def pay(self, inr: int = 100, *, promo: str = "") -> str:
        ordered = given_order(self.till, ORG, rupees=inr, promo=promo, state=self.state, at=self.at)
        payment = self.gateway.pays(ordered.order, created_seconds=self.at // SECOND).id
        self.till.look(payment, learned="webhook", at=self.at, by="test")
        self.payments.append(payment)
        return payment

    def promo(self, inr: int, *, days: int | None = None) -> str:
        code = f"CODE{next(self._numbers)}"
        create_promo(
            self.store, PromoCreated(code=code, fixed=rupees(inr), credit_days=days), at=self.at, by="operator"
        )
        return code

    def hold(self, amount: int) -> str | None:
        """A call in flight; None where there is too little credit."""
        held = CreditHeld(
            at=self.at,
            org=ORG,
            key=self.key.key,
            workspace=self.key.workspace,
            amount=amount,
            expires=self.at + 900 * SECOND,
            endpoint="chat",
            model="m",
            candidates=("p/m",),
        )
        if may_hold(self._guards(), held) is not None:
            return None
        request = f"req_{next(self._numbers)}"
        self.holds[request] = amount
        self.store.facts.append((f"request:{request}", held))
        return request

    def settle(self, request: str, cost: int) -> None:
        settled = RequestSettled(
            at=self.at,
            org=ORG,
            key=self.key.key,
            workspace=self.key.workspace,
            endpoint="chat",
            model="m",
            provider="p",
            residency="IN",
            held=self.holds.pop(request),
            cost=cost,
            usage=Usage(input=cost),
            rates=RATES,
            attempts=(),
            first_byte_ms=1,
            duration_ms=2,
        )
        self.store.facts.append((f"request:{request}", settled))

    def spend(self, amount: int) -> None:
        request = self.hold(amount)
        assert request is not None, "there is too little to spend"
        self.settle(request, amount)

    def expire(self) -> None:
        for lot in account_of(self.store, ORG).lots.values():
            expire_credit(self.store, org=ORG, lot=lot.id, at=self.at, by="worker")

    def request(
        self, payment: str, *, inr: int | None = None, credit: int | None = None, id: str = "", reason: str = ""
    ) -> Refund:
        """Asks for a refund of `inr` rupees or `credit` nano-rupees, or of all."""
        id = id or f"refund_{next(self._numbers):010d}"
        refund = self.desk.request(
            org=ORG,
            refund=id,
            payment=payment,
            credit=rupees(inr) if inr is not None else credit,
            reason=reason,
            at=self.at,
            by="test",
        )
        if id not in self.refunds:
            self.refunds.append(id)
        return refund

    def pursue(self, refund: str) -> None:
        self.desk.pursue(self.refund(refund).order, at=self.at, by="test")

    def refunded(self, payment: str, *, inr: int | None = None) -> Refund:
        """A refund from its request to its end."""
        refund = self.request(payment, inr=inr)
        self.pursue(refund.id)
        self.gateway.ends(refund.id, "processed")
        self.pursue(refund.id)
        return self.refund(refund.id)

    def dispute(
        self,
        payment: str,
        status: DisputeStatus,
        *,
        id: str = "disp_1",
        paise: int = 11_800,
        deducted: int = 0,
        phase: str = "chargeback",
    ) -> None:
        self.gateway.by_dispute[id] = GatewayDispute(
            id=id,
            payment=payment,
            amount_paise=paise,
            deducted_paise=deducted,
            currency="INR",
            status=status,
            phase=phase,
        )
        self.chargebacks.look(id, at=self.at, by="razorpay")

    # What is so

    def refund(self, id: str) -> Refund:
        """The refund as its facts make it."""
        for order in self.gateway.orders:
            found = self.store.fold(f"payment:{order}", OrderRefunds()).refunds
            if id in found:
                return found[id]
        raise KeyError(id)

    def refundable(self, payment: str) -> int:
        return refundable(wallet_of(self.store, ORG), payment, available=self.available)

    @property
    def available(self) -> int:
        return self.store.balance(ORG).available

    @property
    def withheld(self) -> int:
        return account_of(self.store, ORG).withheld_amount

    def facts(self, kind: type) -> list[Any]:
        return [event for _, event in self.store.facts if isinstance(event, kind)]

    def check(self) -> None:
        """The promises of the books."""
        balance, account = self.store.balance(ORG), account_of(self.store, ORG)
        assert balance.available >= 0
        assert balance.held == sum(self.holds.values())
        assert account.left == balance.available + balance.held
        came = sum(event.amount for event in self.facts(CreditAdded) + self.facts(CreditGranted))
        went = sum(event.amount for event in self.facts(CreditExpired) + self.facts(CreditWithdrawn))
        assert came - went - balance.spent == account.left + account.withheld_amount
        documents = [event for event in self.facts(DocumentIssued) if event.kind == "refund_voucher"]
        assert [event.number for event in documents] == [f"RF/24-25/{n:06d}" for n in range(1, len(documents) + 1)]
        ended = {event.refund: event for event in documents}
        wallet = wallet_of(self.store, ORG)
        for order in self.gateway.orders:
            known = self.store.fold(f"payment:{order}", OrderRefunds())
            if known.payment:
                self._check_payment(known, wallet, ended)
        for lost in self.facts(ChargebackLost):
            document = ended.pop(lost.chargeback, None)
            assert (document and document.number) == (lost.document or None)
        assert not ended, "a document of a refund that was not processed"

    def _check_payment(self, known: OrderRefunds, wallet: Any, documents: dict[str, Event]) -> None:
        refunds = [*known.refunds.values()]
        assert sum(refund.is_open for refund in refunds) <= 1
        back = [refund for refund in refunds if refund.state != "failed"]
        ordered: TopUpOrdered | None = known.ordered
        assert ordered is not None
        lot = wallet.account.lots[known.payment]
        gifts = sum(wallet.spent_of(gift) for gift in wallet.gifts_of(known.payment))
        assert 0 <= wallet.spent_of(lot) <= lot.amount
        assert sum(refund.credit for refund in back) <= lot.amount - wallet.spent_of(lot)
        assert not back or sum(refund.credit for refund in back) <= lot.amount - gifts
        lost = [fact.tax for fact in self.facts(ChargebackLost) if fact.payment == known.payment and fact.tax]
        for head in ("taxable", *HEADS):
            given_back = sum(getattr(tax, head) for tax in [*lost, *(refund.tax for refund in back)])
            assert given_back <= getattr(ordered.tax, head)
        assert all(refund.tax.taxable * NANOS_PER_PAISA == refund.credit for refund in refunds)
        if sum(refund.credit for refund in back) == lot.amount:
            assert sum(refund.tax.total for refund in back) == ordered.tax.total, "tax was lost in rounding"
        at_gateway = self.gateway.refunds_of(known.payment)
        assert len(at_gateway) <= len(refunds), "refunded twice"
        assert sum(each.amount_paise for each in at_gateway if each.status != "failed") <= ordered.tax.total
        for refund in refunds:
            assert (refund.state == "processed") == (documents.pop(refund.id, None) is not None)
            assert (refund.id in wallet.account.withheld) == refund.is_open

    def _original(self, payment: str) -> DocumentIssued | None:
        found = [event for event in self.facts(DocumentIssued) if event.payment == payment and not event.refund]
        return found[0] if found else None

    def _guards(self) -> Guards:
        guards = Guards()
        for stream, event in self.store.facts:
            evolve(guards, stream, event)
        return guards
