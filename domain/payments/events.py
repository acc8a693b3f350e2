"""The facts of payments: orders, what became of them, refunds, chargebacks, promo codes, documents, billing profiles.

Streams: `payment:<order>` has an order with its payments, refunds and chargebacks; `promo:<code>` a promo code and
`redemption:<code>` who used it, one fact each; `document:<series>` the documents of a series and financial year, one
fact each, so that a document's number is its version there; `billing:<org>` where an org is billed.

Amounts of money that moves outside are paise, `…_paise`; credit is nano-rupees. `buyer` is sealed.
"""

import msgspec

from domain.kernel.events import Event, fact


class Tax(msgspec.Struct, frozen=True, omit_defaults=True):
    """An amount and its GST in paise: `taxable` and the heads make the total, to the paisa. `percent` is of all heads.

    Within a State cgst and sgst (utgst in union territories without a legislature), else igst."""

    taxable: int
    percent: int
    cgst: int = 0
    sgst: int = 0
    utgst: int = 0
    igst: int = 0

    @property
    def heads(self) -> int:
        return self.cgst + self.sgst + self.utgst + self.igst

    @property
    def total(self) -> int:
        return self.taxable + self.heads


# Where an org is billed


@fact("payments.billing_address_set.v1")
class BillingAddressSet(Event, frozen=True, kw_only=True):
    """`buyer` is the sealed address block; the State's GST code decides the place of supply. Whatever goes to a
    `special_zone` (a special economic zone) goes to another State as far as tax is concerned."""

    org: str
    buyer: str
    state: str
    registered: bool = False
    special_zone: bool = False


@fact("payments.low_balance_set.v1")
class LowBalanceSet(Event, frozen=True, kw_only=True):
    """From now on a mail is sent when less than `threshold` nano-rupees are available; None for never."""

    org: str
    threshold: int | None


@fact("payments.low_balance_noticed.v1")
class LowBalanceNoticed(Event, frozen=True, kw_only=True):
    """The org was told that `available` is below its `threshold`, both in nano-rupees."""

    org: str
    available: int
    threshold: int


# Top-ups


@fact("payments.top_up_ordered.v1")
class TopUpOrdered(Event, frozen=True, kw_only=True):
    """An org wants to pay. All that the capture needs is fixed here: the credit, the tax, the buyer, the promo code."""

    org: str
    order: str
    credit: int
    tax: Tax
    place_of_supply: str
    buyer: str
    promo: str = ""
    special_zone: bool = False


@fact("payments.payment_authorized.v1")
class PaymentAuthorized(Event, frozen=True, kw_only=True):
    org: str
    payment: str
    method: str = ""


@fact("payments.payment_failed.v1")
class PaymentFailed(Event, frozen=True, kw_only=True):
    """An attempt to pay failed. A later one may succeed, and so may this one, days later."""

    org: str
    payment: str
    method: str = ""
    reason: str = ""


@fact("payments.payment_captured.v1")
class PaymentCaptured(Event, frozen=True, kw_only=True):
    """The money is ours. `fee_paise` is what the payment gateway kept, `fee_tax_paise` the GST in it; `learned` is the
    way by which we first heard: `handler`, `webhook`, `sweep` or `operator`. `paid` is the moment of payment."""

    org: str
    order: str
    payment: str
    amount_paise: int
    method: str
    learned: str
    paid: int
    fee_paise: int = 0
    fee_tax_paise: int = 0
    reference: str = ""


@fact("payments.payment_set_aside.v1")
class PaymentSetAside(Event, frozen=True, kw_only=True):
    """Money that does not fit its order was not credited: an operator has to look, and to send it back.

    `amount_paise` is what of it is still with us, in the smallest unit of `currency`. `reason` is `unknown_order` (then
    `org` is empty), `wrong_amount`, `wrong_currency`, `wrong_method`, `order_paid_already`, `org_deleted`, or
    `sent_back` where the gateway had given money back before it could be credited. What the gateway kept is as in
    `PaymentCaptured`."""

    org: str
    order: str
    payment: str
    amount_paise: int
    reason: str
    currency: str = "INR"
    fee_paise: int = 0
    fee_tax_paise: int = 0


@fact("payments.return_accepted.v1")
class ReturnAccepted(Event, frozen=True, kw_only=True):
    """The payment gateway sends money back that was set aside, as its refund `gateway_refund`. Stream: that of the
    payment, as for the two facts that may follow."""

    org: str
    payment: str
    gateway_refund: str


@fact("payments.payment_returned.v1")
class PaymentReturned(Event, frozen=True, kw_only=True):
    """So much of what was set aside has gone back, in the smallest unit of `currency`: as the gateway's refund
    `gateway_refund`, which the payer's bank calls `reference`, or by a `chargeback` that the bank won. `lost_paise` is
    what went on top, though it had gone back before."""

    org: str
    payment: str
    amount_paise: int
    gateway_refund: str = ""
    chargeback: str = ""
    reference: str = ""
    currency: str = "INR"
    lost_paise: int = 0


@fact("payments.return_failed.v1")
class ReturnFailed(Event, frozen=True, kw_only=True):
    """The payer's bank did not take it: the money is still set aside."""

    org: str
    payment: str
    gateway_refund: str


# Refunds and chargebacks


@fact("payments.refund_requested.v1")
class RefundRequested(Event, frozen=True, kw_only=True):
    """`refund` is our id and the idempotency key towards the payment gateway. `tax.total` goes back to the source; the
    `credit` and the promo credit that came with the payment are withheld until it has. `reason` is sealed for the org.
    """

    org: str
    refund: str
    payment: str
    credit: int
    tax: Tax
    reason: str = ""


