"""The inference routes as their callers meet them: over a real socket, before a provider that is really called."""

import asyncio
import json
import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from api.app import build
from api.fast_http import Pace
from domain.inference.outlet import Patience
from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.kernel.money import format_inr
from domain.keys.events import KeyLimitsChanged, KeyMinted
from domain.ledger.events import CreditHeld, HoldReleased, RequestSettled
from tests.api.edge import CHAT, KEY, Edge, Reply, Wire, chat, gateway, request
from tests.api.edge import at_the_edge as at_an_edge

EMBEDDINGS = "/v1/embeddings"
QUOTE = "/v1/quote"
PATHS = (CHAT, EMBEDDINGS, QUOTE)
MODELS = (
    "sim-2c",
    "sim-20c-20ms",
    "sim-2c-300ttft",
    "sim-2c-err500",
    "sim-2c-err422",
    "sim-2c-nousage",
    "sim-50c-20ms-nousage",
    "sim-2000c-pad25000",
    "sim-5c-50ms",
    "sim-4c-700ms",
)


at_the_edge = partial(at_an_edge, models=MODELS)


def embed(**more: Any) -> dict[str, Any]:
    return {"model": "embed", "input": "Namaste", **more}


def body_for(path: str) -> dict[str, Any]:
    return embed() if path == EMBEDDINGS else chat()


# Served


def test_a_whole_answer_tells_who_served_it_and_what_it_cost() -> None:
    async def play(edge: Edge) -> None:
        reply = await edge.ask(request(chat()))
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        assert (reply.headers["x-br-provider"], reply.headers["x-br-model"]) == ("sim", "sim-2c")
        assert int(reply.headers["x-br-latency-ms"]) >= 0
        [settled] = edge.events(RequestSettled)
        assert reply.headers["x-br-cost-inr"] == reply.json["usage"]["cost_inr"] == format_inr(settled.cost)
        assert edge.ledger.of(reply.headers["x-request-id"])[-1] == settled
        assert "retry-after" not in reply.headers
        assert "x-should-retry" not in reply.headers

    at_the_edge(play)


def test_a_stream_ends_with_its_usage_and_its_head_tells_no_cost_yet() -> None:
    async def play(edge: Edge) -> None:
        reply = await edge.ask(request(chat(stream=True)))
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-cache"
        assert (reply.headers["x-br-provider"], reply.headers["x-br-model"]) == ("sim", "sim-2c")
        assert "x-br-cost-inr" not in reply.headers
        assert reply.frames[-1] == b"[DONE]"
        last = json.loads(reply.frames[-2])
        assert last["choices"] == []
        assert last["usage"]["cost_inr"] == format_inr(edge.events(RequestSettled)[0].cost)

    at_the_edge(play)


def test_embeddings_are_served() -> None:
    async def play(edge: Edge) -> None:
        reply = await edge.ask(request(embed(dimensions=3), path=EMBEDDINGS))
        assert len(reply.json["data"][0]["embedding"]) == 3
        assert reply.headers["x-br-cost-inr"] == reply.json["usage"]["cost_inr"]

    at_the_edge(play)


def test_the_official_client_is_served_and_understands_every_error() -> None:
    async def play(edge: Edge) -> None:
        url = f"http://127.0.0.1:{edge.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "Namaste"}]
            said = await client.chat.completions.create(model="sim-2c", messages=messages)
            assert said.choices[0].message.content
            assert said._request_id in {stream.removeprefix("request:") for stream, _ in edge.ledger.log}
            stream = await client.chat.completions.create(model="sim-2c", messages=messages, stream=True)
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].usage is not None
            assert len((await client.embeddings.create(model="embed", input="x")).data) == 1
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="none", messages=messages)
            assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
            with pytest.raises(openai.AuthenticationError):
                await client.with_options(api_key="br-wrong").chat.completions.create(model="x", messages=messages)

    at_the_edge(play)


@pytest.mark.parametrize("target", [f"{CHAT}?x=1", f"{CHAT}?api-version=2026-01-01", "/v1/chat%2Fcompletions"])
def test_a_path_may_be_written_in_other_ways(target: str) -> None:
    async def play(edge: Edge) -> None:
        assert (await edge.ask(request(chat(), path=target))).status == 200

    at_the_edge(play)


# Refused


