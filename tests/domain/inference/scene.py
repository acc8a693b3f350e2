"""A stage for calls of the spine: an org with money, three providers, what they say, and what a strict client makes of
what it is sent.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from domain.accounts.events import OrgCreated, WorkspaceCreated
from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Model, Provider, Route
from domain.catalog.price import Rates, make_rates
from domain.inference.messages import Endpoint, parse
from domain.inference.metering import UsageSemantics
from domain.inference.outlet import Patience, Services
from domain.inference.serve import serve
from domain.inference.sizes import OutputSizes
from domain.kernel.errors import Refusal
from domain.kernel.events import Event
from domain.kernel.money import parse_inr
from domain.keys.directory import Caller
from domain.keys.events import KeyMinted
from domain.ledger.events import CreditGranted, CreditHeld, HoldReleased, RequestRefused, RequestSettled
from tests.fakes import FakeClock, FakeLedger, FakeOutlet, FakeTokenizer, FakeUpstream, Play, Trouble

E = TypeVar("E", bound=Event)
ORG, WORKSPACE, KEY = "org_a", "ws_a", "key_a"

# The catalog of the scene: three providers by price, one of them abroad, a model at all of them and some at one.

RATES = {"cheap": (1_000, 4_000), "middle": (2_000, 8_000), "dear": (3_000, 12_000)}
RESIDENCY = {"cheap": "IN", "middle": "US", "dear": "IN"}
MAX_OUTPUT = 8_192


def rates_of(provider: str, model: str = "org/model") -> Rates:
    input, output = RATES.get(provider, (1_000, 4_000))
    if model == "embed":
        output = 0
    return make_rates(provider=provider, model=model, priced_on="2026-01-01", input=input, output=output)


def a_route(provider: str, model: str = "org/model", **given: Any) -> Route:
    fields: dict[str, Any] = {
        "upstream": f"{provider}-{model}",
        "residency": RESIDENCY.get(provider, ""),
        "rates": rates_of(provider, model),
        "context_length": 100_000,
        "max_output_tokens": MAX_OUTPUT,
    }
    return Route(provider=provider, model=model, **{**fields, **given})


def a_model(id: str, **given: Any) -> Model:
    fields: dict[str, Any] = {
        "name": id,
        "created": 1,
        "owned_by": "org",
        "modality": "embedding" if id == "embed" else "chat",
        "context_length": 100_000,
        "max_output_tokens": MAX_OUTPUT,
        "openness": "proprietary",
    }
    return Model(id=id, **{**fields, **given})


def a_catalog(
    *,
    semantics: UsageSemantics | None = None,
    limit_field: str = "max_tokens",
    extra_providers: Iterable[str] = (),
) -> Catalog:
    names = ("cheap", "middle", "dear", *extra_providers)
    providers = [
        Provider(
            id=name,
            name=name.title(),
            base_url="https://example.invalid/v1",
            usage=semantics or UsageSemantics(),
            output_limit_field=limit_field,
        )
        for name in names
    ]
    models = [a_model("org/model"), a_model("org/other"), a_model("thinker", reasoning=True), a_model("embed")]
    routes = [a_route(name) for name in names]
    routes += [a_route("dear", "org/other"), a_route("middle", "thinker"), a_route("cheap", "embed")]
    return assemble(providers=providers, models=models, routes=routes)


class Scene:
    """An org with money and a key, three providers, and everything that serving a call needs."""

    def __init__(
        self,
        *,
        inr: str = "100",
        catalog: Catalog | None = None,
        key_budget: str | None = None,
        workspace_budget: str | None = None,
        daily: int | None = None,
        patience: Patience | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        self.trouble = trouble or Trouble()
        self.clock = FakeClock()
        self.ledger = FakeLedger(self.trouble)
        self.upstream = FakeUpstream(self.trouble)
        self.tokenizer = FakeTokenizer(self.trouble)
        self.outlet = FakeOutlet(self.trouble)
        self.trouble.leave = self.outlet.leave
        self.catalog = catalog or a_catalog()
        self.sizes = OutputSizes()
        self.services = Services(
            catalog=lambda: self.catalog,
            configured=lambda: self.catalog.providers.keys(),
            ledger=self.ledger,
            upstream=self.upstream,
            tokenizer=self.tokenizer,
            sizes=self.sizes,
            patience=patience or Patience(disconnect_grace=0.02),
            clock=self.clock,
        )
        self.caller = Caller(
            org=ORG,
            key_id=KEY,
            workspace=WORKSPACE,
            scope="full",
            name="a",
            prefix="br-aaaaaaaaa",
            digest=b"",
            rpm_limit=None,
            daily_limit=daily,
            expires=None,
            models=None,
        )
        self.refusal: Refusal | None = None
        self._calls = 0
        record = self.ledger.record
        record(f"org:{ORG}", OrgCreated(name="A"))
        budget = None if workspace_budget is None else parse_inr(workspace_budget)
        record(f"workspace:{WORKSPACE}", WorkspaceCreated(org=ORG, name="W", default=True, monthly_budget=budget))
        minted = KeyMinted(
            org=ORG,
            workspace=WORKSPACE,
            name="a",
            prefix="br-aaaaaaaaa",
            digest="",
            monthly_budget=None if key_budget is None else parse_inr(key_budget),
            daily_limit=daily,
        )
        record(f"key:{KEY}", minted)
        if parse_inr(inr):
            self.grant(parse_inr(inr))

    def grant(self, amount: int) -> None:
        grant = f"grant_{len(self.ledger.log)}"
        self.ledger.record(f"account:{ORG}", CreditGranted(org=ORG, grant=grant, amount=amount, reason="test"))

    def plays(self, **plays: Play | list[Play]) -> "Scene":
        for provider, play in plays.items():
            self.upstream.plays[provider] = play if isinstance(play, list) else [play]
        return self

    def call(self, endpoint: Endpoint = "chat", **body: Any) -> "Scene":
        """Makes one call and lets it come to its end, a refusal included. Anything else is raised."""
        if endpoint == "chat":
            body = {"model": "org/model", "messages": [{"role": "user", "content": "say it"}], **body}
        else:
            body = {"model": "embed", "input": "say it", **body}
        return self.call_bytes(json.dumps(body).encode(), endpoint)

    def call_bytes(self, body: bytes, endpoint: Endpoint = "chat") -> "Scene":
        asyncio.run(self.calling(body, endpoint))
        return self

    def call_again(self) -> "Scene":
        """Makes a call under the id of the last one."""
        self._calls -= 1
        return self.call()

    async def calling(self, body: bytes, endpoint: Endpoint = "chat") -> None:
        self._calls += 1
        self.trouble.task = asyncio.current_task()
        try:
            await serve(self.request, parse(endpoint, body), self.caller, self.outlet, self.services)
        except Refusal as refusal:
            assert not self.outlet.opened, "a refusal came after bytes had been sent"
            self.refusal = refusal

    @property
    def request(self) -> str:
        return f"req_{self._calls}"

    # What happened

    @property
    def events(self) -> list[Event]:
        return self.ledger.of(self.request)

    @property
    def happened(self) -> list[str]:
        """The call's facts by their names without context and version."""
        return [event.NAME.split(".")[1] for event in self.events]

    @property
    def settled(self) -> RequestSettled:
        return self._only(RequestSettled)

    @property
    def released(self) -> HoldReleased:
        return self._only(HoldReleased)

    @property
    def held(self) -> CreditHeld:
        return self._only(CreditHeld)

    @property
    def refused(self) -> RequestRefused:
        return self._only(RequestRefused)

    def _only(self, kind: type[E]) -> E:
        (found,) = [event for event in self.events if isinstance(event, kind)]
        return found

    @property
    def available(self) -> int:
        return self.ledger.guards.balances[ORG].available

    @property
    def spent(self) -> int:
        return sum(event.cost for _, event in self.ledger.log if isinstance(event, RequestSettled))

    @property
    def answer(self) -> Any:
        assert self.outlet.body is not None
        return json.loads(self.outlet.body)

    @property
    def seen(self) -> "Seen":
        return strictly(self.outlet.frames)


