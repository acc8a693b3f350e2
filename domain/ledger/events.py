"""The facts of money: credit that comes and goes, is held, extended, settled, released, and requests refused.

A request's stream is `request:<id>`: held, perhaps extended, then exactly one of settled, released, expired; or refused
alone. Every ending repeats who and what it belongs to, so that a reader needs no second look-up.

An org's stream is `account:<org>`. Each of its facts says what the org had `spent` by then in all, in the order of the
log: from that alone follows which credit was spent (`domain/ledger/account.py`). Amounts are nano-rupees.
"""

import msgspec

from domain.catalog.price import Rates
from domain.inference.metering import Usage
from domain.kernel.events import Event, fact
from domain.routing.needs import Optimize
from domain.routing.ranking import Figures


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of one route: `route` is `provider/model`; `end` is `served`, `status`, `connect`, `timeout`, `cut`,
    `protocol`, `error_frame`, `unusable`, or `parameters` where its wire has no words for the request, so that it was
    not called; `milliseconds` until the first byte, or until it failed.
    `cost_unknown`: the provider may have billed us for it; that is never put on the user."""

    route: str
    end: str
    status: int = 0
    milliseconds: int = 0
    cost_unknown: bool = False


@fact("ledger.credit_granted.v1")
class CreditGranted(Event, frozen=True, kw_only=True):
    """Credit that nobody paid for: given by an operator, at sign-up, or for a promo code (`grant` is `promo:<code>`).

    `grant` is unique within the org, so that a repeat is harmless, and is the lot's id. `expires` is None for never.
    """

    org: str
    grant: str
    amount: int
    reason: str
    expires: int | None = None
    payment: str = ""
    spent: int = 0


@fact("ledger.credit_added.v1")
class CreditAdded(Event, frozen=True, kw_only=True):
    """Credit that was paid for. The payment's id is the lot's id: no payment is ever credited twice."""

    org: str
    payment: str
    order: str
    amount: int
    spent: int = 0


@fact("ledger.credit_expired.v1")
class CreditExpired(Event, frozen=True, kw_only=True):
    """A lot's time is over: `amount` of it is gone. `left` is promised to calls in flight or withheld, and
    expires if it comes back."""

    org: str
    lot: str
    amount: int
    left: int = 0
    spent: int = 0


@fact("ledger.credit_withheld.v1")
class CreditWithheld(Event, frozen=True, kw_only=True):
    """Credit set aside for a refund or a chargeback under way, `reference`: neither spendable nor gone.

    `parts` says how much of which lot, `amount` is their sum.
    """

    org: str
    reference: str
    amount: int
    parts: dict[str, int]
    spent: int = 0


@fact("ledger.credit_returned.v1")
class CreditReturned(Event, frozen=True, kw_only=True):
    """The refund failed or the chargeback was won: what was withheld under `reference` can be spent again."""

    org: str
    reference: str
    amount: int
    spent: int = 0


@fact("ledger.credit_withdrawn.v1")
class CreditWithdrawn(Event, frozen=True, kw_only=True):
    """The money went back to its source: what was withheld under `reference` is gone."""

    org: str
    reference: str
    amount: int
    spent: int = 0


@fact("ledger.credit_held.v1")
class CreditHeld(Event, frozen=True, kw_only=True):
    """Credit set aside before any provider is called. `candidates` are the routes in the order of trying,
    `excluded` the others with the reason; `constraints` what the caller asked of the routing. `body_digest` is kept for
    calls with an idempotency key only. `allowance` is what the call counts against beside its key and workspace: an
    ephemeral key with a budget, or an org's trial. `observed` are the figures that put the candidates in order, by what
    the call wanted to `optimize`: `domain.routing.ranking.order_of` gives that order again."""

    org: str
    key: str
    workspace: str
    amount: int
    expires: int
    endpoint: str
    model: str
    candidates: tuple[str, ...]
    excluded: dict[str, str] = {}
    constraints: tuple[str, ...] = ()
    body_digest: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    streamed: bool = False
    allowance: str = ""
    optimize: Optimize = "price"
    observed: dict[str, Figures] = {}


@fact("ledger.hold_extended.v1")
class HoldExtended(Event, frozen=True, kw_only=True):
    """A running answer came near its hold: `amount` more was set aside, and the deadline moved."""

    org: str
    amount: int
    expires: int


@fact("ledger.request_settled.v1")
class RequestSettled(Event, frozen=True, kw_only=True):
    """A served request and what it cost. `cost` is the debit; `shortfall` what the usage was worth beyond the hold and
    could not be taken, `waived` what is free by intention, as on a trial. `ending` is `finished`, `client_gone` or
    `ceiling`. Times are milliseconds from the start. `own`: on the org's own key or endpoint, where a call costs it
    nothing here."""

    org: str
    key: str
    workspace: str
    endpoint: str
    model: str
    provider: str
    residency: str
    held: int
    cost: int
    usage: Usage
    rates: Rates
    attempts: tuple[Attempt, ...]
    first_byte_ms: int
    duration_ms: int
    ending: str = "finished"
    shortfall: int = 0
    streamed: bool = False
    waived: int = 0
    own: bool = False


@fact("ledger.hold_released.v1")
class HoldReleased(Event, frozen=True, kw_only=True):
    """A request that ended without anything to pay; `code` is what the caller was told."""

    org: str
    key: str
    workspace: str
    endpoint: str
    model: str
    held: int
    code: str
    attempts: tuple[Attempt, ...] = ()
    duration_ms: int = 0
    streamed: bool = False


@fact("ledger.hold_expired.v1")
class HoldExpired(Event, frozen=True, kw_only=True):
    """Nobody ended this request before its deadline; its credit went back."""

    org: str
    key: str
    workspace: str
    endpoint: str
    model: str
    held: int
    streamed: bool = False


@fact("ledger.request_refused.v1")
class RequestRefused(Event, frozen=True, kw_only=True):
    """A request by a known key that was turned away before anything was held or called."""

    org: str
    key: str
    workspace: str
    endpoint: str
    model: str
    code: str
    streamed: bool = False


@fact("ledger.request_disputed.v1")
class RequestDisputed(Event, frozen=True, kw_only=True):
    """The org objects to what an ended request cost it. Stream: `dispute:<request>`. `reason` is sealed."""

    org: str
    request: str
    cost: int
    reason: str


@fact("ledger.request_dispute_decided.v1")
class RequestDisputeDecided(Event, frozen=True, kw_only=True):
    """The one decision of a dispute: `given_back`, `stands` or `nothing_charged`, and `why` in a sentence for the org.

    `amount` comes back as the grant `dispute:<request>`. Stream: `dispute:<request>`.
    """

    org: str
    request: str
    outcome: str
    amount: int
    why: str


Ending = RequestSettled | HoldReleased | HoldExpired
