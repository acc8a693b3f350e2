"""How the API behaves towards any HTTP client: errors, their order and their envelope, unknown paths, browsers, and the
headers that every reply has."""

import json
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import NewCustomer
from tests.journeys.customers import Customer
from tests.product import Product, chat_body

pytestmark = pytest.mark.journeys

CHAT, EMBEDDINGS, QUOTE = "/v1/chat/completions", "/v1/embeddings", "/v1/quote"
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def assert_error(reply: httpx.Response, status: int, code: str, *, param: str | None = None) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"]
    assert set(reply.json()) == {"error"}
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert error["type"] == TYPES[status]
    assert error["param"] == param
    assert error["message"]


def test_every_reply_carries_its_request_id_and_ids_differ(customer: Customer) -> None:
    seen = set()
    with customer.http() as http:
        for method, path, body in (
            ("GET", "/livez", None),
            ("GET", "/readyz", None),
            ("GET", "/health", None),
            ("GET", "/v1/models", None),
            ("GET", "/v1/providers", None),
            ("GET", "/v1/key", None),
            ("GET", "/v1/rankings", None),
            ("GET", "/openapi.json", None),
            ("GET", "/me/keys", None),
            ("GET", "/nowhere", None),
            ("POST", CHAT, chat_body("steady")),
            ("POST", CHAT, chat_body("nobody/knows")),
            ("POST", QUOTE, chat_body("steady")),
            ("POST", CHAT, "nonsense"),
        ):
            reply = http.request(method, path, json=body)
            assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"], path
            seen.add(reply.headers["x-request-id"])
            assert "date" in reply.headers, path
            assert "server" not in reply.headers, path
    assert len(seen) == 14


def test_unknown_paths_and_methods_are_told_in_the_envelope(customer: Customer) -> None:
    with customer.http() as http:
        for path in ("/", "/v1", "/v1/", "/v1/nothing", "/me/nothing", "/v1/chat", "/v1/models/", "/v2/models"):
            reply = http.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) in (
                (404, "not_found"),
                (404, "model_not_found"),
            ), path
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        for method, path in (
            ("GET", CHAT),
            ("PUT", EMBEDDINGS),
            ("DELETE", QUOTE),
            ("POST", "/v1/models"),
            ("DELETE", "/v1/key"),
            ("PUT", "/me/keys"),
            ("POST", "/livez"),
        ):
            reply = http.request(method, path)
            assert_error(reply, 405, "method_not_allowed")
            assert reply.headers["allow"], path


def test_head_is_answered_without_a_body(customer: Customer) -> None:
    with customer.http() as http:
        reply = http.head(CHAT)
        assert reply.status_code == 405
        assert reply.content == b""
        assert http.get("/v1/models").status_code == 200  # the connection is still in step


def test_the_checks_come_in_the_published_order(new_customer: NewCustomer) -> None:
    """Body, key, requests a minute, and only then the limits, the model and the routes."""
    key = new_customer(rpm_limit=1, daily_limit=0, monthly_budget=1, inr="0.0000001")
    with key.http() as http:
        bad_key = {"authorization": "Bearer br-nobody"}
        assert_error(http.post(CHAT, content=b"{", headers=bad_key), 400, "invalid_request")
        assert_error(http.post(CHAT, json=chat_body("nobody/knows"), headers=bad_key), 401, "invalid_api_key")
        assert_error(http.post(CHAT, json=chat_body("steady")), 429, "daily_limit_reached")
        assert_error(http.post(CHAT, json=chat_body("nobody/knows")), 429, "rate_limit_exceeded")
    for terms, code, status in (
        ({"daily_limit": 0, "monthly_budget": 1, "inr": "0.0000001"}, "daily_limit_reached", 429),
        ({"monthly_budget": 1, "inr": "0.0000001"}, "budget_exceeded", 429),
        ({"inr": "0.0000001"}, "insufficient_credits", 402),
    ):
        caller = new_customer(**terms)
        with caller.http() as http:
            reply = http.post(CHAT, json=chat_body("steady"))
            assert_error(reply, status, code)
            assert ("retry-after" in reply.headers) == (status == 429)


