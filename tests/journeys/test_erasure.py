"""A person of the running product sees what was changed and from where, takes their data, and is erased everywhere."""

import time

import pytest

from tests.journeys.customers import gateways, until
from tests.product import Product
from tests.simulated_identity import Browser, typed

pytestmark = pytest.mark.journeys

SECONDS_MAX = 1.0


def test_who_is_erased_is_out_of_every_gateway_within_a_second_and_gets_no_credit_again(product: Product) -> None:
    browser = Browser(product.url)
    browser.sign_in("github", typed("gone-of-the-journey"))
    person = browser.me()["person"]
    key = browser.change("POST", "/me/keys", {"name": "first"}).json()["key"]
    trail = until(
        lambda: (rows := browser.get("/me/audit").json()["data"])[:1] and rows[0]["action"] == "key_minted" and rows
    )
    assert (trail[0]["actor"], trail[0]["address"]) == (f"user:{person['id']}", "127.0.0.1")
    assert browser.get("/me/export").json()["facts"][0]["fields"]["name"] == person["name"]

    cookie = f"br_session={browser.cookie}"
    with_session = {"cookie": cookie, "authorization": ""}
    with gateways(product, key) as clients:
        for client in clients.values():
            until(lambda client=client: client.get("/v1/key").status_code == 200)
            assert client.get("/me", headers=with_session).json()["person"] == person
        assert browser.change("DELETE", "/me", {"confirm": person["email"]}).json()["erased"] is True
        ended = time.monotonic()
        for client in clients.values():
            let_in = 0.0
            while 200 in (client.get("/v1/key").status_code, client.get("/me", headers=with_session).status_code):
                let_in = time.monotonic() - ended
            assert let_in < SECONDS_MAX
    browser.close()

    again = Browser(product.url)
    again.sign_in("github", typed("gone-of-the-journey"))
    assert again.me()["person"]["id"] != person["id"]
    refused = again.change("POST", "/me/keys", {"name": "first", "scope": "inference"}).json()
    assert refused["error"]["code"] == "trial_ceiling", "it has credit"
    again.close()
