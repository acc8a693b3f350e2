"""Who pays, as the record of each ending says it; and credit that comes back once, whoever asks how often."""

import msgspec
import pytest

from domain.catalog.price import make_rates
from domain.inference.metering import Usage
from domain.kernel.errors import Conflict, NotFound
from domain.kernel.events import Event
from domain.ledger.credit import account_of
from domain.ledger.dispute import Dispute, decide_dispute, dispute_request
from domain.ledger.events import Attempt, CreditHeld, HoldExpired, HoldReleased, RequestRefused, RequestSettled
from tests.given import given_key, given_org
from tests.memory_store import MemoryStore

WHO = {"org": "org_a", "key": "key_a", "workspace": "ws_org_a", "endpoint": "chat", "model": "m"}
RATES = make_rates(provider="p", model="m", priced_on="2026-10-01", input=3, output=7)
HELD = CreditHeld(**WHO, amount=1_000, expires=9, candidates=("p/m",))
SETTLED = RequestSettled(
    **WHO,
    provider="p",
    residency="IN",
    held=1_000,
    cost=100,
    usage=Usage(input=10, output=10, source="provider"),
    rates=RATES,
    attempts=(Attempt(route="p/m", end="served"),),
    first_byte_ms=1,
    duration_ms=2,
)
COUNTED = Usage(input=10, output=10, source="counted")


def store_with(end: Event | None, *, held: bool = True) -> MemoryStore:
    store = MemoryStore()
    given_org(store)
    given_key(store, "org_a", key="key_a")
    if held:
        store.facts.append(("request:req_1", HELD))
    if end is not None:
        store.facts.append(("request:req_1", end))
    return store


def ask(store: MemoryStore, *, org: str = "org_a", request: str = "req_1", reason: str = "sealed") -> Dispute:
    return dispute_request(store, org=org, request=request, reason=reason, at=7, by="key:key_a")


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (SETTLED, "stands"),
        (msgspec.structs.replace(SETTLED, ending="client_gone"), "stands"),
        (msgspec.structs.replace(SETTLED, ending="ceiling", usage=COUNTED), "stands"),
        (msgspec.structs.replace(SETTLED, usage=COUNTED), None),
        (msgspec.structs.replace(SETTLED, ending="client_gone", usage=COUNTED), None),
        (msgspec.structs.replace(SETTLED, usage=Usage(input=10, output=10, unknown=5, source="provider")), None),
        (msgspec.structs.replace(SETTLED, usage=Usage(input=10, output=0, source="provider")), None),
        (
            msgspec.structs.replace(SETTLED, endpoint="embeddings", usage=Usage(input=9, output=0, source="provider")),
            "stands",
        ),
        (msgspec.structs.replace(SETTLED, attempts=(Attempt(route="p/m", end="cut"),)), "given_back"),
        (msgspec.structs.replace(SETTLED, cost=0), "nothing_charged"),
        (HoldReleased(**WHO, held=1_000, code="provider_broke"), "nothing_charged"),
        (HoldReleased(**WHO, held=1_000, code="all_routes_failed"), "nothing_charged"),
        (HoldExpired(**WHO, held=1_000), "nothing_charged"),
    ],
)
def test_the_record_says_who_pays_or_somebody_looks(end: Event, outcome: str | None) -> None:
    store = store_with(end)
    since = len(store.facts)
    dispute = ask(store)
    assert (dispute.decided and dispute.decided.outcome) == outcome
    expected = ["RequestDisputed"]
    if outcome is not None:
        expected.append("RequestDisputeDecided")
    if outcome == "given_back":
        expected.append("CreditGranted")
    assert store.names(since) == expected
    assert dispute.disputed is not None
    assert dispute.disputed.cost == getattr(end, "cost", 0)


def test_a_refused_request_cost_nothing() -> None:
    dispute = ask(store_with(RequestRefused(**WHO, code="insufficient_credits"), held=False))
    assert dispute.decided is not None
    assert dispute.decided.outcome == "nothing_charged"


def test_a_second_objection_gets_the_first_one_s_decision() -> None:
    store = store_with(msgspec.structs.replace(SETTLED, attempts=(Attempt(route="p/m", end="cut"),)))
    first = ask(store)
    before, available = len(store.facts), store.balance("org_a").available
    assert ask(store, reason="other") == first
    assert len(store.facts) == before
    assert store.balance("org_a").available == available


def test_what_is_given_back_is_what_was_charged_and_can_be_spent() -> None:
    store = store_with(msgspec.structs.replace(SETTLED, attempts=(Attempt(route="p/m", end="cut"),)))
    before = store.balance("org_a").available
    ask(store)
    assert store.balance("org_a").available == before + 100
    lot = account_of(store, "org_a").lots["dispute:req_1"]
    assert (lot.left, lot.paid, lot.expires) == (100, False, None)


def test_an_operator_decides_what_was_queued_once() -> None:
    store = store_with(msgspec.structs.replace(SETTLED, usage=COUNTED))
    before = store.balance("org_a").available
    ask(store)
    given = decide_dispute(store, request="req_1", give_back=True, why="Counted twice.", at=8, by="operator")
    assert given.decided is not None
    assert (given.decided.outcome, given.decided.amount, given.decided.why) == ("given_back", 100, "Counted twice.")
    assert decide_dispute(store, request="req_1", give_back=False, why="No.", at=9, by="operator") == given
    assert ask(store) == given
    assert store.balance("org_a").available == before + 100


def test_an_operator_can_let_a_charge_stand() -> None:
    store = store_with(msgspec.structs.replace(SETTLED, usage=COUNTED))
    before = store.balance("org_a").available
    ask(store)
    stands = decide_dispute(store, request="req_1", give_back=False, why="The count is right.", at=8, by="operator")
    assert stands.decided is not None
    assert (stands.decided.outcome, stands.decided.amount) == ("stands", 0)
    assert store.balance("org_a").available == before


@pytest.mark.parametrize(("org", "request_id"), [("org_b", "req_1"), ("org_a", "req_2")])
def test_nobody_can_dispute_another_s_request(org: str, request_id: str) -> None:
    store = store_with(SETTLED)
    before = len(store.facts)
    with pytest.raises(NotFound, match="has no request"):
        ask(store, org=org, request=request_id)
    assert len(store.facts) == before


def test_a_request_that_runs_is_not_disputed() -> None:
    with pytest.raises(Conflict) as refusal:
        ask(store_with(None))
    assert refusal.value.code == "request_open"


def test_what_nobody_disputes_cannot_be_decided() -> None:
    with pytest.raises(NotFound):
        decide_dispute(store_with(SETTLED), request="req_1", give_back=True, why="x", at=8, by="operator")