REFUSED: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "no key": ({"key": None}, 401, "invalid_api_key", None),
    "an unknown key": ({"key": "br-unknown"}, 401, "invalid_api_key", None),
    "a foreign key": ({"key": "sk-proj-1"}, 401, "invalid_api_key", None),
    "a key without end": ({"key": "br-" + "x" * 5_000}, 401, "invalid_api_key", None),
    "a key that is not ASCII": ({"key": "br-\xe9"}, 401, "invalid_api_key", None),
    "an expired key": ({"key": "br-expired"}, 401, "invalid_api_key", None),
    "another model than the key's": ({"key": "br-narrow"}, 403, "forbidden_scope", "model"),
    "another model in a fallback": (
        {"key": "br-narrow", "body": {"model": "only", "fallbacks": [{"model": "only"}, {"model": "sim-2c"}]}},
        403,
        "forbidden_scope",
        "fallbacks[1].model",
    ),
    "no body": ({"raw": b""}, 400, "invalid_request", None),
    "no JSON": ({"raw": b"{'model'}"}, 400, "invalid_request", None),
    "no object": ({"raw": b"[]"}, 400, "invalid_request", None),
    "no UTF-8": ({"raw": b'{"model":"\xff"}'}, 400, "invalid_request", None),
    "no model": ({"raw": b'{"messages":[]}'}, 400, "invalid_request", "model"),
    "a field of another type": ({"body": {"n": "two"}}, 400, "invalid_request", "n"),
    "what is not offered": ({"body": {"sangam": {}}}, 400, "unsupported_parameter", "sangam"),
    "no such model": ({"body": {"model": "none"}}, 404, "model_not_found", "model"),
    "no route": ({"body": {"provider": "nobody"}}, 400, "no_route", None),
    "too dear": ({"body": {"max_cost_inr": 0.000000001}}, 402, "max_cost_exceeded", "max_cost_inr"),
    "too large": ({"raw": b"x" * 100_001}, 413, "payload_too_large", None),
}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
}


def check_error(reply: Reply, status: int, code: str) -> None:
    """That it is this error, with all that belongs to one."""
    assert (reply.status, reply.code) == (status, code)
    assert reply.json["error"]["type"] == TYPES[status]
    assert reply.headers["x-br-request-id"] == reply.headers["x-request-id"]
    assert reply.headers["access-control-allow-origin"] == "*"
    if status in (429, 503):
        assert int(reply.headers["retry-after"]) >= 1
    else:
        assert "retry-after" not in reply.headers


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_has_its_code_and_costs_nothing(why: str) -> None:
    sent, status, code, param = REFUSED[why]

    async def play(edge: Edge) -> None:
        edge.keys.add("br-expired", expires=edge.clock())
        edge.keys.add("br-narrow", models=frozenset({"only"}))
        key = sent.get("key", KEY)
        for path in (CHAT, QUOTE):
            if path == QUOTE and code == "max_cost_exceeded":
                continue
            body = sent.get("raw", chat(**sent.get("body", {})))
            reply = await edge.ask(request(body, path=path, key=key))
            check_error(reply, status, code)
            assert reply.json["error"]["param"] == param
        assert not edge.events(CreditHeld)
        assert (await edge.stats())["requests"] == 0

    at_the_edge(play)


@pytest.mark.parametrize("path", PATHS)
def test_too_many_requests_are_told_when_to_come_back(path: str) -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-slow", key_id="key_a", rpm_limit=2)
        for remaining in (1, 0):
            reply = await edge.ask(request(body_for(path), path=path, key="br-slow"))
            assert reply.status == 200
            assert reply.headers["x-ratelimit-limit-requests"] == "2"
            assert reply.headers["x-ratelimit-remaining-requests"] == str(remaining)
            assert reply.headers["x-ratelimit-reset-requests"] == "1m0s"
            edge.clock.forward(seconds=10)
        for _ in range(2):  # a refused one does not count
            reply = await edge.ask(request(body_for(path), path=path, key="br-slow"))
            check_error(reply, 429, "rate_limit_exceeded")
            assert reply.headers["retry-after"] == "40"
            assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        edge.clock.forward(seconds=40)
        assert (await edge.ask(request(body_for(path), path=path, key="br-slow"))).status == 200

    at_the_edge(play)


