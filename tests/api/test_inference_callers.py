"""Who calls a model, and what that changes: trial keys are free within their ceiling, ephemeral keys are bounded twice,
and a list of models holds on every path."""

import json
from typing import Any

import pytest

from domain.kernel.money import rupees
from domain.keys.events import EphemeralKeyMinted, TrialBegan
from domain.ledger.events import CreditHeld, RequestRefused, RequestSettled
from tests.api.edge import KEY, Edge, chat, request
from tests.api.test_inference_routes import PATHS, QUOTE, at_the_edge, body_for

TRIAL = "br-trial-of-the-edge"
SMALL = "sim-2c"


def add_trial(edge: Edge, *, rpm_limit: int = 60, daily_limit: int = 200, keys: int = 1) -> None:
    edge.ledger.record("trial:org_a", TrialBegan(at=1, org="org_a", rpm_limit=rpm_limit, daily_limit=daily_limit))
    for number in range(keys):
        terms = {"tier": "trial", "allowance": "trial:org_a", "trial_rpm_limit": rpm_limit}
        edge.keys.add(f"{TRIAL}{number or ''}", scope="inference", **terms)


def add_child(edge: Edge, key: str, *, budget: int | None = None, **terms: Any) -> None:
    minted = EphemeralKeyMinted(at=1, parent="key_a", digest="02", prefix=key[:12], expires=2, budget=budget)
    edge.ledger.record(f"ephemeral:{key}", minted)
    allowance = key if budget is not None else ""
    edge.keys.add(key, tier="ephemeral", scope="inference", allowance=allowance, child=key, **terms)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_trial_call_costs_nothing_and_is_metered_whatever_the_balance(streamed: bool) -> None:
    async def play(edge: Edge) -> None:
        add_trial(edge)
        reply = await edge.ask(request(chat(stream=streamed, max_cost_inr=0.000000001), key=TRIAL))
        assert reply.status == 200, reply.body
        told = json.loads(reply.frames[-2])["usage"] if streamed else reply.json["usage"]
        assert told["cost_inr"] == "0"
        assert told["total_tokens"] > 0
        [held], [settled] = edge.events(CreditHeld), edge.events(RequestSettled)
        assert (held.amount, settled.held, settled.cost, settled.shortfall) == (0, 0, 0, 0)
        assert settled.waived == settled.usage.input * 1_000 + settled.usage.output * 4_000 > 0
        if not streamed:
            assert reply.headers["x-br-cost-inr"] == "0"

    at_the_edge(play, inr=0, trial_models=frozenset({SMALL}))


def test_a_long_trial_stream_needs_no_more_than_it_has() -> None:
    async def play(edge: Edge) -> None:
        add_trial(edge)
        reply = await edge.ask(request(chat("sim-2000c-pad25", stream=True), key=TRIAL))
        assert reply.frames[-1] == b"[DONE]"
        [settled] = edge.events(RequestSettled)
        assert settled.ending == "finished"

    at_the_edge(play, inr=0, models=("sim-2000c-pad25",), trial_models=frozenset({"sim-2000c-pad25"}))


def test_a_trial_quote_holds_nothing() -> None:
    async def play(edge: Edge) -> None:
        add_trial(edge)
        assert (await edge.ask(request(chat(), path=QUOTE, key=TRIAL))).json["hold_inr"] == "0"
        assert (await edge.ask(request(chat(), path=QUOTE))).json["hold_inr"] != "0"

    at_the_edge(play, trial_models=frozenset({SMALL}))


def test_a_trial_reaches_no_model_but_those_that_are_open_to_it() -> None:
    async def play(edge: Edge) -> None:
        add_trial(edge)
        for path in PATHS:
            body = chat("sim-5c-50ms") if path != PATHS[1] else body_for(path)
            reply = await edge.ask(request(body, path=path, key=TRIAL))
            assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "trial_ceiling", "model")
            assert SMALL in reply.json["error"]["message"]
        beyond = chat(fallbacks=[{"model": "sim-5c-50ms"}])
        reply = await edge.ask(request(beyond, key=TRIAL))
        assert (reply.code, reply.json["error"]["param"]) == ("trial_ceiling", "fallbacks[0].model")
        assert not edge.events(CreditHeld)

    at_the_edge(play, trial_models=frozenset({SMALL}))


