"""After every fault: nothing stuck, nothing lost, nothing charged twice, and all figures as a replay gives them."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import httpx
import msgspec
import psycopg

from adapters.simulators.provider import REQUESTS_KEPT
from tests.faults.callers import Call
from tests.product import INPUT_NANOS, OUTPUT_NANOS, Product

HOLD_SECONDS = 5
SETTLED_SECONDS_MAX = 40
KNOWN_SECONDS_MAX = 1.0
"""How long a change of keys may take to be in force everywhere."""


class Ending(NamedTuple):
    """How a request ended in the log: `settled`, `released`, `expired` or `refused`, and the event's content."""

    how: str
    state: dict[str, Any]

    @property
    def cost(self) -> int:
        return int(self.state["cost"]) if self.how == "settled" else 0


ENDINGS = {
    "ledger.request_settled.v1": "settled",
    "ledger.hold_released.v1": "released",
    "ledger.hold_expired.v1": "expired",
    "ledger.request_refused.v1": "refused",
}


def balanced_books(product: Product, calls: Iterable[Call], *, key_id: str = "") -> dict[str, Ending]:
    """Waits until no credit is held any more, and checks all that must be true then. Answers how each request ended;
    with `key_id` those of that key."""
    wait_until(lambda: open_holds(product) == 0, "no hold is left", seconds_max=SETTLED_SECONDS_MAX)
    report = read_models_caught_up(product)
    assert report["ok"]
    endings = endings_of(product)
    for call in calls:
        if call.complete:
            assert call.request in endings, f"{call} is in no book"
            ending = endings[call.request]
            # A hold that ran out while its call still ran gives the call away: both sides say 0 then.
            assert ending.how == "settled" or (ending.how, call.cost_nanos) == ("expired", 0), (call, ending)
            assert ending.cost == call.cost_nanos, (call, ending)
        elif call.request in endings and call.status not in (0, 200):
            assert endings[call.request].cost == 0 or call.code == "idempotency_conflict", (call, endings[call.request])
    return {request: ending for request, ending in endings.items() if not key_id or ending.state["key"] == key_id}


def endings_of(product: Product) -> dict[str, Ending]:
    """How every request ended. None has two endings."""
    found: dict[str, Ending] = {}
    with psycopg.connect(product.database_url) as connection:
        rows = connection.execute(
            "select originator_id, topic, state from events where originator_id like 'request:%%'"
            " and topic = any(%s) order by notification_id",
            [[*ENDINGS]],
        )
        for stream, topic, state in rows:
            request = stream.removeprefix("request:")
            assert request not in found, f"{request} ended twice"
            found[request] = Ending(ENDINGS[topic], msgspec.json.decode(bytes(state)))
    return found


def new_key(product: Product) -> str:
    """A key of a new org with ₹10,000, when every gateway knows it."""
    key = product.key(product.org(inr="10000"))
    time.sleep(KNOWN_SECONDS_MAX)
    return key


def open_holds(product: Product) -> int:
    with psycopg.connect(product.database_url) as connection:
        row = connection.execute("select count(*) from hold").fetchone()
        assert row is not None
        return int(row[0])


def read_models_caught_up(product: Product) -> dict[str, Any]:
    """The report of `verify` once every read model has reached the end of the log. Fails on any difference."""
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while True:
        with psycopg.connect(product.database_url) as connection:
            row = connection.execute("select max(notification_id) from events").fetchone()
            assert row is not None
        report: dict[str, Any] = product.verify()
        if min(report["projections"].values()) >= row[0]:
            return report
        assert time.monotonic() < deadline, f"the read models do not catch up: {report}"
        time.sleep(0.2)


def provider_saw(product: Product) -> set[str]:
    """The marks of all calls that have reached a provider since the counts were reset."""
    assert provider_counts(product)["requests"] <= REQUESTS_KEPT, "the simulator has forgotten some"
    seen = httpx.get(f"{product.simulator_url}/requests?limit={REQUESTS_KEPT}", trust_env=False).json()["requests"]
    return {request["body"].get("user", "") for request in seen if request["body"]}


def forget_calls(product: Product) -> None:
    """Lets the providers begin to count anew."""
    httpx.post(f"{product.simulator_url}/reset", trust_env=False).raise_for_status()


def provider_counts(product: Product, model: str = "") -> dict[str, Any]:
    """What the providers have counted, in all or for one model."""
    stats = httpx.get(f"{product.simulator_url}/stats", trust_env=False).json()
    counts: dict[str, Any] = stats["models"].get(model, {"requests": 0}) if model else stats["total"]
    return counts


def whole_price(ending: Ending) -> int:
    """What the usage is worth at the first provider's rates."""
    usage = ending.state["usage"]
    return int(usage["input"] * INPUT_NANOS + usage["output"] * OUTPUT_NANOS)


def wait_until(true: Callable[[], bool], what: str, *, seconds_max: float) -> float:
    """Waits, and answers how many seconds it took. Fails with `what` when it does not come true."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        assert waited < seconds_max, f"not in {seconds_max} s: {what}"
        time.sleep(0.03)
    return time.monotonic() - began