# What providers say


def chunk(
    text: str | None = None,
    *,
    finish: str | None = None,
    usage: Any = msgspec.UNSET,
    index: int = 0,
    choices: list[Any] | None = None,
    **more: Any,
) -> bytes:
    """One chunk as a provider sends it, under its own name for the model."""
    delta = {} if text is None else {"content": text}
    made: dict[str, Any] = {
        "id": "theirs-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "their/model",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}] if choices is None else choices,
        **more,
    }
    if usage is not msgspec.UNSET:
        made["usage"] = usage
    return json.dumps(made).encode()


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def frames(*chunks: bytes, done: bool = True) -> bytes:
    ended = b"data: [DONE]\n\n" if done else b""
    return b"".join([b"data: " + data + b"\n\n" for data in chunks]) + ended


OPENING = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])


def a_stream(*words: str, report: Any = msgspec.UNSET, finish: str = "stop") -> Play:
    """A stream of OpenAI's own shape, a block for each frame."""
    chunks = [OPENING, *[chunk(word) for word in words], chunk(finish=finish)]
    if report is not msgspec.UNSET:
        chunks.append(chunk(choices=[], usage=report))
    return Play(steps=[*[frames(each, done=False) for each in chunks], b"data: [DONE]\n\n"])


def whole_answer(text: str = "one two three", *, report: Any = msgspec.UNSET, **more: Any) -> bytes:
    made: dict[str, Any] = {
        "id": "theirs-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "their/model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        **more,
    }
    if report is not msgspec.UNSET:
        made["usage"] = report
    return json.dumps(made).encode()


