"""The chart of accounts, and what each fact of money enters in the books.

Both are data: a line debits one account and credits another with the same amount, so that nothing but a balanced entry
can be written. Amounts are nano-rupees.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditReturned,
    CreditWithdrawn,
    CreditWithheld,
    RequestSettled,
)
from domain.payments.events import (
    ChargebackLost,
    DocumentIssued,
    PaymentCaptured,
    PaymentReturned,
    PaymentSetAside,
    RefundFound,
    RefundProcessed,
)

Kind = Literal["asset", "liability", "income", "expense", "control"]


class Account(NamedTuple):
    """An account of the chart: assets and expenses have debit balances, liabilities and income credit balances, and a
    control account has none between two appends to the log."""

    kind: Kind
    what: str


CHART: Mapping[str, Account] = {
    "gateway_clearing": Account("asset", "Money the payment gateway has for us or has paid out to our bank, less fees"),
    "gst_input": Account("asset", "GST in the gateway's fees, to be set off against GST payable"),
    "payment_clearing": Account("control", "Money that moved and is not yet divided into credit and tax"),
    "customer_credit": Account("liability", "Credit that orgs can spend or that calls in flight hold"),
    "refunds_withheld": Account("liability", "Credit set aside for refunds under way"),
    "chargebacks_withheld": Account("liability", "Credit set aside for chargebacks that are not decided"),
    "payments_set_aside": Account("liability", "Money that fitted no order and has to go back"),
    "cgst_payable": Account("liability", "Central tax on what was received"),
    "sgst_payable": Account("liability", "State tax on what was received"),
    "utgst_payable": Account("liability", "Union territory tax on what was received"),
    "igst_payable": Account("liability", "Integrated tax on what was received"),
    "usage_revenue": Account("income", "Calls served, as debited, without GST"),
    "credit_taken_back": Account("income", "Promo credit withdrawn with a refunded payment"),
    "promo_expense": Account("expense", "Credit given without a payment, less what expired of it"),
    "goodwill_expense": Account("expense", "Credit given back for disputed calls"),
    "gateway_fees": Account("expense", "What the payment gateway kept, without GST"),
    "chargeback_losses": Account("expense", "Chargebacks and refunds by other hands, beyond the credit withdrawn"),
}


class Line(NamedTuple):
    """One line of an entry. A negative amount enters the same two accounts the other way round."""

    debit: str
    credit: str
    amount: Callable[[Any], int]


def _nanos(field: str) -> Callable[[Any], int]:
    return lambda fact: int(getattr(fact, field))


def _paise(field: str) -> Callable[[Any], int]:
    return lambda fact: int(getattr(fact, field)) * NANOS_PER_PAISA


def _for_refund(fact: CreditWithheld | CreditReturned | CreditWithdrawn) -> int:
    return fact.amount if fact.reference.startswith("refund_") else 0


def _for_chargeback(fact: CreditWithheld | CreditReturned | CreditWithdrawn) -> int:
    return fact.amount - _for_refund(fact)


def _granted(*, for_dispute: bool) -> Callable[[CreditGranted], int]:
    return lambda fact: fact.amount if fact.grant.startswith("dispute:") is for_dispute else 0


def _captured_less_fees(fact: PaymentCaptured) -> int:
    return (fact.amount_paise - fact.fee_paise) * NANOS_PER_PAISA


def _fees_without_gst(fact: PaymentCaptured | PaymentSetAside) -> int:
    return (fact.fee_paise - fact.fee_tax_paise) * NANOS_PER_PAISA


def _refunded_beyond_credit(fact: RefundProcessed) -> int:
    return fact.tax.total * NANOS_PER_PAISA - fact.credit


def _tax_lost(fact: ChargebackLost) -> int:
    return 0 if fact.tax is None else fact.tax.heads * NANOS_PER_PAISA


def _lost_beyond_credit(fact: ChargebackLost) -> int:
    return fact.amount_paise * NANOS_PER_PAISA - fact.withheld - _tax_lost(fact)


def _found_beyond_credit(fact: RefundFound) -> int:
    return fact.amount_paise * NANOS_PER_PAISA - fact.withdrawn


def _if_rupees(field: str) -> Callable[[PaymentSetAside | PaymentReturned], int]:
    """Nothing for money of another currency: what it is worth in rupees is known once it has been exchanged."""
    return lambda fact: int(getattr(fact, field)) * NANOS_PER_PAISA if fact.currency == "INR" else 0


DIRECTION: Mapping[str, int] = {
    "receipt_voucher": 1,
    "tax_invoice": 1,
    "refund_voucher": -1,
    "credit_note": -1,
}
"""Whether a document of that kind makes tax payable or takes it back."""


def _tax(head: str) -> Callable[[DocumentIssued], int]:
    return lambda fact: DIRECTION[fact.kind] * int(getattr(fact.tax, head)) * NANOS_PER_PAISA


# Facts that are not here move no money of their own: a hold only promises credit; an order, a failed or authorised
# payment and a chargeback that was opened or won change no account; the credit of a promo code is entered as the grant
# that it is; a document that is cancelled takes no tax back, since the money stays. A shortfall was never credit, so it
# is no revenue either.
ENTRIES: Mapping[type[Event], tuple[Line, ...]] = {
    CreditGranted: (
        Line("promo_expense", "customer_credit", _granted(for_dispute=False)),
        Line("goodwill_expense", "customer_credit", _granted(for_dispute=True)),
    ),
    CreditExpired: (Line("customer_credit", "promo_expense", _nanos("amount")),),
    RequestSettled: (Line("customer_credit", "usage_revenue", _nanos("cost")),),
    # A capture: three facts of one append, after which the control account is back at zero.
    PaymentCaptured: (
        Line("gateway_clearing", "payment_clearing", _captured_less_fees),
        Line("gateway_fees", "payment_clearing", _fees_without_gst),
        Line("gst_input", "payment_clearing", _paise("fee_tax_paise")),
    ),
    CreditAdded: (Line("payment_clearing", "customer_credit", _nanos("amount")),),
    DocumentIssued: (
        Line("payment_clearing", "cgst_payable", _tax("cgst")),
        Line("payment_clearing", "sgst_payable", _tax("sgst")),
        Line("payment_clearing", "utgst_payable", _tax("utgst")),
        Line("payment_clearing", "igst_payable", _tax("igst")),
    ),
    # The payer is owed all of it; what the gateway kept of it is our expense.
    PaymentSetAside: (
        Line("gateway_clearing", "payments_set_aside", _if_rupees("amount_paise")),
        Line("gateway_fees", "gateway_clearing", _fees_without_gst),
        Line("gst_input", "gateway_clearing", _paise("fee_tax_paise")),
    ),
    PaymentReturned: (
        Line("payments_set_aside", "gateway_clearing", _if_rupees("amount_paise")),
        Line("chargeback_losses", "gateway_clearing", _if_rupees("lost_paise")),
    ),
    # A refund or chargeback: credit is withheld; in the end it is returned, or withdrawn. Its money comes with that,
    # and a document for credit that had not been used: GST on what was used stays payable, whoever has the money.
    CreditWithheld: (
        Line("customer_credit", "refunds_withheld", _for_refund),
        Line("customer_credit", "chargebacks_withheld", _for_chargeback),
    ),
    CreditReturned: (
        Line("refunds_withheld", "customer_credit", _for_refund),
        Line("chargebacks_withheld", "customer_credit", _for_chargeback),
    ),
    CreditWithdrawn: (
        Line("refunds_withheld", "credit_taken_back", _for_refund),
        Line("chargebacks_withheld", "credit_taken_back", _for_chargeback),
    ),
    RefundProcessed: (
        Line("credit_taken_back", "gateway_clearing", _nanos("credit")),
        Line("payment_clearing", "gateway_clearing", _refunded_beyond_credit),
    ),
    # A refund by other hands: nobody issued a document, so GST on it stays payable until an accountant decides.
    RefundFound: (
        Line("credit_taken_back", "gateway_clearing", _nanos("withdrawn")),
        Line("chargeback_losses", "gateway_clearing", _found_beyond_credit),
    ),
    ChargebackLost: (
        Line("credit_taken_back", "gateway_clearing", _nanos("withheld")),
        Line("payment_clearing", "gateway_clearing", _tax_lost),
        Line("chargeback_losses", "gateway_clearing", _lost_beyond_credit),
    ),
}


def entry_of(fact: Event) -> Iterator[tuple[str, str, int]]:
    """What a fact enters: the account to debit, the one to credit, and the amount, which is above zero."""
    for line in ENTRIES.get(type(fact), ()):
        amount = line.amount(fact)
        if amount > 0:
            yield line.debit, line.credit, amount
        elif amount < 0:
            yield line.credit, line.debit, -amount
