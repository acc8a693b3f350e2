"""Where an org is billed, and when it wants to hear that its credit runs low. No State on record, no payment: the State
decides which tax is due.
"""

from dataclasses import dataclass, replace

import msgspec

from domain.accounts.person import clean_email
from domain.kernel.errors import Invalid
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.ledger.credit import GRANT_MAX
from domain.payments.document import Buyer
from domain.payments.events import BillingAddressSet, LowBalanceNoticed, LowBalanceSet
from domain.payments.gstin import check_gstin, state_of
from domain.payments.states import check_pin, check_state, show_state, states_of_pin

NAME_LENGTH_MAX = 100
LINE_LENGTH_MAX = 100
LINES_MAX = 4
_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Characters that Indian scripts need between letters, and that count as unprintable."""


@dataclass(frozen=True, slots=True)
class BillingProfile:
    """The fold of `billing:<org>`. `buyer` is sealed for `books_subject`, and "" with `state` until an address is set.

    `threshold` of the low-balance mail is in nano-rupees, None for never; `noticed` the moment of the last one."""

    buyer: str = ""
    state: str = ""
    registered: bool = False
    special_zone: bool = False
    threshold: int | None = None
    noticed: int | None = None

    def evolve(self, stream: str, event: Event) -> "BillingProfile":
        match event:
            case BillingAddressSet():
                return replace(
                    self,
                    buyer=event.buyer,
                    state=event.state,
                    registered=event.registered,
                    special_zone=event.special_zone,
                )
            case LowBalanceSet():
                return replace(self, threshold=event.threshold)
            case LowBalanceNoticed():
                return replace(self, noticed=event.at)
            case _:
                return self


def billing_stream(org: str) -> str:
    return f"billing:{org}"


def books_subject(org: str) -> str:
    """Whom buyers and documents are sealed for: no person, since tax documents outlive an account (CGST Act, s. 36)."""
    return f"books:{org}"


# The buyer in clear


def buyer_text(buyer: Buyer) -> str:
    """What is sealed of a buyer; `read_buyer` takes it back."""
    return msgspec.json.encode(buyer).decode()


def read_buyer(text: str) -> Buyer:
    return msgspec.json.decode(text, type=Buyer)


def check_buyer(buyer: Buyer) -> Buyer:
    """The buyer as documents will show him: no outer blanks, no empty lines, GSTIN in upper case.

    Documents need a name, an address and a State (CGST Rules, rules 46 and 50(d)); a GSTIN must be of that State, and
    whoever is in a special economic zone has one (rule 8). Raises Invalid `invalid_gstin` or `invalid_request`, which
    names the field.
    """
    state = check_state(buyer.state)
    gstin = check_gstin(buyer.gstin) if buyer.gstin else None
    if gstin is not None and state_of(gstin) != state:
        raise Invalid(
            "invalid_gstin",
            f"This GSTIN is registered in {show_state(state_of(gstin))}, but the State is {show_state(state)}:"
            " give the address that it is registered at.",
            param="gstin",
        )
    lines = tuple(filter(None, (_line(line, param="address", length_max=LINE_LENGTH_MAX) for line in buyer.address)))
    if len(lines) > LINES_MAX:
        raise Invalid("invalid_request", f"Give the address in at most {LINES_MAX} lines.", param="address")
    if not lines:
        raise Invalid("invalid_request", "Give the address that documents show, in at least one line.", param="address")
    if buyer.special_zone and gstin is None:
        raise Invalid("invalid_gstin", "Give the GSTIN of your unit in the special economic zone.", param="gstin")
    name = _line(buyer.name, param="name", length_max=NAME_LENGTH_MAX)
    if not name:
        raise Invalid("invalid_request", "Give the name that documents are made out to.", param="name")
    return Buyer(
        name=name,
        address=lines,
        city=_line(buyer.city, param="city", length_max=LINE_LENGTH_MAX),
        pin=check_pin(buyer.pin) if buyer.pin.strip() else "",
        state=state,
        gstin=gstin,
        email=_email(buyer.email),
        special_zone=buyer.special_zone,
    )


def pin_hint(buyer: Buyer) -> str | None:
    """A sentence where PIN code and State disagree. No more than a hint: PIN areas cross borders."""
    likely = states_of_pin(buyer.pin) if buyer.pin else ()
    if not likely or buyer.state in likely:
        return None
    return f"PIN {buyer.pin} is usually in {show_state(likely[0])}, not in {show_state(buyer.state)}; check both."


def _line(text: str, *, param: str, length_max: int) -> str:
    line = text.strip()
    if len(line) > length_max or not line.translate(_JOINERS).isprintable():
        raise Invalid("invalid_request", f"Give at most {length_max} printable characters a line.", param=param)
    return line


def _email(text: str) -> str:
    """Only what cannot be one is turned away; whether mail arrives shows when it is sent. Many mail servers take no
    address outside ASCII."""
    if not text.strip():
        return ""
    email = clean_email(text)
    if not email.isascii() or "." not in email.rpartition("@")[2].strip("."):
        raise Invalid("invalid_request", "Give an e-mail address such as accounts@example.com.", param="email")
    return email


# Decisions


def set_billing_address(
    store: Store,
    *,
    org: str,
    buyer: str,
    state: str,
    registered: bool,
    special_zone: bool = False,
    at: int,
    by: str,
) -> int | None:
    """Documents from now on are made out to `buyer`, a checked one's text sealed for `books_subject`; those that have
    been issued stay as they are."""

    def decide(_: BillingProfile) -> Decision:
        address = BillingAddressSet(org=org, buyer=buyer, state=state, registered=registered, special_zone=special_zone)
        return [(billing_stream(org), address)]

    return store.change(Change(billing_stream(org), BillingProfile(), decide), at=at, by=by)


def set_low_balance(store: Store, *, org: str, threshold: int | None, at: int, by: str) -> int | None:
    """A mail is sent when less than `threshold` nano-rupees are available; None stops it. Raises Invalid
    `invalid_amount`."""

    def decide(profile: BillingProfile) -> Decision:
        if threshold is not None and not 0 < threshold <= GRANT_MAX:
            raise Invalid(
                "invalid_amount", "Give a threshold of more than ₹0, or null for no mails.", param="threshold_inr"
            )
        if threshold == profile.threshold:
            return []
        return [(billing_stream(org), LowBalanceSet(org=org, threshold=threshold))]

    return store.change(Change(billing_stream(org), BillingProfile(), decide), at=at, by=by)