def test_the_tightest_limit_counts_and_none_is_told_where_there_is_none() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-loose", key_id="key_a", rpm_limit=500)
        reply = await edge.ask(request(chat(), key="br-loose"))
        assert reply.headers["x-ratelimit-limit-requests"] == "7"

    async def unlimited(edge: Edge) -> None:
        assert not any("ratelimit-" in name for name in (await edge.ask(request(chat()))).headers)

    at_the_edge(play, gateway_rpm=7)
    at_the_edge(unlimited)


def test_limits_of_money_and_days_are_told_with_their_end() -> None:
    async def play(edge: Edge) -> None:
        def limit(**limits: Any) -> None:
            edge.ledger.record("key:key_a", KeyLimitsChanged(at=edge.clock(), org="org_a", **limits))

        limit(daily_limit=1)
        assert (await edge.ask(request(chat()))).status == 200
        reply = await edge.ask(request(chat()))
        check_error(reply, 429, "daily_limit_reached")
        assert 0 < int(reply.headers["retry-after"]) <= 86_400
        limit(monthly_budget=100)
        reply = await edge.ask(request(chat()))
        check_error(reply, 429, "budget_exceeded")
        assert 86_400 < int(reply.headers["retry-after"]) <= 31 * 86_400

    async def poor(edge: Edge) -> None:
        check_error(await edge.ask(request(chat())), 402, "insufficient_credits")
        check_error(await edge.ask(request(chat(stream=True))), 402, "insufficient_credits")

    at_the_edge(play)
    at_the_edge(poor, inr=0)


def test_what_fails_at_every_provider_is_an_error_and_never_a_stream() -> None:
    async def play(edge: Edge) -> None:
        for streamed in (False, True):
            check_error(await edge.ask(request(chat("sim-2c-err500", stream=streamed))), 502, "all_routes_failed")
            check_error(await edge.ask(request(chat("sim-2c-err422", stream=streamed))), 400, "invalid_request")
        assert len(edge.events(HoldReleased)) == 4

    at_the_edge(play)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_called_while_keys_cannot_be_checked_or_nothing_can_be_recorded(path: str) -> None:
    async def play(edge: Edge) -> None:
        edge.keys.is_fresh = False
        check_error(await edge.ask(request(body_for(path), path=path)), 503, "ledger_unavailable")
        edge.keys.is_fresh = True
        edge.ledger.writable = False
        if path != QUOTE:
            check_error(await edge.ask(request(body_for(path), path=path)), 503, "ledger_unavailable")
        assert (await edge.stats())["requests"] == 0

    at_the_edge(play)


def test_more_calls_at_once_than_can_be_carried_are_turned_away_before_their_body_is_read() -> None:
    async def play(edge: Edge) -> None:
        wires = [await edge.connect() for _ in range(2)]
        for wire in wires:
            wire.send(request(chat("sim-2c-300ttft")))
        await edge.until(lambda: edge.in_flight == 2)
        for path in PATHS:
            extra = await edge.connect()
            reply = await extra.send(request(b"", path=path, headers={"content-length": "90000"})).reply()
            check_error(reply, 503, "overloaded")
            assert await extra.is_closed()
        for wire in wires:
            assert (await wire.reply()).status == 200
        assert (await edge.ask(request(chat()))).status == 200

    at_the_edge(play, in_flight_max=2)


def test_checks_come_in_the_published_order() -> None:
    """Body, key, requests a minute, the key's models, the model, the balance: each hides what comes after it."""

    async def play(edge: Edge) -> None:
        edge.keys.add("br-one", key_id="key_a", rpm_limit=1, models=frozenset({"sim-2c", "none"}))
        bad_body, forbidden, unknown = b"{", chat("sim-5c-50ms"), chat("none")
        assert (await edge.ask(request(bad_body, key="br-unknown"))).code == "invalid_request"
        assert (await edge.ask(request(forbidden, key="br-unknown"))).code == "invalid_api_key"
        assert (await edge.ask(request(bad_body, key="br-one"))).code == "invalid_request"  # and counts nothing
        assert (await edge.ask(request(forbidden, key="br-one"))).code == "forbidden_scope"
        assert (await edge.ask(request(forbidden, key="br-one"))).code == "rate_limit_exceeded"
        edge.clock.forward(seconds=61)
        assert (await edge.ask(request(unknown, key="br-one"))).code == "model_not_found"
        edge.clock.forward(seconds=61)
        assert (await edge.ask(request(chat(), key="br-one"))).code == "insufficient_credits"

    at_the_edge(play, inr=0)


# Keys and headers


