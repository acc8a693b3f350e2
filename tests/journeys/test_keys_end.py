"""A key that is over is over on both gateways within a second, for all that hangs on it, whatever is in flight."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.issuer import Issuer
from tests.journeys.customers import Customer, gateways
from tests.journeys.test_changes_in_force import SECONDS_MAX, call, code_is, seconds_until
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

SLOW = "sim-3c-300ms"
WORKERS = 6
REFUSALS = 5
"""How often each worker tries the dead key: wrong keys are counted, and other tests show some too."""


def test_a_rotated_secret_and_a_child_of_a_revoked_key_are_refused_within_a_second(
    product: Product, customer: Customer
) -> None:
    gone = code_is("invalid_api_key")
    with customer.http() as http:
        made = http.post("/me/keys", json={"name": "parent", "scope": "inference"}).json()
        with product.client(made["key"]) as parent:
            child = parent.post("/v1/ephemeral_keys", json={"budget_inr": 5, "ttl_seconds": 120}).json()["key"]
        seconds_until(product, child, change=lambda: http.get("/livez"), sign=lambda reply: reply.status_code == 200)
        rotate = f"/me/keys/{made['id']}/rotate"
        new = {}

        def rotated() -> httpx.Response:
            reply = http.post(rotate, json={"grace_minutes": 0})
            new.update(reply.json())
            return reply

        assert seconds_until(product, made["key"], change=rotated, sign=gone) < SECONDS_MAX
        for key in (new["key"], child):
            with product.client(key) as client:
                assert call(client).status_code == 200
        taken = seconds_until(product, child, change=lambda: http.delete(f"/me/keys/{made['id']}"), sign=gone)
        assert taken < SECONDS_MAX
        with product.client(new["key"]) as client:
            assert gone(call(client))


@pytest.mark.parametrize("kind", ["key", "agent"])
def test_under_load_what_is_revoked_stays_dead_and_what_it_has_in_flight_is_finished(
    product: Product, customer: Customer, issuer: Issuer, kind: str
) -> None:
    """Streams that began before the end outlast it; nothing that they do lets the key in again. Nor is an agent let in
    by a token that is good for minutes more, and that every gateway has seen to be."""
    with customer.http() as http:
        if kind == "key":
            made = http.post("/me/keys", json={"name": "busy", "scope": "inference"}).json()
            path, bearer = f"/me/keys/{made['id']}", made["key"]
        else:
            made = http.post("/me/agents", json={"name": "busy", "value": "busy-bot"}).json()
            path, bearer = f"/me/agents/{made['id']}", issuer.token(sub="busy-bot")
        seconds_until(product, bearer, change=lambda: http.get("/livez"), sign=lambda r: r.status_code == 200)

        def work(number: int) -> list[tuple[float, float, str]]:
            """What became of each call: when it was made, when it ended, and how."""
            calls: list[tuple[float, float, str]] = []
            with gateways(product, bearer) as clients:
                client = [*clients.values()][number % len(clients)]
                while sum(end != "served" for _, _, end in calls) < REFUSALS:
                    began = time.monotonic()
                    body = chat_body(SLOW, stream=True) if number % 2 else chat_body("sim-3c-crlf")
                    reply = client.post("/v1/chat/completions", json=body)
                    if reply.status_code == 200:
                        whole = reply.text.rstrip().endswith("[DONE]") if number % 2 else True
                        end = "served" if whole else "broken"
                    else:
                        end = reply.json()["error"]["code"]
                        time.sleep(0.3)
                    calls.append((began, time.monotonic(), end))
            return calls

        with ThreadPoolExecutor(WORKERS) as pool:
            working = [pool.submit(work, number) for number in range(WORKERS)]
            time.sleep(2)
            assert http.delete(path).status_code == 200
            revoked = time.monotonic()
            calls = [each for done in working for each in done.result()]
    ends = Counter(end for _, _, end in calls)
    assert set(ends) == {"served", "invalid_api_key"}, ends
    served = [(began, ended) for began, ended, end in calls if end == "served"]
    assert max(began for began, _ in served) - revoked < SECONDS_MAX
    assert max(ended for _, ended in served) > revoked + 0.2, "nothing was in flight"
    first_refusal = min(began for began, _, end in calls if end != "served")
    assert first_refusal > revoked - 0.01
