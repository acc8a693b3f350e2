"""Promo codes: what one gives, who may use it, and when. A code is redeemed by the payment that it comes with."""

import re
from dataclasses import dataclass, replace

from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.money import percent_down_to_paisa, show_inr
from domain.kernel.store import Change, Decision, Reader, Store
from domain.ledger.account import Account
from domain.ledger.credit import GRANT_MAX, PROMO_GRANT
from domain.payments.events import PromoCreated, PromoDisabled

PERCENT_MAX = 100
CREDIT_DAYS_MAX = 3_650

_CODE = re.compile(r"[A-Z0-9]{3,20}")
_WHY = {
    "unknown": "There is no such promo code; check how it is spelled.",
    "disabled": "This promo code is no longer offered.",
    "not_yet": "This promo code cannot be used yet.",
    "over": "The time of this promo code is over.",
    "used_up": "This promo code has been used as often as it may be.",
    "too_little": "This promo code comes with a larger top-up: it needs {least} of credit or more.",
    "redeemed": "Your org has used this promo code before; each org can use a code once.",
}


@dataclass(frozen=True, slots=True)
class Promo:
    """The fold of `promo:<code>`."""

    terms: PromoCreated | None = None
    disabled: bool = False

    def evolve(self, stream: str, event: Event) -> "Promo":
        match event:
            case PromoCreated():
                return replace(self, terms=event)
            case PromoDisabled():
                return replace(self, disabled=True)
            case _:
                return self

    def credit(self, bought: int) -> int:
        """Nano-rupees that come on top of `bought` nano-rupees of credit."""
        assert self.terms is not None
        if self.terms.fixed is not None:
            return self.terms.fixed
        assert self.terms.percent is not None
        assert self.terms.cap is not None
        return min(percent_down_to_paisa(bought, self.terms.percent), self.terms.cap)

    def expires(self, redeemed: int) -> int | None:
        """The moment after which credit that was given at `redeemed` is gone; None for never."""
        assert self.terms is not None
        return None if self.terms.credit_days is None else redeemed + self.terms.credit_days * DAY


def promo_stream(code: str) -> str:
    return f"promo:{code}"


def redemption_stream(code: str) -> str:
    """One fact for each redemption: their number is what the code's limit counts."""
    return f"redemption:{code}"


def promo_grant(code: str) -> str:
    """The id of the lot that the code gives an org, by which it is redeemed once per org."""
    return f"{PROMO_GRANT}{code}"


def clean_code(text: str) -> str:
    """The code in upper case without blanks around it. Raises Invalid `promo_invalid` for what cannot be one."""
    code = text.strip().upper()
    if not _CODE.fullmatch(code):
        raise Invalid("promo_invalid", "A promo code has 3 to 20 letters and digits.", param="promo_code")
    return code


def obstacle(read: Reader, promo: Promo, *, code: str, account: Account, bought: int | None, at: int) -> str:
    """Why an org with this account cannot redeem the code with a payment made at `at` for `bought` nano-rupees, None
    where that is not known yet; "" if it can."""
    terms = promo.terms
    if terms is None:
        return "unknown"
    if promo_grant(code) in account.lots:
        return "redeemed"
    if promo.disabled:
        return "disabled"
    if terms.starts is not None and at < terms.starts:
        return "not_yet"
    if terms.ends is not None and at >= terms.ends:
        return "over"
    if terms.uses_max is not None and read.count(redemption_stream(code)) >= terms.uses_max:
        return "used_up"
    if terms.bought_min is not None and bought is not None and bought < terms.bought_min:
        return "too_little"
    return ""


def check_promo(store: Store, *, org: str, code: str, bought: int | None, at: int) -> Promo:
    """The promo of a clean code, if the org could redeem it now with a purchase of `bought` nano-rupees of credit, None
    if that is not known yet. That holds until it pays only if nobody is quicker.

    Raises Invalid `promo_invalid`, and Conflict `promo_redeemed` where the org has used it before.
    """

    def look(read: Reader) -> Promo:
        found = read.fold(promo_stream(code), Promo())
        why = obstacle(read, found, code=code, account=read.fold(f"account:{org}", Account()), bought=bought, at=at)
        if why == "redeemed":
            raise Conflict("promo_redeemed", _WHY[why], param="promo_code")
        if why:
            least = found.terms.bought_min if found.terms else None
            raise Invalid("promo_invalid", _WHY[why].format(least=show_inr(least or 0)), param="promo_code")
        return found

    return store.look(look)


# What an operator does


def create_promo(store: Store, promo: PromoCreated, *, at: int, by: str) -> int | None:
    """Offers a code. A repeat with the same terms is harmless and returns None. Raises Invalid `invalid_request`."""
    _check_terms(promo)

    def decide(known: Promo) -> Decision:
        if known.terms is None:
            return [(promo_stream(promo.code), promo)]
        if _terms(known.terms) != _terms(promo):
            raise Invalid(
                "invalid_request", f"{promo.code} was created before with other terms; use another code.", param="code"
            )
        return []

    return store.change(Change(promo_stream(promo.code), Promo(), decide), at=at, by=by)


def disable_promo(store: Store, *, code: str, at: int, by: str) -> int | None:
    """Ends the code for good; what was redeemed stays. A repeat is harmless. Raises NotFound."""

    def decide(known: Promo) -> Decision:
        if known.terms is None:
            raise NotFound("not_found", f"There is no promo code {code}.", param="code")
        return [] if known.disabled else [(promo_stream(code), PromoDisabled(code=code))]

    return store.change(Change(promo_stream(code), Promo(), decide), at=at, by=by)


def _terms(promo: PromoCreated) -> PromoCreated:
    """Without who made it when."""
    return PromoCreated(
        code=promo.code,
        fixed=promo.fixed,
        percent=promo.percent,
        cap=promo.cap,
        starts=promo.starts,
        ends=promo.ends,
        uses_max=promo.uses_max,
        credit_days=promo.credit_days,
        bought_min=promo.bought_min,
    )


def _check_terms(promo: PromoCreated) -> None:
    if clean_code(promo.code) != promo.code:
        raise _invalid("A promo code has 3 to 20 letters and digits, in upper case.", "code")
    if (promo.fixed is None) == (promo.percent is None):
        raise _invalid("Give either a fixed amount or a percentage.", "fixed")
    if promo.fixed is not None and (promo.cap is not None or not 0 < promo.fixed <= GRANT_MAX):
        raise _invalid("A fixed amount is more than nothing, and has no cap.", "fixed")
    if promo.percent is not None:
        if not 1 <= promo.percent <= PERCENT_MAX:
            raise _invalid(f"A percentage is from 1 to {PERCENT_MAX}.", "percent")
        if promo.cap is None or not 0 < promo.cap <= GRANT_MAX:
            raise _invalid("A percentage needs a cap of more than nothing.", "cap")
    if promo.starts is not None and promo.ends is not None and promo.starts >= promo.ends:
        raise _invalid("The code would end before it starts.", "ends")
    if promo.uses_max is not None and promo.uses_max < 1:
        raise _invalid("A code can be used at least once, or without limit.", "uses_max")
    if promo.credit_days is not None and not 1 <= promo.credit_days <= CREDIT_DAYS_MAX:
        raise _invalid(f"Credit lives from 1 to {CREDIT_DAYS_MAX} days, or for ever.", "credit_days")
    if promo.bought_min is not None and not 0 < promo.bought_min <= GRANT_MAX:
        raise _invalid("The least purchase is more than nothing.", "bought_min")


def _invalid(message: str, param: str) -> Invalid:
    return Invalid("invalid_request", message, param=param)
