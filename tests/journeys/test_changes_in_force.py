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


def seconds_until(product: Product, key: str, *, change: Callable[[], httpx.Response], sign: Sign) -> float:
    """How long after its acknowledgement a call was still made, to whichever gateway, that the change did not bind.

    A gateway that cannot know the newest state lets nobody in: such a refusal is none by the old rule.
    """
    with gateways(product, key) as clients:
        assert len(clients) == 2
        reply = change()
        assert reply.status_code in (200, 201), reply.text
        acknowledged = time.monotonic()
        last_unbound = 0.0
        in_step = dict.fromkeys(clients, 0)
        while min(in_step.values()) < 3:
            for process, client in clients.items():
                made = time.monotonic() - acknowledged
                reply = call(client)
                if sign(reply):
                    in_step[process] += 1
                    continue
                in_step[process] = 0
                if not code_is("ledger_unavailable")(reply):
                    last_unbound = made
            assert time.monotonic() - acknowledged < 10, "some gateway never learned of it"
    return last_unbound


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
        taken = [seconds_until(product, made["key"], change=change, sign=sign) for change, sign in steps]
    assert max(taken) < SECONDS_MAX, taken


def test_a_new_key_is_let_in_on_every_gateway_within_a_second(product: Product, customer: Customer) -> None:
    with customer.http() as http:
        for number in range(3):
            key = http.post("/me/keys", json={"name": f"new {number}"}).json()["key"]
            taken = seconds_until(product, key, change=lambda: http.get("/livez"), sign=lambda r: r.status_code == 200)
            assert taken < SECONDS_MAX