def test_a_key_may_stand_in_any_of_its_three_headers() -> None:
    async def play(edge: Edge) -> None:
        for headers in (
            {"authorization": f"Bearer {KEY}"},
            {"Authorization": f"bearer  {KEY} "},
            {"x-br-api-key": KEY},
            {"X-API-Key": KEY},
            {"authorization": "Bearer sk-of-another", "x-br-api-key": KEY},
            {"authorization": "Basic dTpw", "x-api-key": KEY},
        ):
            assert (await edge.ask(request(chat(), key=None, headers=headers))).status == 200, headers
        for headers in ({"authorization": KEY}, {"authorization": f"Basic {KEY}"}, {"cookie": f"key={KEY}"}):
            assert (await edge.ask(request(chat(), key=None, headers=headers))).status == 401, headers

    at_the_edge(play)


def test_of_two_authorizations_the_last_counts_alone() -> None:
    async def play(edge: Edge) -> None:
        data = json.dumps(chat()).encode()
        for first, second, status in ((KEY, "br-wrong", 401), ("br-wrong", KEY, 200)):
            lines = [f"authorization: Bearer {key}\r\n" for key in (first, second)]
            head = f"POST {CHAT} HTTP/1.1\r\nhost: e\r\n{''.join(lines)}content-length: {len(data)}\r\n\r\n"
            assert (await edge.ask(head.encode() + data)).status == status

    at_the_edge(play)


def test_nothing_that_a_client_says_becomes_a_header_of_the_reply() -> None:
    async def play(edge: Edge) -> None:
        evil = "a\r\nset-cookie: x=1"
        replies = [
            await edge.ask(request(chat(evil))),
            await edge.ask(request(chat(fallbacks=[{"model": evil}]))),
            await edge.ask(request(chat(provider=evil))),
            await edge.ask(request(chat(), headers={"x-request-id": "mine", "x-br-request-id": "mine"})),
            await edge.ask(request(chat(), headers={"idempotency-key": "mine; \xe9\t%0d%0aset-cookie: x=1"})),
            await edge.ask(request(chat(), method="GET", path=f"{CHAT}?x=%0d%0aset-cookie:x=1")),
        ]
        assert [reply.status for reply in replies[3:]] == [200, 200, 405]
        assert all(reply.status in (400, 404) for reply in replies[:3])
        for reply in replies:
            assert "set-cookie" not in reply.headers
            assert reply.headers["x-request-id"].startswith("req_")

    at_the_edge(play)


def the_app() -> Any:
    """The real application without anything behind it."""
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(body_bytes_max=100_000), new_id=lambda prefix: f"{prefix}_of_the_app"
    )
    return build(services)


def test_browsers_may_call_with_all_that_sdks_send() -> None:
    asked = (
        "authorization,content-type,idempotency-key,x-stainless-arch,x-stainless-lang,x-stainless-os,"
        "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,"
        "x-stainless-timeout,x-client-request-id,openai-organization,openai-project"
    )

    async def play(edge: Edge) -> None:
        for path in PATHS:
            headers = {
                "origin": "https://example.in",
                "access-control-request-method": "POST",
                "access-control-request-headers": asked,
            }
            wire = await edge.connect()
            reply = await wire.send(request(None, path=path, method="OPTIONS", key=None, headers=headers)).reply()
            assert reply.status == 204
            assert reply.headers["access-control-allow-origin"] == "*"
            assert reply.headers["access-control-allow-headers"] == asked
            assert "POST" in reply.headers["access-control-allow-methods"]
            assert (await wire.send(request(body_for(path), path=path)).reply()).status == 200
            check_error(await wire.send(request(None, path=path, method="GET")).reply(), 405, "method_not_allowed")
            check_error(await wire.send(request(body_for(path), path=f"{path}/")).reply(), 404, "not_found")

    at_the_edge(play, app=the_app())


# Once only


def once(idempotency_key: str, body: Any = None, **more: Any) -> bytes:
    return request(chat() if body is None else body, headers={"idempotency-key": idempotency_key}, **more)


def check_conflict(reply: Reply, first: str) -> None:
    check_error(reply, 409, "idempotency_conflict")
    assert reply.headers["x-request-id"] == first
    assert first in reply.json["error"]["message"]
    assert reply.headers["x-should-retry"] == "false"