def test_all_trial_keys_of_an_org_share_its_minute_and_its_day() -> None:
    async def play(edge: Edge) -> None:
        add_trial(edge, rpm_limit=3, daily_limit=5, keys=2)
        codes = []
        for minute in range(3):
            for number in range(4):
                reply = await edge.ask(request(chat(), key=f"{TRIAL}{number % 2 or ''}"))
                codes.append((minute, "ok" if reply.status == 200 else reply.code))
            edge.clock.forward(seconds=60)
        assert codes == [
            *[(0, "ok")] * 3,
            (0, "rate_limit_exceeded"),
            *[(1, "ok")] * 2,
            (1, "daily_limit_reached"),
            (1, "rate_limit_exceeded"),
            *[(2, "daily_limit_reached")] * 3,
            (2, "rate_limit_exceeded"),
        ]
        assert (await edge.ask(request(chat()))).status == 200  # a standard key of the org
        refused = [event.code for event in edge.events(RequestRefused)]
        assert refused == ["daily_limit_reached"] * 4

    at_the_edge(play, trial_models=frozenset({SMALL}))


def test_an_ephemeral_key_has_a_minute_of_its_own_and_shares_its_parents() -> None:
    async def play(edge: Edge) -> None:
        edge.keys.add(KEY, rpm_limit=4)
        add_child(edge, "br-eph-1", rpm_limit=4, child_rpm_limit=2)
        add_child(edge, "br-eph-2", rpm_limit=4)
        order = ["br-eph-1", "br-eph-1", "br-eph-1", "br-eph-2", KEY, KEY]
        statuses = [(await edge.ask(request(chat(), key=key))).status for key in order]
        assert statuses == [200, 200, 429, 200, 200, 429]
        assert {event.key for event in edge.events(CreditHeld)} == {"key_a"}
        by = [event.by for event in edge.events(RequestSettled)]
        assert by == ["key:br-eph-1", "key:br-eph-1", "key:br-eph-2", "key:key_a"]

    at_the_edge(play)


def test_a_budget_of_an_ephemeral_key_cuts_an_answer_and_then_refuses() -> None:
    async def play(edge: Edge) -> None:
        add_child(edge, "br-eph-1", budget=200_000)  # fifty tokens
        first = await edge.ask(request(chat(), key="br-eph-1"))
        assert first.status == 200
        while (reply := await edge.ask(request(chat(), key="br-eph-1"))).status == 200:
            pass
        assert (reply.status, reply.code) == (429, "budget_exceeded")
        assert "ephemeral" in reply.json["error"]["message"]
        assert reply.headers["x-should-retry"] == "false"
        assert int(reply.headers["retry-after"]) > 0
        spent = sum(event.cost for event in edge.events(RequestSettled))
        assert 0 < spent <= 200_000 < rupees(1)

    at_the_edge(play)


def test_each_ephemeral_key_has_idempotency_keys_of_its_own() -> None:
    async def play(edge: Edge) -> None:
        for key in ("br-eph-1", "br-eph-2"):
            add_child(edge, key)
            once = request(chat(), key=key, headers={"idempotency-key": "a"})
            assert (await edge.ask(once)).status == 200
            assert (await edge.ask(once)).status == 409

    at_the_edge(play)


def test_a_list_of_models_holds_on_every_path_and_step() -> None:
    async def play(edge: Edge) -> None:
        for key, models in (("br-none", frozenset[str]()), ("br-other", frozenset({"sim-5c-50ms"}))):
            edge.keys.add(key, models=models)
            for path in PATHS:
                reply = await edge.ask(request(body_for(path), path=path, key=key))
                assert (reply.status, reply.code) == (403, "forbidden_scope")
        reply = await edge.ask(request(chat("sim-5c-50ms", fallbacks=[{"model": SMALL}]), key="br-other"))
        assert (reply.code, reply.json["error"]["param"]) == ("forbidden_scope", "fallbacks[0].model")

    at_the_edge(play)