def a_whole(text: str = "one two three", *, report: Any = msgspec.UNSET, **more: Any) -> Play:
    return Play(steps=[whole_answer(text, report=report, **more)])


def a_refusal(status: int, message: str = "no") -> Play:
    return Play(status=status, steps=[json.dumps({"error": {"message": message}}).encode()])


# What a client sees


@dataclass
class Seen:
    """A stream as a strict client reads it."""

    chunks: list[Any]
    errors: list[Any]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk["choices"])

    @property
    def usage(self) -> Any:
        return self.chunks[-1]["usage"]

    @property
    def finish(self) -> str | None:
        ends = [choice.get("finish_reason") for chunk in self.chunks for choice in chunk["choices"]]
        return next((end for end in reversed(ends) if end), None)


def strictly(stream: bytes, *, model: str | None = None) -> Seen:
    """Reads a finished stream as the strictest client does; raises AssertionError at whatever it would choke on."""
    assert b"\r" not in stream
    *lines, tail = stream.split(b"\n\n")
    assert tail == b""
    assert lines, "an empty stream"
    assert all(line.startswith(b"data: ") and b"\n" not in line for line in lines)
    *payloads, last = [line[6:] for line in lines]
    assert last == b"[DONE]"
    decoded = [json.loads(payload.decode()) for payload in payloads]
    errors = [each["error"] for each in decoded if "error" in each]
    chunks = [each for each in decoded if "error" not in each]
    for error in errors:
        assert error.keys() == {"message", "type", "param", "code"}
    assert len(errors) <= 1
    assert not errors or "error" in decoded[-1]
    for each in chunks:
        assert isinstance(each["id"], str)
        assert each["object"] == "chat.completion.chunk"
        assert isinstance(each["created"], int)
        assert isinstance(each["model"], str)
        assert model is None or each["model"] == model
        for choice in each["choices"]:
            assert isinstance(choice["index"], int)
            assert isinstance(choice["delta"], dict)
            assert choice.get("finish_reason") != ""
            assert "usage" not in choice
    with_usage = [each for each in chunks if each.get("usage") is not None]
    if errors:
        assert not with_usage
    else:
        assert with_usage == chunks[-1:]
        assert chunks[-1]["choices"] == []
        report = chunks[-1]["usage"]
        assert report["total_tokens"] == report["prompt_tokens"] + report["completion_tokens"]
        assert isinstance(report["cost_inr"], str)
    return Seen(chunks, errors)
