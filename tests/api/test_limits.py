"""What limits tell callers: requests a minute in OpenAI's headers, days and months by India's calendar, and wrong keys
by the address that they come from."""

import asyncio
import re
from collections import Counter
from datetime import datetime
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from api.app import build
from api.inference import limit_headers, tightest
from api.routes.ephemeral_keys import within_limits
from domain.inference.rates import Window
from domain.kernel.clock import SECOND
from domain.kernel.errors import TooMany
from domain.keys.events import KeyLimitsChanged
from domain.keys.key import key_digest
from domain.ledger.events import RequestSettled
from domain.ledger.guards import Guards, evolve
from domain.routing.health import LocalHealth
from tests.api.edge import CHAT, KEY, Edge, Keys, Minutes, Reply, Wire, at_the_edge, chat, request
from tests.fakes import FakeClock
from tests.given import PEPPER

INDIA = ZoneInfo("Asia/Kolkata")
HOURS, MINUTES = 3_600, 60
GO_UNITS = {"ms": 1, "s": 1_000, "m": 60_000}
LIMITS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")


def headers_of(window: Window) -> dict[str, str]:
    return dict(line.split(": ") for line in limit_headers(window).decode().removesuffix("\r\n").split("\r\n"))


# Requests a minute


@pytest.mark.parametrize(
    ("rpm_limit", "gateway_rpm", "expected"),
    [(None, 120, 120), (60, 120, 60), (500, 120, 120), (60, 0, 60), (None, 0, None), (0, 120, 0)],
)
def test_the_lower_of_the_keys_limit_and_the_gateways_counts(
    rpm_limit: int | None, gateway_rpm: int, expected: int | None
) -> None:
    assert tightest(rpm_limit, gateway_rpm) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.000_001, "1ms"),
        (0.02, "20ms"),
        (0.999_5, "1s"),
        (1, "1s"),
        (7.2, "7.2s"),
        (59.94, "59.94s"),
        (59.999_1, "1m0s"),
        (60, "1m0s"),
        (61.005, "1m1.005s"),
        (360, "6m0s"),
    ],
)
def test_the_reset_is_written_as_openai_writes_durations(seconds: float, expected: str) -> None:
    assert headers_of(Window(True, 120, 119, seconds, 0))["x-ratelimit-reset-requests"] == expected


@given(st.integers(0, 60 * SECOND))
def test_a_reset_is_never_told_too_early_and_less_than_a_millisecond_late(micros: int) -> None:
    text = headers_of(Window(True, 1, 0, micros / SECOND, 0))["x-ratelimit-reset-requests"]
    assert re.fullmatch(r"(\d+m)?\d+(\.\d{0,2}[1-9])?s|\d+ms", text)
    millis = sum(round(float(number) * GO_UNITS[unit]) for number, unit in re.findall(r"([\d.]+)(ms|m|s)", text))
    assert 0 <= millis * 1_000 - micros < 1_000


def test_every_reply_tells_the_window_also_a_stream_an_error_and_a_refusal() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-own", key_id="key_a", rpm_limit=5)
        told = []
        bodies = [
            chat(),
            chat(stream=True),
            chat("none"),
            chat(max_cost_inr="0.000000001"),
            chat(),
            chat(),
            chat(stream=True),
        ]
        for body in bodies:
            reply = await edge.ask(request(body, key="br-own"))
            told.append((reply.status, *(reply.headers[name] for name in LIMITS)))
            edge.clock.forward(seconds=1.5)
        assert told == [
            (200, "5", "4", "1m0s"),
            (200, "5", "3", "1m0s"),
            (404, "5", "2", "1m0s"),
            (402, "5", "1", "1m0s"),
            (200, "5", "0", "1m0s"),
            (429, "5", "0", "58.5s"),
            (429, "5", "0", "57s"),
        ]

    at_the_edge(play, gateway_rpm=120)


