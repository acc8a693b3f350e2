"""Hundreds of calls at once over two gateways against one limit: exactly as many succeed as it allows, and at no moment
is more promised than there is."""

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from domain.kernel.money import format_inr
from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer, nanos, until, wait_until_known
from tests.journeys.models import EXACT_CHAT, EXACT_EMBEDDING, EXACT_TOKENS
from tests.product import INPUT_NANOS, OUTPUT_NANOS, Product, chat_body

pytestmark = pytest.mark.journeys

CALLS, AFFORDABLE = 500, 50
EMBEDDING_NANOS = EXACT_TOKENS * INPUT_NANOS
CHAT_NANOS = EMBEDDING_NANOS + OUTPUT_NANOS
EMBEDDING: dict[str, Any] = {"model": EXACT_EMBEDDING, "input": "words ", "provider": "sim-india"}
CHAT: dict[str, Any] = chat_body(EXACT_CHAT, max_tokens=1, provider="sim-india")
STREAM: dict[str, Any] = {**CHAT, "stream": True}


def exact(customer: Customer, body: dict[str, Any]) -> dict[str, Any]:
    """The body, padded so that its hold is for as many input tokens as its provider will report: held is then spent."""
    with customer.http() as http:
        bare = http.post("/v1/quote", json={**body, "user": ""}).json()["input_tokens_max"]
        padded = {**body, "user": "x" * 3 * (EXACT_TOKENS - bare)}
        assert http.post("/v1/quote", json=padded).json()["input_tokens_max"] == EXACT_TOKENS
    return padded


def all_at_once(customer: Customer, path: str, body: dict[str, Any], *, calls: int = CALLS) -> list[httpx.Response]:
    """The replies of so many calls, each on a connection of its own."""

    context = ssl.create_default_context()  # made once: it is the dearest part of a client, and of no use here
    headers = {"authorization": f"Bearer {customer.key}"}

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False, verify=context) as client:
            return await client.post(f"{customer.product.url}{path}", json=body)

    async def storm() -> list[httpx.Response]:
        return await asyncio.gather(*[call() for _ in range(calls)])

    return asyncio.run(storm())


def outcomes(replies: list[httpx.Response]) -> Counter[str]:
    """How many replies of each kind: `ok`, or the status and code of an error, also of one inside a stream."""
    return Counter(
        "ok" if reply.status_code == 200 else f"{reply.status_code} {reply.json()['error']['code']}"
        for reply in replies
    )


@dataclass
class Watch:
    """The states of an org's guards that were seen while it was watched."""

    looks: int = 0
    balances: set[tuple[int, int]] = field(default_factory=set)
    allowances: set[tuple[str, int | None, int, int]] = field(default_factory=set)


@contextmanager
def watched(product: Product, customer: Customer) -> Iterator[Watch]:
    """Looks at the balance and the allowances without a pause; each look sees one committed state."""
    seen, over = Watch(), threading.Event()

    def look() -> None:
        with psycopg.connect(product.database_url, autocommit=True) as connection:
            while not over.is_set():
                seen.looks += 1
                seen.balances.update(
                    connection.execute("select available, held from balance where org = %s", [customer.org])
                )
                seen.allowances.update(
                    connection.execute(
                        "select scope, budget, used, held from allowance where scope in (%s, %s)",
                        [customer.key_id, customer.workspace],
                    )
                )

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
    assert seen.looks > 20, "the watcher saw too little to say anything"
    assert all(available >= 0 and held >= 0 for available, held in seen.balances)
    assert all(budget is None or used + held <= budget for _, budget, used, held in seen.allowances)


def assert_spent(customer: Customer, amount: int) -> None:
    until(lambda: customer.spent_nanos() == amount)
    assert customer.get("/me/billing")["held_inr"] == "0"
    requests = customer.get("/me/activity")["totals"]
    assert nanos(requests["cost_inr"]) == amount


