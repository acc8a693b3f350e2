"""A collection is published by one org, found, read and imported by another, and calls of every gateway go by it."""

import time

import httpx
import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import gateways, until
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

DOWN, DEARER, STEADY = "sim-err503", "sim-abroad", "sim-3c-crlf"


def test_a_published_collection_is_found_imported_and_in_force_within_a_second(
    product: Product, new_customer: NewCustomer
) -> None:
    author, other = new_customer(), new_customer()
    name = f"Steady {author.org[-6:]}"
    with author.http() as http:
        steps = [{"model": DOWN}, {"model": STEADY, "provider": DEARER}]
        wanted = {"name": name, "model": DOWN, "steps": steps, "readme_md": "# Why\n<script>", "public": True}
        made = http.post("/me/collections", json=wanted)
        assert made.status_code == 201, made.text
        slug = made.json()["slug"]
    with httpx.Client(base_url=product.url, trust_env=False) as anybody:
        found = until(lambda: anybody.get("/v1/collections", params={"q": name.lower()}).json()["data"])
        assert [row["slug"] for row in found] == [slug]
        assert anybody.get(f"/v1/collections/{slug}").json()["readme_html"] == "<h1>Why</h1>\n<p>&lt;script&gt;</p>\n"

    body = chat_body(DOWN, max_tokens=3)
    with other.http() as http, gateways(product, other.key) as clients:
        assert http.post("/v1/chat/completions", json=body).json()["error"]["code"] == "all_routes_failed"
        imported = http.post(f"/me/collections/import/{slug}")
        assert imported.status_code == 200, imported.text
        time.sleep(1)
        for client in clients.values():
            served = client.post("/v1/chat/completions", json=body)
            assert served.status_code == 200, served.text
            assert (served.headers["x-br-model"], served.headers["x-br-provider"]) == (STEADY, DEARER)
        led = {"name": name, "model": STEADY, "steps": [{"model": STEADY, "provider": DEARER}]}
        own = http.post("/me/collections", json=led).json()["slug"]
        assert http.post(f"/me/collections/import/{own}").status_code == 200
        time.sleep(1)
        for client in clients.values():
            served = client.post("/v1/chat/completions", json=chat_body(STEADY, max_tokens=3))
            assert (served.status_code, served.headers["x-br-provider"]) == (200, DEARER)