def test_a_repeat_of_a_served_call_is_told_the_first_and_costs_nothing() -> None:
    async def play(edge: Edge) -> None:
        first = await edge.ask(once("a"))
        assert first.status == 200
        for _ in range(2):
            check_conflict(await edge.ask(once("a")), first.headers["x-request-id"])
        other = await edge.ask(once("a", chat(temperature=0)))
        check_error(other, 422, "idempotency_conflict")
        assert first.headers["x-request-id"] in other.json["error"]["message"]
        for anew in (once("b"), request(chat()), request(chat(), headers={"idempotency-key": ""})):
            assert (await edge.ask(anew)).status == 200
        assert (await edge.ask(request(chat(), headers={"idempotency-key": ""}))).status == 200
        assert len(edge.events(RequestSettled)) == 5

    at_the_edge(play)


def test_a_repeat_while_the_first_runs_is_told_the_first() -> None:
    async def play(edge: Edge) -> None:
        for streamed in (False, True):
            body = chat("sim-2c-300ttft", stream=streamed)
            wire = await edge.connect()
            wire.send(once(f"a{streamed}", body))
            await edge.until(lambda: bool(edge.ledger.guards.holds))
            [running] = edge.ledger.guards.holds
            check_conflict(await edge.ask(once(f"a{streamed}", body)), running)
            check_error(await edge.ask(once(f"a{streamed}")), 422, "idempotency_conflict")
            assert (await wire.reply()).headers["x-request-id"] == running
        assert (await edge.stats())["requests"] == 2

    at_the_edge(play)


@pytest.mark.parametrize("bodies", [(chat(), chat()), (chat(), chat(temperature=0))], ids=["same", "different"])
def test_of_calls_that_come_at_the_same_moment_one_is_made(bodies: tuple[Any, Any]) -> None:
    async def play(edge: Edge) -> None:
        wires = [await edge.connect() for _ in range(8)]
        for number, wire in enumerate(wires):
            wire.send(once("a", bodies[number % 2]))
        replies = [await wire.reply() for wire in wires]
        [served] = [reply for reply in replies if reply.status == 200]
        assert (await edge.stats())["requests"] == 1
        assert len(edge.events(CreditHeld)) == 1
        statuses = sorted(reply.status for reply in replies)
        if bodies[0] == bodies[1]:
            assert statuses == [200] + [409] * 7
        else:
            assert statuses == [200] + [409] * 3 + [422] * 4
        for reply in replies:
            assert reply.headers["x-request-id"] == served.headers["x-request-id"]

    at_the_edge(play)


def test_a_first_call_that_came_to_nothing_may_be_made_again() -> None:
    async def play(edge: Edge) -> None:
        broken = chat("sim-2c-err500")
        ids = set()
        for _ in range(3):
            reply = await edge.ask(once("a", broken))
            assert reply.status == 502
            ids.add(reply.headers["x-request-id"])
        assert len(ids) == 3  # each is a request of its own
        assert (await edge.ask(once("b", chat("none")))).status == 404
        for key in ("a", "b"):
            served = await edge.ask(once(key))
            assert served.status == 200
            check_conflict(await edge.ask(once(key)), served.headers["x-request-id"])

    at_the_edge(play)


def test_a_key_without_end_of_failures_is_given_up() -> None:
    async def play(edge: Edge) -> None:
        for _ in range(20):
            assert (await edge.ask(once("a", chat("none")))).status == 404
        check_error(await edge.ask(once("a", chat("none"))), 409, "idempotency_conflict")

    at_the_edge(play)


def test_an_idempotency_key_is_forgotten_after_a_day_and_is_each_api_keys_own() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-second", key_id="key_b")
        edge.ledger.record("key:key_b", minted_as("key_b"))
        assert (await edge.ask(once("a"))).status == 200
        assert (await edge.ask(once("a", key="br-second"))).status == 200
        edge.clock.forward(seconds=24 * 3_600)
        assert (await edge.ask(once("a"))).status == 409
        edge.clock.forward(seconds=1)
        assert (await edge.ask(once("a"))).status == 200
        assert (await edge.ask(once("a"))).status == 409

    at_the_edge(play)


def minted_as(key: str) -> Event:
    return KeyMinted(at=1, org="org_a", workspace="ws_a", name="b", prefix=key, digest="01")