def test_a_refusal_says_to_the_millisecond_when_the_next_slot_is_free() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-own", key_id="key_a", rpm_limit=2)
        for seconds in (7.25, 20):
            assert (await edge.ask(request(chat(), key="br-own"))).status == 200
            edge.clock.forward(seconds=seconds)
        reply = await edge.ask(request(chat(), key="br-own"))
        assert (reply.code, reply.headers["retry-after-ms"], reply.headers["retry-after"]) == (
            "rate_limit_exceeded",
            "32750",
            "33",
        )
        assert "raise its rpm_limit" in reply.json["error"]["message"]
        edge.clock.forward(seconds=32.749)
        assert (await edge.ask(request(chat(), key="br-own"))).headers["retry-after-ms"] == "1"
        edge.clock.forward(seconds=0.001)
        assert (await edge.ask(request(chat(), key="br-own"))).status == 200

    at_the_edge(play)


def test_who_meets_the_gateways_cap_is_not_told_to_raise_their_own() -> None:
    async def play(edge: Edge) -> None:
        assert (await edge.ask(request(chat()))).status == 200
        reply = await edge.ask(request(chat()))
        assert (reply.status, reply.headers["x-ratelimit-limit-requests"]) == (429, "1")
        assert "rpm_limit" not in reply.json["error"]["message"]

    at_the_edge(play, gateway_rpm=1)


def test_what_one_limit_of_an_ephemeral_key_refuses_its_parent_keeps() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add("br-parent", key_id="key_a", rpm_limit=4)
        edge.keys.add("br-child", key_id="key_a", rpm_limit=4, child="eph_1", child_rpm_limit=1, tier="ephemeral")
        assert await statuses(edge, *["br-child"] * 4) == [200, 429, 429, 429]
        assert await statuses(edge, *["br-parent"] * 4) == [200, 200, 200, 429]

    at_the_edge(play)


# Days and months, which begin at midnight in India


def india(moment: str) -> int:
    """Microseconds since 1970 of a moment on India's clocks, by the database of time zones."""
    return int(datetime.fromisoformat(moment).replace(tzinfo=INDIA).timestamp()) * SECOND


def limit_to(edge: Edge, **limits: Any) -> None:
    edge.ledger.record("key:key_a", KeyLimitsChanged(at=edge.clock(), org="org_a", **limits))


@pytest.mark.parametrize("day", ["2027-03-31", "2028-02-28", "2028-02-29", "2026-12-31", "2026-11-23"])
def test_the_days_calls_are_free_again_at_midnight_in_india_and_not_before(day: str) -> None:
    async def play(edge: Edge) -> None:
        edge.clock.now = india(f"{day}T00:00:00")
        limit_to(edge, daily_limit=1)
        assert (await edge.ask(request(chat()))).status == 200
        for hours, minutes in ((0, 0), (5, 30), (5, 30), (12, 59)):  # 5:30 is midnight in UTC
            edge.clock.forward(seconds=hours * HOURS + minutes * MINUTES)
            assert (await edge.ask(request(chat()))).code == "daily_limit_reached"
        edge.clock.forward(seconds=59.5)
        reply = await edge.ask(request(chat()))
        assert (reply.code, reply.headers["retry-after"]) == ("daily_limit_reached", "1")
        edge.clock.forward(seconds=0.5)
        assert (await edge.ask(request(chat()))).status == 200
        assert (await edge.ask(request(chat()))).code == "daily_limit_reached"

    at_the_edge(play)


@pytest.mark.parametrize(
    ("last_day", "first_day"),
    [
        ("2027-03-31", "2027-04-01"),  # the financial year ends, too
        ("2028-02-29", "2028-03-01"),
        ("2027-02-28", "2027-03-01"),
        ("2026-12-31", "2027-01-01"),
        ("2026-11-30", "2026-12-01"),
    ],
)
def test_a_months_budget_is_free_again_on_the_first_at_midnight_in_india_and_not_before(
    last_day: str, first_day: str
) -> None:
    async def play(edge: Edge) -> None:
        edge.clock.now = india(f"{last_day}T12:00:00")
        assert (await edge.ask(request(chat(max_tokens=100)))).status == 200
        [first] = edge.events(RequestSettled)
        limit_to(edge, monthly_budget=first.cost)  # which is spent
        reply = await edge.ask(request(chat(max_tokens=100)))
        assert reply.code == "budget_exceeded"
        assert 12 * HOURS <= int(reply.headers["retry-after"]) <= 12 * HOURS + 1
        edge.clock.now = india(f"{last_day}T23:59:59") + 999_999
        assert (await edge.ask(request(chat(max_tokens=100)))).code == "budget_exceeded"
        edge.clock.now = india(f"{first_day}T00:00:00")
        limit_to(edge, monthly_budget=10 * first.held)
        assert (await edge.ask(request(chat(max_tokens=100)))).status == 200
        assert edge.events(RequestSettled)[-1].at == edge.clock.now

    at_the_edge(play)