@fact("payments.refund_accepted.v1")
class RefundAccepted(Event, frozen=True, kw_only=True):
    """The payment gateway knows the refund, under the id `gateway_refund`, and works on it."""

    org: str
    refund: str
    payment: str
    gateway_refund: str


@fact("payments.refund_processed.v1")
class RefundProcessed(Event, frozen=True, kw_only=True):
    """The money has gone back. `document` is the number of the refund voucher or credit note that was issued for it,
    `reference` what the payer's bank calls the refund."""

    org: str
    refund: str
    payment: str
    tax: Tax
    credit: int
    gateway_refund: str = ""
    reference: str = ""
    document: str = ""


@fact("payments.refund_failed.v1")
class RefundFailed(Event, frozen=True, kw_only=True):
    org: str
    refund: str
    payment: str
    reason: str = ""


@fact("payments.refund_found.v1")
class RefundFound(Event, frozen=True, kw_only=True):
    """Money of a payment went back by other hands, such as in the payment gateway's dashboard, as its refund
    `gateway_refund`. Of what `amount_paise` had bought, `withdrawn` nano-rupees of the payment's credit were still
    there; what was left of its promo credit went on top. Nobody drew up a document: that is up to an operator."""

    org: str
    payment: str
    gateway_refund: str
    amount_paise: int
    withdrawn: int


@fact("payments.chargeback_opened.v1")
class ChargebackOpened(Event, frozen=True, kw_only=True):
    """The payer's bank demands the money back. `withheld` nano-rupees of paid credit were set aside: never more than is
    available, so it may be less than the demand. Promo credit that came with the payment was set aside on top."""

    org: str
    chargeback: str
    payment: str
    amount_paise: int
    withheld: int
    phase: str = ""
    reason: str = ""


@fact("payments.chargeback_won.v1")
class ChargebackWon(Event, frozen=True, kw_only=True):
    org: str
    chargeback: str
    payment: str


@fact("payments.chargeback_lost.v1")
class ChargebackLost(Event, frozen=True, kw_only=True):
    """The bank took `amount_paise` back. Of paid credit, `withheld` nano-rupees were still there to be withdrawn. What
    of the payment's own credit was among them is an advance that went back without a supply: `document` is the refund
    voucher or credit note for it, `tax` its amount and GST; none where nothing of it was left."""

    org: str
    chargeback: str
    payment: str
    amount_paise: int
    withheld: int
    tax: Tax | None = None
    document: str = ""


# Promo codes


@fact("payments.promo_created.v1")
class PromoCreated(Event, frozen=True, kw_only=True):
    """A code gives `fixed` nano-rupees, or `percent` of the bought credit up to `cap`, with a purchase of at least
    `bought_min` nano-rupees of credit. It can be used from `starts` until `ends`, `uses_max` times in all and once per
    org; its credit lives `credit_days`."""

    code: str
    fixed: int | None = None
    percent: int | None = None
    cap: int | None = None
    starts: int | None = None
    ends: int | None = None
    uses_max: int | None = None
    credit_days: int | None = None
    bought_min: int | None = None


@fact("payments.promo_disabled.v1")
class PromoDisabled(Event, frozen=True, kw_only=True):
    code: str


@fact("payments.promo_redeemed.v1")
class PromoRedeemed(Event, frozen=True, kw_only=True):
    """`amount` nano-rupees of promo credit came with a payment; the account has them as the grant `promo:<code>`."""

    code: str
    org: str
    payment: str
    amount: int


@fact("payments.promo_missed.v1")
class PromoMissed(Event, frozen=True, kw_only=True):
    """A payment was credited without the promo credit that its order asked for: the code could no longer be redeemed.
    `reason` is `unknown`, `disabled`, `not_yet`, `over`, `used_up`, `too_little` or `redeemed`. Stream: that of the
    payment."""

    org: str
    code: str
    payment: str
    reason: str


# Documents


@fact("payments.document_issued.v1")
class DocumentIssued(Event, frozen=True, kw_only=True):
    """A legal document of `kind` (`receipt_voucher`, `tax_invoice`, `refund_voucher`, `credit_note`) with its number.

    `facts` is the sealed JSON of all that is printed on it; amounts and State are repeated for the books.
    `original` is the number of the document that a refund voucher or credit note refers to.
    """

    org: str
    kind: str
    number: str
    payment: str
    tax: Tax
    place_of_supply: str
    facts: str
    refund: str = ""
    original: str = ""


@fact("payments.document_cancelled.v1")
class DocumentCancelled(Event, frozen=True, kw_only=True):
    """Stream: that of the payment, since a document's own series has one fact per number. The number stays used."""

    org: str
    number: str
    reason: str


@fact("payments.document_rendered.v1")
class DocumentRendered(Event, frozen=True, kw_only=True):
    """The document's PDF was made and signed, once and for good. Stream: that of the payment."""

    org: str
    number: str
    sha256: str
    size: int


@fact("payments.document_mailed.v1")
class DocumentMailed(Event, frozen=True, kw_only=True):
    """A mail server took the document in charge. Recorded afterwards, so a crash in between may bring a second mail,
    but no document stays unmailed. Stream: that of the payment."""

    org: str
    number: str


@fact("payments.document_mail_refused.v1")
class DocumentMailRefused(Event, frozen=True, kw_only=True):
    """The document is not mailed: nobody to mail it to, or a server that will not have it. Stream: that of the
    payment."""

    org: str
    number: str
    reason: str