def test_the_official_client_does_not_repeat_a_conflict() -> None:
    async def play(edge: Edge) -> None:
        url = f"http://127.0.0.1:{edge.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=2) as client:
            headers = {"Idempotency-Key": "a"}
            messages: Any = [{"role": "user", "content": "x"}]
            await client.chat.completions.create(model="sim-2c", messages=messages, extra_headers=headers)
            before = edge.server.server_state.total_requests
            with pytest.raises(openai.ConflictError):
                await client.chat.completions.create(model="sim-2c", messages=messages, extra_headers=headers)
            assert edge.server.server_state.total_requests == before + 1

    at_the_edge(play)


# Quotes


def test_a_quote_is_what_the_call_then_holds() -> None:
    asks = st.fixed_dictionaries(
        {},
        optional={
            "stream": st.booleans(),
            "n": st.integers(1, 5),
            "max_tokens": st.integers(1, 9_000),
            "max_completion_tokens": st.integers(1, 9_000),
            "fallbacks": st.just([{"model": "sim-5c-50ms"}]),
            "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
        },
    )

    async def play(edge: Edge, body: dict[str, Any], path: str) -> None:
        edge.ledger.log.clear()
        quoted = await edge.ask(request(body, path=QUOTE))
        assert quoted.status == 200
        assert not edge.ledger.log
        assert (await edge.ask(request(body, path=path))).status == 200
        [held] = edge.events(CreditHeld)
        assert quoted.json["hold_inr"] == format_inr(held.amount)
        assert quoted.json["input_tokens_max"] == held.input_tokens
        assert quoted.json["output_tokens_max"] == held.output_tokens * body.get("n", 1)
        assert [f"{route['provider']}/{route['model']}" for route in quoted.json["routes"]] == list(held.candidates)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        kept = gateway(models=MODELS)
        edge = runner.run(kept.__aenter__())
        edge.ledger.check = lambda: None  # of a log that is cleared all the time

        @settings(max_examples=100)
        @given(asks, st.text(max_size=300))
        def chats(more: dict[str, Any], text: str) -> None:
            message = {"role": "user", "content": text}
            runner.run(play(edge, chat(**more, messages=[message]), CHAT))

        @settings(max_examples=30)
        @given(st.text(min_size=1, max_size=300) | st.lists(st.integers(0, 99_999), min_size=1))
        def embeddings(text: str | list[int]) -> None:
            runner.run(play(edge, embed(input=text), EMBEDDINGS))

        try:
            chats()
            embeddings()
        finally:
            runner.run(kept.__aexit__(None, None, None))


def test_a_quote_for_neither_messages_nor_input_asks_for_messages() -> None:
    async def play(edge: Edge) -> None:
        for body, param in (({"model": "sim-2c"}, "messages"), (embed(sangam="x"), "sangam")):
            reply = await edge.ask(request(body, path=QUOTE))
            assert (reply.status, reply.json["error"]["param"]) == (400, param)

    at_the_edge(play)


# Clients that leave, or read slowly


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_before_the_first_byte_is_settled_or_released(streamed: bool) -> None:
    async def play(edge: Edge) -> None:
        wire = await edge.connect()
        wire.send(request(chat("sim-2c-300ttft", stream=streamed)))
        await edge.until(lambda: bool(edge.ledger.guards.holds))
        wire.reset()
        await edge.until(lambda: edge.in_flight == 0 and edge.open_connections == 0)
        assert not edge.ledger.guards.holds
        assert len(edge.events(RequestSettled)) + len(edge.events(HoldReleased)) == 1

    at_the_edge(play)


def test_a_client_that_leaves_in_a_stream_pays_for_what_was_made() -> None:
    async def play(edge: Edge) -> None:
        wire = await edge.connect()
        wire.send(request(chat("sim-50c-20ms-nousage", stream=True)))
        await wire.head()
        await wire.reader.readuntil(b"data: ")
        wire.reset()
        await edge.until(lambda: edge.in_flight == 0 and edge.open_connections == 0)
        [settled] = edge.events(RequestSettled)
        assert settled.ending == "client_gone"
        assert 0 < settled.cost <= settled.held
        assert (await edge.stats())["pieces"] < 50  # the provider was stopped

    at_the_edge(play, patience=Patience(disconnect_grace=0.2))


