"""Trouble at every single await of a call, in every way a port can make it: afterwards the books balance."""

import asyncio
import json
from collections.abc import Callable

import pytest

from domain.inference.outlet import Patience
from domain.inference.ports import UpstreamFault
from domain.kernel.errors import Unavailable, UpstreamFailed
from domain.kernel.money import parse_inr
from domain.ledger.events import CreditHeld, HoldExpired, HoldReleased, RequestSettled
from tests.domain.inference.scene import (
    OPENING,
    ORG,
    Scene,
    a_refusal,
    a_stream,
    a_whole,
    chunk,
    frames,
    usage,
)
from tests.fakes import Play, Trouble

REPORT = usage(7, 3)
CUT = UpstreamFault("cut", "The provider closed the connection.", started=True)
BODY = {"model": "org/model", "messages": [{"role": "user", "content": "say it"}]}
GRANTED = parse_inr("0.03")


def long_stream() -> Play:
    return a_stream(*["many words in a block " * 60] * 8)  # past the first hold, so that it is extended


CALLS: dict[str, tuple[dict[str, Play], bool]] = {
    "a whole answer": ({"cheap": a_whole(report=REPORT)}, False),
    "a whole answer that is counted": ({"cheap": a_whole()}, False),
    "a whole answer beyond its hold": ({"cheap": a_whole(report=usage(300, 3_000))}, False),
    "a whole answer after a failover": ({"cheap": a_refusal(500), "middle": a_whole(report=REPORT)}, False),
    "a stream": ({"cheap": a_stream("one ", "two ", report=REPORT)}, True),
    "a stream that is counted": ({"cheap": a_stream("one ", "two ")}, True),
    "a stream after a failover": (
        {"cheap": Play(steps=[frames(OPENING, done=False), CUT]), "middle": a_stream("one ", report=REPORT)},
        True,
    ),
    "a stream that grows to its ceiling": ({"cheap": long_stream()}, True),
    "a stream that breaks": ({"cheap": Play(steps=[frames(chunk("one "), done=False), CUT])}, True),
    "a refusal": ({"cheap": a_refusal(400)}, False),
    "routes that all fail": ({"cheap": a_refusal(500), "middle": a_refusal(503), "dear": a_refusal(429)}, True),
}
WAYS = ("cancel", "leave", "fail", "fail_after")


def staged(call: str, trouble: Trouble) -> Scene:
    scene = Scene(inr="0.03", trouble=trouble, patience=Patience(disconnect_grace=0.005))
    scene.plays(**dict.fromkeys(("cheap", "middle", "dear"), a_refusal(500)))
    return scene.plays(**CALLS[call][0])


def run(call: str, trouble: Trouble) -> tuple[Scene, BaseException | None]:
    """The call with this trouble; what it raised beyond refusals, which only a cancellation or a fault of ours may."""
    scene = staged(call, trouble)
    raised: list[BaseException] = []

    async def calling() -> None:
        task = asyncio.ensure_future(scene.calling(json.dumps({**BODY, "stream": CALLS[call][1]}).encode()))
        try:
            await task
        except (asyncio.CancelledError, RuntimeError) as error:
            raised.append(error)
        await asyncio.sleep(0)  # what was shielded comes to its end

    asyncio.run(calling())
    return scene, raised[0] if raised else None


def awaits(call: str) -> list[str]:
    trouble = Trouble()
    run(call, trouble)
    return trouble.points


def books_balance(scene: Scene) -> None:
    """Every hold has one ending once the sweeper has been, and the client's account of it is the ledger's."""
    scene.ledger.expire_all()
    scene.ledger.check()
    balance = scene.ledger.guards.balances[ORG]
    assert balance.held == 0
    assert balance.available + scene.spent == GRANTED
    holds = [event for event in scene.events if isinstance(event, CreditHeld)]
    endings = [event for event in scene.events if isinstance(event, RequestSettled | HoldReleased | HoldExpired)]
    settled = [event for event in endings if isinstance(event, RequestSettled)]
    assert len(endings) == len(holds) <= 1
    assert not scene.upstream.calls or holds
    told = told_cost(scene)
    if told is not None:
        assert [event.cost for event in settled] == [told]
    for event in settled:
        assert (
            event.cost + event.shortfall
            == event.usage.input * event.rates.input + event.usage.output * event.rates.output
        )
    assert all(reply.closed.is_set() for reply in scene.upstream.replies)