def test_the_29th_of_february_does_not_free_a_budget() -> None:
    async def play(edge: Edge) -> None:
        edge.clock.now = india("2028-02-28T23:59:59")
        limit_to(edge, monthly_budget=0)
        edge.clock.now = india("2028-02-29T00:00:00")
        reply = await edge.ask(request(chat()))
        assert reply.code == "budget_exceeded"
        assert 24 * HOURS <= int(reply.headers["retry-after"]) <= 24 * HOURS + 1

    at_the_edge(play)


def test_a_call_over_midnight_settles_into_the_month_it_was_made_in() -> None:
    async def play(edge: Edge) -> None:
        edge.clock.now = india("2027-03-31T23:59:59")
        limit_to(edge, monthly_budget=1_000_000_000)
        wire = await edge.connect()
        wire.send(request(chat("sim-2c-300ttft", stream=True)))
        await edge.until(lambda: edge.in_flight == 1 and bool(edge.ledger.guards.holds))
        edge.clock.now = india("2027-04-01T00:00:01")
        assert (await edge.ask(request(chat()))).status == 200
        assert (await wire.reply()).status == 200
        april, march = edge.events(RequestSettled)
        assert march.cost > 0
        folded = Guards()
        for stream, event in edge.ledger.log:
            evolve(folded, stream, event)
        allowance = folded.allowances["key_a"]
        assert (allowance.month, allowance.used, allowance.held) == (202704, april.cost, 0)

    at_the_edge(play, models=("sim-2c", "sim-2c-300ttft"))


# Wrong keys


async def statuses(edge: Edge, *keys: str, headers: dict[str, str] | None = None) -> list[int]:
    return [(await edge.ask(request(chat(), key=key, headers=headers))).status for key in keys]


def test_who_shows_too_many_wrong_keys_must_wait_and_a_good_key_never() -> None:
    async def play(edge: Edge) -> None:
        assert await statuses(edge, "sk-1", "sk-2", "br-3", "sk-4") == [401, 401, 401, 429]
        reply = await edge.ask(request(chat(), key="br-5"))
        assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert await statuses(edge, KEY, KEY, KEY) == [200, 200, 200]
        assert (await edge.ask(request(chat(), key=None))).status == 401  # shows none
        edge.clock.forward(seconds=int(reply.headers["retry-after"]))
        assert await statuses(edge, "sk-1", KEY) == [401, 200]

    at_the_edge(play, wrong_keys_rpm=3)


def test_of_guesses_that_come_at_once_exactly_the_limit_is_looked_at_and_good_keys_pass_between_them() -> None:
    async def play(edge: Edge) -> None:
        async def ask(key: str) -> Reply:
            return await edge.ask(request(chat(), key=key))

        keys = [KEY if number % 10 == 0 else f"br-guess-{number}" for number in range(100)]
        replies = await asyncio.gather(*[ask(key) for key in keys])
        assert Counter(reply.status for reply in replies) == {200: 10, 401: 7, 429: 83}

    at_the_edge(play, wrong_keys_rpm=7)


def test_a_key_that_is_minted_while_it_is_shown_counts_as_good() -> None:
    async def play(edge: Edge) -> None:
        async def ask(wire: Wire) -> int:
            return (await wire.send(request(chat(), key="br-soon")).reply()).status

        wires = [await edge.connect() for _ in range(5)]
        asking = asyncio.gather(*[ask(wire) for wire in wires])
        await edge.until(lambda: edge.in_flight == 5)
        edge.keys.add("br-soon")
        assert await asking == [200] * 5
        assert await statuses(edge, "sk-1", "sk-2") == [401, 429]

    at_the_edge(play, wrong_keys_rpm=1)


