"""A customer's own key and endpoint, from the first try to the books: in which order they are called, that they cost
nothing, whose trouble they are, and that no key is anywhere."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.journeys.customers import Customer, Operator, gateways, until
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

OURS, THEIRS, BOXS = "sk-ours-0123456789abcdef", "sk-theirs-0123456789abcdef", "sk-box-0123456789abcdef"
GIVEN = "sk-given-0123456789abcdef"
LOOPBACK = {"BR_EGRESS_ALLOWED": "127.0.0.1", "BR_EGRESS_HTTP": "true"}


@pytest.fixture(scope="module")
def product(new_home: Callable[[], Path]) -> Iterator[Product]:
    """One whose users may have endpoints on this machine, where the simulator plays them."""
    with Product(new_home(), settings=LOOPBACK) as running:
        yield running


@pytest.fixture(scope="module")
def operator(product: Product) -> Iterator[Operator]:
    made = Operator(product)
    yield made
    made.close()


def tell(product: Product, path: str, body: dict[str, Any]) -> None:
    httpx.post(f"{product.simulator_url}/{path}", json=body, trust_env=False).raise_for_status()


def asked(product: Product, provider: str) -> list[dict[str, Any]]:
    reply = httpx.get(f"{product.simulator_url}/requests?limit=1000", trust_env=False).json()
    return [request for request in reply["requests"] if request["provider"] == provider]


def chat(customer: Customer, model: str = "steady", **more: Any) -> tuple[httpx.Response, Any]:
    """A call and its record."""
    with customer.http() as http:
        reply = http.post("/v1/chat/completions", json=chat_body(model, **more))
    return reply, customer.record(reply.headers["x-br-request-id"])


def routes(record: Any) -> list[str]:
    return [attempt["route"] for attempt in record["attempts"]]


def save_key(customer: Customer, provider: str, key: str, **more: Any) -> None:
    with customer.http() as http:
        reply = http.put(f"/me/byok/{provider}", json={"key": key, **more})
    assert reply.status_code == 200, reply.text
    assert reply.json()["verified"] is True


def test_what_a_customer_brings_is_called_first_costs_nothing_and_is_nobody_elses(
    product: Product, operator: Operator
) -> None:
    customer, neighbour = operator.customer(), operator.customer()
    for provider in ("sim-india", "sim-abroad"):
        tell(product, "keys", {"provider": provider, "keys": [OURS, THEIRS, GIVEN]})
    tell(product, "keys", {"provider": "box", "keys": [BOXS]})

    # A key: tried, saved, in force on every gateway within a second, and called first though it is not the cheapest.
    with customer.http() as http:
        assert http.put("/me/byok/sim-abroad", json={"key": "sk-wrong-0123456789"}).status_code == 400
    with gateways(product, customer.key) as clients:
        save_key(customer, "sim-abroad", OURS)
        acknowledged = time.monotonic()
        for client in clients.values():
            until(lambda client=client: _provider_of(client) == "sim-abroad")
        assert time.monotonic() - acknowledged < 2
    reply, record = chat(customer)
    assert reply.json()["usage"]["cost_inr"] == "0"
    assert (record["key_source"], record["provider"], record["hold"]["input_tokens"] > 0) == ("own", "sim-abroad", True)
    assert record["settle"]["debited_inr"] == "0"
    assert record["usage"]["total_tokens"] > 0
    assert record["routing"]["candidates"] == ["own:sim-abroad/steady", "sim-india/steady", "sim-abroad/steady"]
    assert record["routing"]["replays"] is True
    assert asked(product, "sim-abroad")[-1]["headers"]["authorization"] == "Bearer …cdef"
    _, record = chat(customer, data_policy="india_only")
    assert (record["provider"], record["key_source"]) == ("sim-india", "platform")
    reply, record = chat(customer, "sim-abroad/demo-chat")
    assert (reply.status_code, routes(record)) == (200, ["own:sim-abroad/demo-chat"])

    # An endpoint: tested, saved, and the third step of a chain whose first two are away.
    box = {"name": "GPU box", "model": "our-llama", "upstream_model": "llama", "key": BOXS, "residency": "IN"}
    with customer.http() as http:
        failed = http.post("/me/endpoints", json=box | {"base_url": f"{product.simulator_url}/box/v1", "key": "sk-no"})
        assert (failed.status_code, failed.json()["error"]["code"]) == (422, "compliance_failed")
        made = http.post("/me/endpoints", json=box | {"base_url": f"{product.simulator_url}/box/v1"})
        assert made.status_code == 201, made.text
        steps = [
            {"model": "byoe:gone"},
            {"model": "sim-abroad/away"},
            {"model": "our-llama", "provider": "byoe:gpu-box"},
        ]
        assert http.put("/me/routing/steady", json={"fallbacks": steps}).status_code == 200
        refused = http.post("/me/endpoints", json=box | {"base_url": "https://169.254.169.254/v1"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "address_refused")
    for provider in ("sim-india", "sim-abroad"):
        tell(product, "script", {"provider": provider, "script": "err503"})
    time.sleep(1)  # until every gateway knows
    reply, record = chat(customer, stream=True)
    assert reply.status_code == 200
    assert routes(record) == [
        "own:sim-abroad/steady",
        "sim-india/steady",
        "sim-abroad/steady",
        "byoe:gpu-box/our-llama",
    ]
    assert (record["cost_inr"], record["key_source"], record["region"]) == ("0", "own", "IN")
    assert [attempt["key_source"] for attempt in record["attempts"]] == ["own", "platform", "platform", "own"]
    for provider in ("sim-india", "sim-abroad"):
        tell(product, "script", {"provider": provider, "script": "3c"})
    reply, record = chat(customer, "byoe:gpu-box", data_policy="india_only")
    assert (reply.status_code, record["provider"], record["cost_inr"]) == (200, "byoe:gpu-box", "0")

    # A key of the neighbour's goes bad: that is told, paid and rested for by the neighbour alone.
    save_key(neighbour, "sim-abroad", THEIRS)
    tell(product, "keys", {"provider": "sim-abroad", "keys": [OURS, GIVEN]})
    time.sleep(1)
    with gateways(product, neighbour.key) as clients:
        client = next(iter(clients.values()))
        ended = []
        for _ in range(4):
            reply = client.post("/v1/chat/completions", json=chat_body("steady"))
            ended.append(neighbour.record(reply.headers["x-br-request-id"]))
    assert routes(ended[0]) == ["own:sim-abroad/steady", "sim-india/steady"]
    assert routes(ended[3]) == ["sim-india/steady"], "its circuit is open"
    assert ended[3]["routing"]["observed"]["own:sim-abroad/steady"]["circuit"] == "open"
    assert neighbour.spent_nanos() > 0
    _, record = chat(customer)
    assert routes(record)[0] == "own:sim-abroad/steady", "and nobody else's is"

    # A key that comes with the request.
    reply, record = chat(neighbour, provider="sim-abroad", upstream_key=GIVEN)
    assert (reply.status_code, record["key_source"], record["cost_inr"]) == (200, "own", "0")
    reply, record = chat(neighbour, provider="sim-abroad", upstream_key="sk-unknown-0123456789")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "all_routes_failed")
    assert "sim-abroad" in reply.json()["error"]["message"]
    assert routes(record) == ["own:sim-abroad/steady"]

    # What is left of it: the calls, in activity and books, and no key.
    until(lambda: customer.get("/me/activity")["totals"]["byok"] >= 5)
    free = [event for event in customer.get("/me/activity/events")["events"] if event["key_source"] == "own"]
    assert {event["cost_inr"] for event in free} == {"0"}
    product.verify()
    _no_key_is_anywhere(product, [OURS, THEIRS, BOXS, GIVEN])


def _provider_of(client: httpx.Client) -> str:
    reply = client.post("/v1/chat/completions", json=chat_body("steady"))
    return reply.headers.get("x-br-provider", "")


def _no_key_is_anywhere(product: Product, keys: list[str]) -> None:
    secrets = [key[3:].encode() for key in keys]
    files = [path for path in product.home.rglob("*.log*") if path.is_file()]
    assert files, "the product writes lines somewhere"
    kept = [path.read_bytes() for path in files]
    with psycopg.connect(product.database_url) as connection:
        kept += [row[0] for row in connection.execute("select state from events")]
    for text in kept:
        assert not [secret for secret in secrets if secret in text]