def told_cost(scene: Scene) -> int | None:
    """What the client was told that it paid, if it saw the end of an answer."""
    if scene.outlet.body is not None:
        return parse_inr(scene.answer["usage"]["cost_inr"])
    if not scene.outlet.frames.endswith(b"data: [DONE]\n\n"):
        return None
    seen = scene.seen
    return None if seen.errors else parse_inr(seen.usage["cost_inr"])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", WAYS)
def test_trouble_at_any_await_leaves_the_books_balanced(call: str, how: str) -> None:
    points = awaits(call)
    assert len(points) >= 5
    for at in range(1, len(points) + 1):
        trouble = Trouble(at=at, how=how)
        scene, raised = run(call, trouble)
        assert len(trouble.points) >= at
        struck = trouble.points[at - 1]
        assert struck == points[at - 1]
        try:
            if how == "cancel":
                assert isinstance(raised, asyncio.CancelledError)
            else:
                assert raised is None or struck == "tokenizer.count"
            answer_was_lost = how == "fail_after" and struck == "ledger.end"
            if scene.refusal is not None and not answer_was_lost:
                assert scene.spent == 0, "refused, and yet charged"
            if how == "fail" and struck == "ledger.hold":
                assert isinstance(scene.refusal, Unavailable)
                assert scene.upstream.calls == []
            if how.startswith("fail") and struck == "upstream.call" and isinstance(scene.refusal, UpstreamFailed):
                assert scene.happened == ["credit_held", "hold_released"]
            books_balance(scene)
        except AssertionError as error:
            raise AssertionError(f"{how} at await {at}, {struck}: {error}; {scene.happened}") from error


@pytest.mark.parametrize("call", CALLS)
def test_two_troubles_at_once_leave_the_books_balanced_too(call: str) -> None:
    """The client leaves at one await, and the ledger can no longer be written from a later one on."""
    points = awaits(call)
    for at in range(1, len(points) + 1):
        for later in range(at, len(points) + 1, 3):
            trouble = Trouble(at=at, how="leave")
            scene = staged(call, trouble)
            strikes = trouble.strikes

            def both(
                point: str, strikes: Callable[[str], str] = strikes, later: int = later, scene: Scene = scene
            ) -> str:
                if len(scene.trouble.points) + 1 == later:
                    scene.ledger.writable = False
                return strikes(point)

            trouble.strikes = both
            scene.call(stream=CALLS[call][1])
            books_balance(scene)


def test_a_cancelled_call_gives_its_credit_back_at_once_rather_than_at_the_deadline() -> None:
    points = awaits("a stream")
    for at, point in enumerate(points, 1):
        if not point.startswith("ledger"):
            scene, _ = run("a stream", Trouble(at=at, how="cancel"))
            assert scene.ledger.guards.holds == {}
            assert scene.happened[-1] == "hold_released"
            assert scene.released.code == "internal_error"


def test_a_cancellation_while_the_end_is_being_recorded_does_not_undo_it() -> None:
    points = awaits("a stream")
    scene, _ = run("a stream", Trouble(at=points.index("ledger.end") + 1, how="cancel"))
    assert scene.happened == ["credit_held", "request_settled"]


def test_a_cancellation_with_the_ledger_down_is_still_a_cancellation() -> None:
    points = awaits("a stream")
    trouble = Trouble(at=points.index("upstream.call") + 1, how="cancel")
    scene = staged("a stream", trouble)
    scene.upstream.on_call = lambda _: setattr(scene.ledger, "writable", False)
    with pytest.raises(asyncio.CancelledError):
        scene.call(stream=True)
    books_balance(scene)