def test_a_client_that_reads_slowly_slows_the_provider_down() -> None:
    async def play(edge: Edge) -> None:
        wire = await edge.connect()
        wire.send(request(chat("sim-2000c-pad25000", stream=True)))
        await wire.head()
        made = -1
        while (now := (await edge.stats())["pieces"]) != made:
            made = now
            await asyncio.sleep(0.2)
        assert made < 1_000  # of 2,000 pieces of 25 kB; what the buffers of four sockets hold
        size = 0
        async for chunk in wire.chunks():
            size += len(chunk)
        assert size > 50_000_000
        assert edge.events(RequestSettled)[0].ending == "finished"

    at_the_edge(play, inr=100_000)


def test_a_silent_provider_does_not_make_a_silent_stream() -> None:
    async def play(edge: Edge) -> None:
        reply = await edge.ask(request(chat("sim-5c-50ms", stream=True)))
        assert reply.body.count(b": keep-alive\n\n") >= 3
        assert reply.frames[-1] == b"[DONE]"

    at_the_edge(play, pace=Pace(beat=0.02))


def test_a_thousand_streams_at_once_are_served_without_an_error() -> None:
    async def play(edge: Edge) -> None:
        wires = [await edge.connect() for _ in range(1_000)]
        for wire in wires:
            wire.send(request(chat("sim-4c-700ms", stream=True)))
        await edge.until(lambda: len(edge.ledger.guards.holds) == 1_000)
        replies = [await wire.reply() for wire in wires]
        assert {reply.status for reply in replies} == {200}
        assert all(reply.frames[-1] == b"[DONE]" and json.loads(reply.frames[-2])["usage"] for reply in replies)
        assert len(edge.events(RequestSettled)) == 1_000
        assert len({reply.headers["x-request-id"] for reply in replies}) == 1_000

    at_the_edge(play)


# Stops and faults


def test_a_stop_lets_calls_end_and_what_lasts_too_long_is_released() -> None:
    async def play(edge: Edge) -> None:
        whole, stream = await edge.connect(), await edge.connect()
        whole.send(request(chat("sim-2c-300ttft")))
        stream.send(request(chat("sim-20c-20ms", stream=True)))
        await edge.until(lambda: edge.in_flight == 2)
        edge.server.should_exit = True
        assert (await whole.reply()).status == 200
        assert (await stream.reply()).frames[-1] == b"[DONE]"
        assert len(edge.events(RequestSettled)) == 2

    async def too_long(edge: Edge) -> None:
        wire: Wire = await edge.connect()
        wire.send(request(chat("sim-50c-50ms", stream=True)))
        await edge.until(lambda: bool(edge.ledger.guards.holds))
        edge.server.should_exit = True
        reply = await wire.reply()
        assert json.loads(reply.frames[-2])["error"]["code"] == "overloaded"
        assert reply.frames[-1] == b"[DONE]"
        assert await wire.is_closed()
        [released] = edge.events(HoldReleased)
        assert released.code == "internal_error"

    at_the_edge(play)
    at_the_edge(too_long, models=("sim-50c-50ms",), stop_seconds=1)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_fault_of_ours_is_an_error_in_its_place_and_releases_the_hold(
    streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(edge: Edge) -> None:
        edge.services.tokenizer.trouble.at = 1  # it is asked after the answer, where the provider tells no usage
        edge.services.tokenizer.trouble.how = "fail"
        reply = await edge.ask(request(chat("sim-2c-nousage", stream=streamed)))
        if streamed:
            assert reply.frames[-1] == b"[DONE]"
            assert json.loads(reply.frames[-2])["error"]["code"] == "internal_error"
        else:
            check_error(reply, 500, "internal_error")
            assert reply.headers["x-should-retry"] == "false"
        assert len(edge.events(HoldReleased)) == 1
        assert "a fault of ours" in caplog.text

    with caplog.at_level(logging.ERROR):
        at_the_edge(play)


def test_a_fault_while_the_caller_is_looked_up_is_an_error_in_the_envelope() -> None:
    def broken(*_: object) -> Any:
        raise KeyError("a secret that must not be told")

    async def play(edge: Edge) -> None:
        for path in PATHS:
            reply = await edge.ask(request(body_for(path), path=path))
            check_error(reply, 500, "internal_error")
            assert b"secret" not in reply.body

    at_the_edge(play, identify=broken)


def test_a_key_that_expires_is_refused_from_that_moment() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-hour", expires=edge.clock() + 3_600 * SECOND)
        assert (await edge.ask(request(chat(), key="br-hour"))).status == 200
        edge.clock.forward(seconds=3_600)
        assert (await edge.ask(request(chat(), key="br-hour"))).status == 401

    at_the_edge(play)