def test_keys_are_taken_from_three_headers_and_bad_ones_refused(product: Product, customer: Customer) -> None:
    with httpx.Client(base_url=product.url, trust_env=False, verify=False) as http:
        for headers in (
            {"authorization": f"Bearer {customer.key}"},
            {"authorization": f"bearer {customer.key}"},
            {"x-br-api-key": customer.key},
            {"x-api-key": customer.key},
            {"authorization": "Bearer sk-other", "x-br-api-key": customer.key},
        ):
            assert http.get("/v1/key", headers=headers).json()["id"] == customer.key_id
        refused: list[dict[str, str]] = [
            {},
            {"authorization": "Bearer br-nobody"},
            {"authorization": f"Basic {customer.key}"},
            {"authorization": f"Bearer {customer.key}x"},
            {"x-api-key": "br-" + "x" * 300},
        ]
        for headers in refused:
            assert_error(http.get("/v1/key", headers=headers), 401, "invalid_api_key")
            assert_error(http.post(CHAT, json=chat_body("steady"), headers=headers), 401, "invalid_api_key")
        assert_error(http.get("/me/keys"), 401, "no_session")
        assert_error(http.get("/me/keys", headers={"authorization": "Bearer br-nobody"}), 401, "invalid_api_key")
        assert_error(http.get("/v1/models", headers={"authorization": "Bearer br-nobody"}), 401, "invalid_api_key")
        assert http.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"data_policy": "mars_only"}, "data_policy"),
        ({"max_cost_inr": -1}, "max_cost_inr"),
        ({"fallbacks": [{"model": "steady"}] * 11}, "fallbacks"),
        ({"optimize": "luck"}, "optimize"),
    ],
)
def test_a_wrong_field_is_named(customer: Customer, fields: dict[str, Any], param: str) -> None:
    with customer.http() as http:
        assert_error(http.post(CHAT, json=chat_body("steady") | fields), 400, "invalid_request", param=param)


def test_bodies_that_are_no_requests_are_refused(customer: Customer) -> None:
    with customer.http() as http:
        for body in (b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 5_000, b'{"model": "steady"'):
            for path in (CHAT, EMBEDDINGS, QUOTE):
                reply = http.post(path, content=body)
                assert_error(reply, 400, "invalid_request", param=reply.json()["error"]["param"])
        too_much = json.dumps(chat_body("steady", padding="x" * 10_000_000)).encode()
        for path in (CHAT, "/me/keys"):
            try:
                assert_error(http.post(path, content=too_much), 413, "payload_too_large")
            except (httpx.WriteError, httpx.ReadError) as early:  # it may be cut off while it still sends
                raise AssertionError("the answer did not arrive") from early
    assert customer.spent_nanos() == 0


def test_browsers_of_other_origins_may_call(product: Product, customer: Customer) -> None:
    asked = "authorization, content-type, x-stainless-lang, x-stainless-retry-count"
    preflight = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
    }
    with customer.http() as http:
        for path in (CHAT, EMBEDDINGS, QUOTE, "/v1/models"):
            reply = http.options(path, headers=preflight)
            assert reply.status_code == 204, path
            assert reply.headers["access-control-allow-origin"] == "*"
            assert "POST" in reply.headers["access-control-allow-methods"]
            allowed = reply.headers["access-control-allow-headers"].lower()
            assert all(name in allowed for name in asked.split(", ")), path
            assert "access-control-allow-credentials" not in reply.headers
        replies = [
            http.get("/v1/models", headers={"origin": "https://app.example"}),
            http.post(CHAT, json=chat_body("steady")),
            http.post(CHAT, json=chat_body("sim-3c-crlf", stream=True)),
            http.post(CHAT, json=chat_body("nobody/knows")),
            http.get("/v1/nothing"),
        ]
        for reply in replies:
            assert reply.headers["access-control-allow-origin"] == "*", reply.url
            exposed = reply.headers["access-control-expose-headers"]
            for name in ("x-br-request-id", "x-br-provider", "x-br-model", "x-br-cost-inr", "retry-after"):
                assert name in exposed
        assert "access-control-allow-origin" not in http.get("/me/keys").headers


def test_what_is_for_operators_alone_is_told_to_this_machine(customer: Customer) -> None:
    with customer.http() as http:
        reply = http.get("/metrics")
        assert reply.status_code == 200
        assert "python_info" in reply.text
        assert_error(http.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"}), 403, "forbidden_scope")