def test_behind_a_trusted_proxy_each_client_is_counted_alone() -> None:
    def told(address: str) -> dict[str, str]:
        return {"x-forwarded-for": f"6.6.6.6, {address}"}

    async def play(edge: Edge) -> None:
        assert await statuses(edge, "sk-1", "sk-2", headers=told("203.0.113.1")) == [401, 429]
        assert await statuses(edge, "sk-1", "sk-2", headers=told("203.0.113.2")) == [401, 429]
        assert await statuses(edge, "sk-1", headers=told("2001:db8:1:2::1")) == [401]
        assert await statuses(edge, "sk-1", headers=told("2001:db8:1:2:f::9")) == [429]  # the same household
        assert await statuses(edge, "sk-1", headers=told("2001:db8:1:3::1")) == [401]

    async def not_trusted(edge: Edge) -> None:
        assert await statuses(edge, "sk-1", headers=told("203.0.113.1")) == [401]
        assert await statuses(edge, "sk-1", headers=told("203.0.113.2")) == [429]

    at_the_edge(play, wrong_keys_rpm=1, trusted_proxies=(ip_network("127.0.0.0/8"),))
    at_the_edge(not_trusted, wrong_keys_rpm=1)


def test_wrong_keys_are_counted_on_every_route_and_a_good_one_still_opens_it() -> None:
    keys, clock = Keys(), FakeClock()
    keys.add(KEY)
    token = SecretStr("the operator's own")
    settings = SimpleNamespace(wrong_keys_rpm=2, trusted_proxies=(), body_bytes_max=1_000, operator_token=token)
    catalog = SimpleNamespace(models={}, routes={})
    services: Any = SimpleNamespace(
        directory=keys,
        pepper=PEPPER,
        clock=clock,
        settings=settings,
        catalog=catalog,
        new_id=lambda prefix: f"{prefix}_1",
    )
    live: Any = SimpleNamespace(rates=Minutes(clock), services=SimpleNamespace(health=LocalHealth(clock=clock)))
    app = build(services, gateway=live)

    async def play(path: str, peer: str, *shown: str) -> list[tuple[int, str | None]]:
        transport = httpx.ASGITransport(app=app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            replies = [await client.get(path, headers={"authorization": f"Bearer {key}"}) for key in shown]
        return [(reply.status_code, reply.headers.get("retry-after")) for reply in replies]

    told = [(401, None), (401, None), (429, "60"), (429, "60"), (200, None)]
    assert asyncio.run(play("/v1/models", "203.0.113.1", "br-a", "br-b", "br-c", "br-d", KEY)) == told
    assert asyncio.run(play("/metrics", "203.0.113.2", "a", "b", "c", "d", token.get_secret_value())) == told


def test_a_good_key_never_touches_the_counters() -> None:
    class Untouchable:
        degraded = False

        async def take(self, *limits: Any) -> Window:
            raise AssertionError("a good key was counted")

    async def play(edge: Edge) -> None:
        assert (await edge.ask(request(chat(), path=CHAT))).status == 200

    at_the_edge(play, rates=Untouchable())


def test_a_mint_of_an_ephemeral_key_counts_in_the_minute_of_its_key() -> None:
    keys, clock = Keys(), FakeClock()
    keys.add(KEY, rpm_limit=2)
    minter = keys.find(key_digest(PEPPER, KEY.encode()))
    app: Any = SimpleNamespace(settings=SimpleNamespace(gateway_rpm=0))
    state = SimpleNamespace(gateway=SimpleNamespace(rates=Minutes(clock)))
    request: Any = SimpleNamespace(app=SimpleNamespace(state=state))

    async def play() -> None:
        for _ in range(2):
            await within_limits(minter, app, request)
        with pytest.raises(TooMany, match="2 requests a minute"):
            await within_limits(minter, app, request)

    asyncio.run(play())
