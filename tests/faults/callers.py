"""Clients that keep a record of what they were told, and of nothing else: what the books are held against."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from domain.kernel.money import parse_inr
from tests.product import chat_body

RETRY_SECONDS = 0.1


@dataclass
class Call:
    """One call as its client saw it. `complete`: a whole answer, or a stream up to its end without an error. `mark` is
    in the body that the provider gets. `status` 0: no reply came; `code` is that of an error, in a stream too."""

    mark: str
    streamed: bool
    request: str = ""
    status: int = 0
    code: str = ""
    text: str = ""
    complete: bool = False
    cost_nanos: int = 0
    began: float = 0.0
    ended: float = 0.0

    @property
    def cut(self) -> bool:
        """The answer began and then just stopped."""
        return self.status == 200 and not self.complete and not self.code


class Caller:
    """A client with a connection of its own. Never raises for what the product does: that is in the `Call`."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False, verify=False
        )

    async def __aenter__(self) -> "Caller":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def address(self) -> tuple[str, int]:
        """Where this client's connection comes from; the next call goes over the same one."""
        response = await self.client.get("/livez")
        host, port = response.extensions["network_stream"].get_extra_info("client_addr")[:2]
        return host, port

    async def state_of(self, request: str) -> str:
        """What the product itself says became of a request."""
        response = await self.client.get(f"/v1/requests/{request}")
        return str(response.json().get("state", "")) if response.status_code == 200 else ""

    async def call(
        self,
        model: str,
        *,
        stream: bool = False,
        leave_after: float | None = None,
        leave_at: Callable[[dict[str, Any]], bool] | None = None,
        idempotency_key: str = "",
        into: Call | None = None,
        **fields: Any,
    ) -> Call:
        """One call. The client hangs up after `leave_after` seconds, or at the first chunk that `leave_at` is true for.
        What happens is written `into` a record that others can look at meanwhile."""
        call = into or Call(new_mark(), stream)
        body = chat_body(model, user=call.mark, stream=stream, **fields)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        call.began = time.monotonic()
        try:
            async with (
                asyncio.timeout(leave_after),
                self.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response,
            ):
                call.status = response.status_code
                call.request = response.headers.get("x-br-request-id", "")
                if response.headers["content-type"].startswith("text/event-stream"):
                    await _read_stream(response, call, leave_at)
                else:
                    _read_whole(response, await response.aread(), call)
        except (httpx.HTTPError, TimeoutError):
            pass
        call.ended = time.monotonic()
        return call


async def _read_stream(response: httpx.Response, call: Call, leave_at: Callable[[dict[str, Any]], bool] | None) -> None:
    async for line in response.aiter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            call.complete = not call.code
        elif data != line:
            chunk = json.loads(data)
            call.code = chunk.get("error", {}).get("code", call.code)
            for choice in chunk.get("choices", []):
                call.text += choice["delta"].get("content") or ""
            if chunk.get("usage"):
                call.cost_nanos = parse_inr(chunk["usage"]["cost_inr"])
            if leave_at is not None and leave_at(chunk):
                return


def _read_whole(response: httpx.Response, body: bytes, call: Call) -> None:
    answer = json.loads(body)
    if response.status_code == 200:
        call.complete = True
        call.text = answer["choices"][0]["message"]["content"]
        call.cost_nanos = parse_inr(answer["usage"]["cost_inr"])
        assert parse_inr(response.headers["x-br-cost-inr"]) == call.cost_nanos
    else:
        call.code = answer["error"]["code"]


def new_mark() -> str:
    return f"mark-{random.getrandbits(64):016x}"


async def calls_at_once(url: str, key: str, models: Sequence[str], **options: Any) -> list[Call]:
    """One call to each of these models, whole and streamed, all at the same time."""

    async def one(model: str, stream: bool) -> Call:
        async with Caller(url, key) as caller:
            return await caller.call(model, stream=stream, **options)

    return await asyncio.gather(*(one(model, stream) for model in models for stream in (False, True)))


def under_load(
    url: str,
    key: str,
    models: Sequence[str],
    disturb: Callable[[], None],
    *,
    callers: int,
    streams_only: bool = False,
) -> list[Call]:
    """The calls of so many callers, each with one at a time, whole and streamed in turn, while `disturb` runs in a
    thread. Every caller ends the call it is in, and notes it as its last, when that has returned."""

    async def run() -> list[Call]:
        made: list[Call] = []
        over = asyncio.Event()

        async def keep_calling(number: int) -> None:
            await asyncio.sleep(number / callers)  # else all are at the same step of their calls at every moment
            async with Caller(url, key) as caller:
                for count in itertools.count():
                    if over.is_set():
                        return
                    call = await caller.call(
                        models[count % len(models)], stream=streams_only or bool((number + count) % 2)
                    )
                    made.append(call)
                    if not call.complete:
                        await asyncio.sleep(RETRY_SECONDS)

        async def disturb_them() -> None:
            try:
                await asyncio.to_thread(disturb)
            finally:
                over.set()

        await asyncio.gather(disturb_them(), *(keep_calling(number) for number in range(callers)))
        return made

    return asyncio.run(run())


def codes(calls: Iterable[Call]) -> dict[str, int]:
    """How many calls ended with each code; `complete` and `cut` are two of them."""
    found: dict[str, int] = {}
    for call in calls:
        name = "complete" if call.complete else call.code or ("cut" if call.cut else "no reply")
        found[name] = found.get(name, 0) + 1
    return found
