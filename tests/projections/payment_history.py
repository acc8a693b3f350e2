"""Histories of payments to project: made of random steps through the product's own decisions, in memory."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from domain.kernel.clock import SECOND
from domain.kernel.errors import Refusal
from domain.kernel.events import Event
from domain.kernel.money import rupees
from domain.payments.events import PromoCreated
from domain.payments.promo import create_promo, disable_promo
from tests.domain.payments.till import FakeGateway, given_order, make_till
from tests.given import NOON, given_org
from tests.memory_store import MemoryStore

CODES = ("FIXED", "PERCENT", "ONCE")
ORGS = ("org_a", "org_b")

Step = tuple[str, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["order", "order", "order", "pay", "pay", "pay", "move", "move", "look", "promo", "disable"]),
        st.integers(0, 1_000),
    ),
    max_size=40,
)


def play(steps: Sequence[Step]) -> list[tuple[str, Event]]:
    """The facts of two orgs that order, pay, fail to, pay twice, pay another amount, and use promo codes."""
    store, gateway = MemoryStore(), FakeGateway()
    till = make_till(store, gateway)
    for org in ORGS:
        given_org(store, org, inr=0)
    orders: list[str] = []
    for n, (kind, one) in enumerate(steps, 1):
        at = NOON + n * SECOND
        payments = list(gateway.payments)
        try:
            match kind:
                case "order":
                    code = (*CODES, "")[one % 4]
                    orders.append(given_order(till, ORGS[one % 2], rupees=100 + one % 900, promo=code, at=at).order)
                case "pay" if orders:
                    order = orders[one % len(orders)] if one % 7 else f"order_of_others_{one}"
                    changes: dict[str, Any] = {} if one % 5 else {"amount_paise": one}
                    status = ("captured", "failed", "authorized")[one % 3]
                    payment = gateway.pays(order, status, error_description="नहीं\0", **changes)
                    till.look(payment.id, learned="webhook", at=at, by="webhook")
                case "move" | "look" if payments:
                    id = payments[one % len(payments)]
                    if kind == "move" and gateway.payments[id].status != "captured":
                        gateway.move(id, ("authorized", "captured")[one % 2])
                    till.look(id, learned="sweep", at=at, by="worker")
                case "promo":
                    terms: dict[str, Any] = [
                        {"fixed": rupees(20)},
                        {"percent": 10, "cap": rupees(40), "credit_days": 7},
                        {"fixed": rupees(5), "uses_max": 1, "ends": at + 10 * SECOND},
                    ][one % 3]
                    create_promo(store, PromoCreated(code=CODES[one % 3], **terms), at=at, by="operator")
                case "disable":
                    disable_promo(store, code=CODES[one % 3], at=at, by="operator")
        except Refusal:
            pass  # a code that does not exist yet, or cannot be used any more
    return store.facts
