"""An org is told by webhook, by the running product: its scheduler, its worker, its guard of addresses."""

from standardwebhooks import Webhook

from tests.hooks import receiver
from tests.journeys.customers import Customer, until


def test_a_notice_arrives_signed_and_is_in_the_log(customer: Customer) -> None:
    with receiver() as there, customer.http() as client:
        added = client.post("/me/webhooks", json={"url": there.url})
        assert added.status_code == 201, added.text
        id, secret = added.json()["id"], added.json()["secret"]
        asked = client.post(f"/me/webhooks/{id}/test").json()["id"]
        until(lambda: there.received)
        (got,) = there.received
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "webhook.test"
        assert got.headers["webhook-id"] == asked

        def delivered() -> bool:
            rows = client.get(f"/me/webhooks/{id}/deliveries").json()["data"]
            return [(row["id"], row["status"], row["response_code"]) for row in rows] == [(asked, "delivered", 200)]

        until(delivered)


def test_an_address_behind_the_wall_is_refused(customer: Customer) -> None:
    with customer.http() as client:
        for url in ("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:8000/"):
            refused = client.post("/me/webhooks", json={"url": url})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "address_refused")
