"""Credit that is given without a payment, and what becomes of it when its time is over."""

import pytest

from domain.accounts.service import create_org
from domain.keys.events import KeyMinted
from domain.ledger.credit import account_of, expire_credit, grant_credit, kind_of_grant
from domain.ledger.events import CreditAdded, CreditExpired, CreditReturned, CreditWithdrawn, CreditWithheld
from tests.adapters.bookings import hold_of, release_of, settlement_of
from tests.memory_store import MemoryStore

OVER = 1_000


@pytest.fixture
def store() -> MemoryStore:
    """An org with 100 of promo credit that is over at the moment 1,000."""
    store = MemoryStore()
    create_org(store, org="org_a", workspace="ws", name="A", sealed_email="", at=1, by="t")
    minted = KeyMinted(org="org_a", workspace="ws", name="k", prefix="br-", digest="00")
    store.facts.append(("key:k", minted))
    grant_credit(store, org="org_a", grant="promo:X", amount=100, reason="X", expires=OVER, at=1, by="t")
    return store


def expire(store: MemoryStore, *, at: int = OVER) -> CreditExpired | None:
    before = len(store.facts)
    expire_credit(store, org="org_a", lot="promo:X", at=at, by="t")
    if len(store.facts) == before:
        return None
    assert len(store.facts) == before + 1
    stream, event = store.facts[-1]
    assert stream == "account:org_a"
    assert isinstance(event, CreditExpired)
    return event


def in_flight(store: MemoryStore, amount: int) -> None:
    held = hold_of(org="org_a", key="k", workspace="ws", amount=amount, at=OVER - 1, expires=OVER * 9)
    store.facts.append(("request:r", held))


def end(store: MemoryStore, cost: int) -> None:
    held = hold_of(org="org_a", key="k", workspace="ws", amount=60, at=OVER - 1, expires=OVER * 9)
    ended = settlement_of(held, cost=cost, at=OVER + 1) if cost else release_of(held, at=OVER + 1)
    store.facts.append(("request:r", ended))


def test_credit_expires_at_its_moment_and_once(store: MemoryStore) -> None:
    assert expire(store, at=OVER - 1) is None
    expired = expire(store)
    assert expired is not None
    assert (expired.amount, expired.left, expired.spent) == (100, 0, 0)
    assert expire(store) is None
    assert store.balance("org_a").available == 0
    assert account_of(store, "org_a").lots["promo:X"].closed


@pytest.mark.parametrize("paid", [0, 500])
@pytest.mark.parametrize("cost", [0, 25, 60])
def test_what_a_call_in_flight_was_promised_expires_after_it(store: MemoryStore, cost: int, paid: int) -> None:
    """However much other credit there is: the call began when this was still good."""
    if paid:
        store.facts.append(("account:org_a", CreditAdded(org="org_a", payment="pay_1", order="o", amount=paid)))
    in_flight(store, 60)
    first = expire(store)
    assert first is not None
    assert (first.amount, first.left) == (40, 60)
    assert expire(store) is None
    end(store, cost)
    second = expire(store, at=OVER + 2)
    assert second is not None
    assert (second.amount, second.left, second.spent) == (60 - cost, 0, cost)
    assert expire(store) is None
    assert store.balance("org_a").available == paid
    assert account_of(store, "org_a").left == paid


def test_calls_in_flight_are_promised_what_expires_first(store: MemoryStore) -> None:
    grant_credit(store, org="org_a", grant="promo:Y", amount=50, reason="Y", expires=OVER - 500, at=1, by="t")
    in_flight(store, 60)
    later = expire(store)
    assert later is not None
    assert (later.amount, later.left) == (90, 10)
    expire_credit(store, org="org_a", lot="promo:Y", at=OVER, by="t")
    assert store.balance("org_a").available == 0
    assert account_of(store, "org_a").lots["promo:Y"].left == 50


@pytest.mark.parametrize("outcome", [CreditReturned, CreditWithdrawn])
def test_what_is_withheld_expires_if_it_comes_back(
    store: MemoryStore, outcome: type[CreditReturned | CreditWithdrawn]
) -> None:
    withheld = CreditWithheld(org="org_a", reference="rf", amount=30, parts={"promo:X": 30})
    store.facts.append(("account:org_a", withheld))
    first = expire(store)
    assert first is not None
    assert (first.amount, first.left) == (70, 30)
    assert expire(store) is None
    store.facts.append(("account:org_a", outcome(org="org_a", reference="rf", amount=30)))
    second = expire(store)
    assert second is not None
    assert (second.amount, second.left) == (30 if outcome is CreditReturned else 0, 0)
    assert expire(store) is None
    assert store.balance("org_a").available == 0


def test_other_credit_is_left_alone(store: MemoryStore) -> None:
    store.facts.append(("account:org_a", CreditAdded(org="org_a", payment="pay_1", order="o", amount=500)))
    for lot in ("pay_1", "no such lot"):
        assert expire_credit(store, org="org_a", lot=lot, at=OVER, by="t") is None
    expired = expire(store)
    assert expired is not None
    assert expired.amount == 100
    assert store.balance("org_a").available == 500


@pytest.mark.parametrize(
    ("grant", "kind"),
    [("signup", "promo"), ("promo:DIWALI", "promo"), ("grant_1", "adjustment"), ("signup2", "adjustment")],
)
def test_sign_up_credit_and_promo_codes_are_promo_and_the_rest_adjustments(grant: str, kind: str) -> None:
    assert kind_of_grant(grant) == kind
