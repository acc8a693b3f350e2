"""Credit that comes in without a payment, and credit whose time is over."""

from typing import Literal

from domain.kernel.errors import Invalid
from domain.kernel.store import Decision, Reader, Store
from domain.keys.trial import end_trial
from domain.ledger.account import Account, Lot
from domain.ledger.events import CreditExpired, CreditGranted

GRANT_MAX = 10**17
"""Ten crore rupees in nano-rupees: a slip of the finger must not bring the ledger near what a bigint holds."""


SIGN_UP_GRANT = "signup"
"""The grant of an org's sign-up credit: one name for all orgs, so that none gets it twice."""

PROMO_GRANT = "promo:"
"""What the grant of a promo code begins with; the code follows."""


def kind_of_grant(grant: str) -> Literal["promo", "adjustment"]:
    """How a grant is shown: `promo` for sign-up credit and promo codes, `adjustment` for all that an operator gives."""
    return "promo" if grant == SIGN_UP_GRANT or grant.startswith(PROMO_GRANT) else "adjustment"


def account_of(read: Reader, org: str) -> Account:
    """The org's account as it stands at this moment, what calls have spent included. Raises NotFound."""
    return read.fold(f"account:{org}", Account()).when_spent(read.balance(org).spent)


def grant_credit(
    store: Store, *, org: str, grant: str, amount: int, reason: str, expires: int | None = None, at: int, by: str
) -> int | None:
    """Adds `amount` nano-rupees that are spent before paid credit and never refunded; `expires` is the moment after
    which they are gone. `grant` is unique within the org: a repeat is harmless and returns None.

    Raises Invalid `invalid_amount`, and NotFound where the org is unknown.
    """

    def decide(read: Reader) -> Decision:
        account = account_of(read, org)
        if grant in account.lots:
            return []
        if not 0 < amount <= GRANT_MAX:
            raise Invalid("invalid_amount", "Grant more than nothing and at most ₹10,00,00,000.", param="inr")
        if expires is not None and expires <= at:
            raise Invalid("invalid_request", "The credit would expire before it is there.", param="expires")
        granted = CreditGranted(
            org=org, grant=grant, amount=amount, reason=reason, expires=expires, spent=account.spent
        )
        return [(f"account:{org}", granted), *end_trial(read, org)]

    return store.locked(decide, at=at, by=by)


def expire_credit(store: Store, *, org: str, lot: str, at: int, by: str) -> int | None:
    """Takes what is left of a lot whose time is over. What calls in flight were promised stays for the next time, and
    so does what is withheld.

    A repeat is harmless: it takes what has come back since, and once nothing is left returns None.
    """

    def decide(read: Reader) -> Decision:
        account = account_of(read, org)
        old = account.lots.get(lot)
        if old is None or old.expires is None or old.expires > at or old.closed:
            return []
        amount = old.left - _promised(account, old, held=read.balance(org).held)
        withheld = sum(parts.get(lot, 0) for parts in account.withheld.values())
        left = old.left + withheld - amount
        if amount == 0 and left > 0:
            return []
        expired = CreditExpired(org=org, lot=lot, amount=amount, left=left, spent=account.spent)
        return [(f"account:{org}", expired)]

    return store.locked(decide, at=at, by=by)


def _promised(account: Account, lot: Lot, *, held: int) -> int:
    """How much of a lot the calls in flight will spend if they cost all that is held for them."""
    order = account.in_order_of_spending()
    sooner = sum(each.left for each in order[: order.index(lot)]) if lot in order else 0
    return min(lot.left, max(held - sooner, 0))
