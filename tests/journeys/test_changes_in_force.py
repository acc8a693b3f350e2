"""What a customer changes about keys and budgets binds every gateway process within a second."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.journeys.customers import Customer, gateways
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

SECONDS_MAX = 1.0
Sign = Callable[[httpx.Response], bool]


def seconds_until(product: Product, key: str, *, change: Callable[[], httpx.Response], sign: Sign) -> list[float]:
    """How long after its acknowledgement the change shows, on each gateway process; then it must show for good."""
    with gateways(product, key) as clients:
        reply = change()
        assert reply.status_code in (200, 201), reply.text
        acknowledged = time.monotonic()
        waiting = dict(clients)
        taken: list[float] = []
        while waiting:
            for process, client in list(waiting.items()):
                if sign(call(client)):
                    taken.append(time.monotonic() - acknowledged)
                    del waiting[process]
            assert time.monotonic() - acknowledged < 10, f"{len(waiting)} gateways never learned of it"
        for _ in range(3):
            assert all(sign(call(client)) for client in clients.values())
    assert len(taken) == 2
    return taken


def call(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat_body("sim-3c-crlf", max_tokens=3))


def code_is(code: str) -> Sign:
    return lambda reply: reply.status_code != 200 and reply.json()["error"]["code"] == code


def test_every_change_is_in_force_on_every_gateway_within_a_second(product: Product, customer: Customer) -> None:
    with customer.http() as http:
        made = http.post("/me/keys", json={"name": "second", "scope": "inference"}).json()
        path = f"/me/keys/{made['id']}"

        def patch(**change: object) -> Callable[[], httpx.Response]:
            return lambda: http.patch(path, json=change)

        works: Sign = lambda reply: reply.status_code == 200  # noqa: E731  # it reads best beside the others
        steps: list[tuple[Callable[[], httpx.Response], Sign]] = [
            (patch(daily_limit=0), code_is("daily_limit_reached")),
            (patch(daily_limit=None), works),
            (patch(monthly_budget="0.000001"), code_is("budget_exceeded")),
            (patch(budget_inr="50"), works),
            (patch(models=["steady"]), code_is("forbidden_scope")),
            (patch(models=None), works),
            (patch(disabled=True), code_is("invalid_api_key")),
            (patch(disabled=False), works),
            (patch(rpm_limit=1), code_is("rate_limit_exceeded")),
            (patch(rpm_limit=None), works),
            (
                lambda: http.patch(f"/me/workspaces/{customer.workspace}", json={"monthly_budget_inr": 0}),
                code_is("budget_exceeded"),
            ),
            (lambda: http.patch(f"/me/workspaces/{customer.workspace}", json={"monthly_budget_inr": None}), works),
            (lambda: http.delete(path), code_is("invalid_api_key")),
        ]
        slowest = 0.0
        for change, sign in steps:
            slowest = max(slowest, *seconds_until(product, made["key"], change=change, sign=sign))
    assert slowest < SECONDS_MAX


def test_a_new_key_is_let_in_on_every_gateway_within_a_second(product: Product, customer: Customer) -> None:
    with customer.http() as http, gateways(product, customer.key) as clients:
        for number in range(3):
            key = http.post("/me/keys", json={"name": f"new {number}"}).json()["key"]
            made = time.monotonic()
            for client in clients.values():
                while client.get("/v1/key", headers={"authorization": f"Bearer {key}"}).status_code != 200:
                    assert time.monotonic() - made < SECONDS_MAX
