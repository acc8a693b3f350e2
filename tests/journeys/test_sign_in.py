"""A person signs in to the running product, with either provider, and out of it everywhere."""

import time
from collections.abc import Iterator

import pytest

from tests.journeys.customers import gateways, until
from tests.product import Product
from tests.simulated_identity import Browser, typed

pytestmark = pytest.mark.journeys

SECONDS_MAX = 1.0
NO_KEY = "none"


@pytest.fixture
def browsers(product: Product) -> Iterator[list[Browser]]:
    made = [Browser(product.url) for _ in range(2)]
    yield made
    for browser in made:
        browser.close()


def test_a_person_comes_with_both_providers_has_one_account_and_leaves_every_gateway_at_once(
    product: Product, browsers: list[Browser]
) -> None:
    here, there = browsers
    page = here.get("/sign-in").text
    assert "Development sign-in" in page
    reply = here.sign_in("github", typed("asha-of-the-journey"), next="/me/sessions")
    assert reply.headers["location"] == "/me/sessions"
    there.sign_in("google", typed("asha-at-work", email="asha-of-the-journey@example.com"))
    assert here.me()["person"]["id"] == there.me()["person"]["id"]
    assert len(here.get("/me/sessions").json()["data"]) == 2

    key = here.change("POST", "/me/keys", {"name": "first"}).json()["key"]
    spent = until(lambda: product.chat(key).json().get("usage"))
    assert spent["cost_inr"] != "0"
    billing = until(lambda: (row := there.get("/me/billing").json())["events"] and row)
    assert [event["amount_inr"] for event in billing["events"]] == ["100"]

    cookie = f"br_session={there.cookie}"
    with gateways(product, NO_KEY) as clients:
        for client in clients.values():
            del client.headers["authorization"]
            until(lambda client=client: client.get("/me", headers={"cookie": cookie}).status_code == 200)
        assert here.change("POST", "/auth/logout?everywhere=true").status_code == 200
        ended = time.monotonic()
        for client in clients.values():
            asked = 0.0
            while client.get("/me", headers={"cookie": cookie}).status_code != 401:
                asked = time.monotonic() - ended
            assert asked < SECONDS_MAX
    assert here.get("/me").status_code == there.get("/me").status_code == 401
    assert product.chat(key).status_code == 200  # keys outlive sessions