def test_a_balance_for_fifty_calls_serves_fifty_of_five_hundred(product: Product, new_customer: NewCustomer) -> None:
    customer = new_customer(inr=format_inr(AFFORDABLE * EMBEDDING_NANOS))
    body = exact(customer, EMBEDDING)
    with watched(product, customer) as seen:
        replies = all_at_once(customer, "/v1/embeddings", body)
    assert outcomes(replies) == {"ok": AFFORDABLE, "402 insufficient_credits": CALLS - AFFORDABLE}
    assert {nanos(reply.headers["x-br-cost-inr"]) for reply in replies if reply.status_code == 200} == {EMBEDDING_NANOS}
    assert (0, 0) in {*seen.balances, *_guard(product, customer)}
    assert_spent(customer, AFFORDABLE * EMBEDDING_NANOS)
    product.verify()


def test_a_key_budget_is_met_to_the_nano_rupee(product: Product, new_customer: NewCustomer) -> None:
    customer = new_customer(monthly_budget=AFFORDABLE * CHAT_NANOS + CHAT_NANOS - 1)
    body = exact(customer, CHAT)
    with watched(product, customer):
        replies = all_at_once(customer, "/v1/chat/completions", body, calls=200)
    assert outcomes(replies) == {"ok": AFFORDABLE, "429 budget_exceeded": 150}
    assert_month_is_named(replies)
    assert_spent(customer, AFFORDABLE * CHAT_NANOS)


def test_a_workspace_budget_binds_its_keys_together(product: Product, new_customer: NewCustomer) -> None:
    customer = new_customer()
    with customer.http() as http:
        limit = {"monthly_budget_inr": format_inr(AFFORDABLE * CHAT_NANOS)}
        assert http.patch(f"/me/workspaces/{customer.workspace}", json=limit).status_code == 200
        other = http.post("/me/keys", json={"name": "other"}).json()["key"]
    twin = Customer(product, customer.org, customer.workspace, "", other)
    body = exact(customer, STREAM)
    wait_until_known(twin)
    with watched(product, customer), ThreadPoolExecutor(2) as pool:
        storms = [pool.submit(all_at_once, one, "/v1/chat/completions", body, calls=100) for one in (customer, twin)]
        replies = [reply for storm in storms for reply in storm.result()]
    assert outcomes(replies) == {"ok": AFFORDABLE, "429 budget_exceeded": 150}
    assert all(reply.text.endswith("data: [DONE]\n\n") for reply in replies if reply.status_code == 200)
    assert_month_is_named(replies)
    assert_spent(customer, AFFORDABLE * CHAT_NANOS)


def test_a_daily_limit_counts_served_calls_alone(product: Product, new_customer: NewCustomer) -> None:
    customer = new_customer(daily_limit=AFFORDABLE)
    with customer.http() as http:
        for _ in range(3):
            assert http.post("/v1/chat/completions", json=chat_body("nobody/knows")).status_code == 404
    replies = all_at_once(customer, "/v1/chat/completions", chat_body("sim-3c-crlf", max_tokens=3), calls=200)
    assert outcomes(replies) == {"ok": AFFORDABLE, "429 daily_limit_reached": 150}
    assert all(1 <= int(r.headers["retry-after"]) <= 86_401 for r in replies if r.status_code == 429)
    assert customer.get("/v1/key")["left"]["daily_calls"] == 0
    product.verify()


def test_an_rpm_limit_is_one_window_over_all_gateways(new_customer: NewCustomer) -> None:
    customer = new_customer(rpm_limit=AFFORDABLE)
    replies = all_at_once(customer, "/v1/chat/completions", chat_body("sim-3c-crlf", max_tokens=3), calls=200)
    assert outcomes(replies) == {"ok": AFFORDABLE, "429 rate_limit_exceeded": 150}
    assert {reply.headers["x-ratelimit-limit-requests"] for reply in replies} == {str(AFFORDABLE)}
    remaining = [int(r.headers["x-ratelimit-remaining-requests"]) for r in replies if r.status_code == 200]
    assert sorted(remaining) == list(range(AFFORDABLE))
    assert all(1 <= int(r.headers["retry-after"]) <= 60 for r in replies if r.status_code == 429)


def assert_month_is_named(replies: list[httpx.Response]) -> None:
    for reply in replies:
        if reply.status_code == 429:
            assert 1 <= int(reply.headers["retry-after"]) <= 31 * 86_400 + 1
            assert "budget" in reply.json()["error"]["message"]


def _guard(product: Product, customer: Customer) -> list[tuple[int, int]]:
    with psycopg.connect(product.database_url, autocommit=True) as connection:
        return connection.execute("select available, held from balance where org = %s", [customer.org]).fetchall()
