"""The provider simulator: a local stand-in for every provider, whatever wire it speaks, faults included.

Calls: `/<provider>/v1/chat/completions`, `/embeddings`, `/models`, or without a provider; the same below
`deployments/<model>` (Azure) or `<model>/v1` (E2E), where the path names the model; `messages` (Anthropic),
`models/<model>:generateContent` (Google), `chat` (Cohere), `model/<model>/converse` (Bedrock). Control: `GET /`
(the script language), `/health`, `/stats`, `/requests?limit=`; `POST /reset`, `/script`, `/keys`. `answers.py` has
what it says and how it counts tokens, `native.py` the wires beside OpenAI's, `script.py` the fault language,
`play.py` its playing, `wire.py` HTTP.
"""

import asyncio
import re
import resource
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from adapters.simulators import wire
from adapters.simulators.answers import BadRequest, Json
from adapters.simulators.native import DIALECTS, Dialect
from adapters.simulators.play import Call, Counts, error_body
from adapters.simulators.process import run
from adapters.simulators.script import Script, in_model_name, language, parse

REQUESTS_KEPT = 1000
"""How many of the latest requests `GET /requests` can show."""

_BODY_BYTES_KEPT = 1 << 20
_OF_PROVIDER = r"(?:/(?P<provider>[^/]+))?/v1/"
_MODELS = re.compile(_OF_PROVIDER + r"models(?:/(?P<id>[^:]+))?")
# The paths of each wire: what is called, and the model where nothing but the path names it.
_CALLS: list[tuple[str, re.Pattern[str]]] = [
    (wire, re.compile(_OF_PROVIDER + path))
    for wire, path in (
        ("openai", r"(?:deployments/[^/]+/|[^/]+/v1/)?(?P<call>chat/completions|embeddings)"),
        ("anthropic", r"(?P<call>messages)"),
        ("gemini", r"models/(?P<model>[^/:]+):(?P<call>generateContent|streamGenerateContent)"),
        ("cohere", r"(?P<call>chat)"),
        ("bedrock", r"model/(?P<model>[^/]+)/(?P<call>converse|converse-stream)"),
    )
]
_NO_MODEL = "no-such-model"
"""What begins so is refused, unless a rule says what such a model does."""
_STREAMS = ("streamGenerateContent", "converse-stream")
_SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")


@dataclass(slots=True)
class Stats:
    """Counts in four cuts; the key of `routes` is `provider/model`."""

    total: Counts = field(default_factory=Counts)
    providers: dict[str, Counts] = field(default_factory=dict)
    models: dict[str, Counts] = field(default_factory=dict)
    routes: dict[str, Counts] = field(default_factory=dict)

    def of(self, provider: str, model: str) -> list[Counts]:
        """The counts that a call to `provider` for `model` belongs to."""
        route = f"{provider}/{model}"
        return [
            self.total,
            self.providers.setdefault(provider, Counts()),
            self.models.setdefault(model, Counts()),
            self.routes.setdefault(route, Counts()),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as `GET /requests` shows it; a body above 1 MiB, or that is not JSON, is shown as null."""

    provider: str
    model: str
    method: str
    path: str
    headers: dict[str, str]
    header_bytes: int
    body_bytes: int
    body: bytes

    def shown(self) -> Json:
        """All of it, the body decoded."""
        return asdict(self) | {"body": _decoded(self.body)}

    def sizes(self) -> Json:
        """What `GET /stats` tells of the latest request."""
        return {"headers": self.headers, "header_bytes": self.header_bytes, "body_bytes": self.body_bytes}


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """A script for the next `times` calls (None: all) to `provider` (None: any) for `model` (None: any)."""

    provider: str | None = None
    model: str | None = None
    script: str | None = None
    times: int | None = None


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    """The keys that a provider takes from now on; a call that shows another is refused, one without any is not. None:
    all but `bad` again."""

    provider: str
    keys: list[str] | None = None


class Provider:
    """Everything the simulator knows between two requests, and what it answers."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.received: deque[Received] = deque(maxlen=REQUESTS_KEPT)
        self.rules: list[Rule] = []
        self.keys: dict[str, frozenset[str]] = {}
        self._number = 0
        self._control: dict[tuple[str, str], Callable[[wire.Request], Any]] = {
            ("GET", "/health"): lambda request: {"status": "ok"},
            ("GET", "/stats"): lambda request: self.stats,
            ("GET", "/requests"): self._latest,
            ("POST", "/reset"): lambda request: self._reset(),
            ("POST", "/script"): self._add_rule,
            ("POST", "/keys"): self._set_keys,
        }

    async def handle(self, request: wire.Request, reply: wire.Reply) -> None:
        """Answer one request."""
        path = request.target.partition("?")[0]
        control = self._control.get((request.method, path))
        if control:
            try:
                await reply.whole(200, msgspec.json.encode(control(request)))
            except (ValueError, msgspec.MsgspecError) as wrong:
                await reply.whole(400, error_body(400, str(wrong)))
            return
        if request.method == "GET" and path == "/":
            await reply.whole(200, language().encode(), content_type="text/plain; charset=utf-8")
            return
        models = _MODELS.fullmatch(path)
        called = [(wire, found) for wire, pattern in _CALLS if (found := pattern.fullmatch(path))]
        if not models and not called:
            await reply.whole(404, error_body(404, f"Unknown path {path}", code="not_found"))
        elif request.method != ("GET" if models else "POST"):
            refusal = error_body(405, f"{request.method} is not allowed here", code="method_not_allowed")
            await reply.whole(405, refusal)
        elif models:
            await self._call(request, reply, "openai", "models", models, {"model": unquote(models["id"] or "")}, None)
        else:
            ((wire, found),) = called
            body, refused = _read(request.body, unquote(found.groupdict().get("model") or ""))
            await self._call(request, reply, wire, found["call"], found, body, refused)

    async def _call(
        self,
        request: wire.Request,
        reply: wire.Reply,
        spoken: str,
        called: str,
        matched: re.Match[str],
        body: Json,
        refused: BadRequest | None,
    ) -> None:
        self._number += 1
        provider = matched["provider"] or "default"
        dialect = DIALECTS.get(spoken)
        model = body["model"]
        call = Call(number=self._number, reply=reply, counts=self.stats.of(provider, model), body=body, dialect=dialect)
        received = Received(
            provider=provider,
            model=model,
            method=request.method,
            path=request.target,
            headers=_masked(request.headers),
            header_bytes=request.header_bytes,
            body_bytes=len(request.body),
            body=request.body if len(request.body) <= _BODY_BYTES_KEPT else b"",
        )
        self.received.append(received)
        for counts in call.counts:
            counts.requests += 1
            counts.last = received.sizes()
        try:
            if not self._takes_key(request, provider):
                raise BadRequest("Incorrect API key provided", code="invalid_api_key", param=None)
            if refused is not None:
                raise refused
            ruled = any(rule.model == model and rule.provider in (None, provider) for rule in self.rules)
            call.script = self._script(request, provider=provider, model=model)
            if model.startswith(_NO_MODEL) and not ruled:
                await call.refuse(404, f"The model `{model}` does not exist", code="model_not_found", param="model")
                return
            if dialect is not None:
                if spoken == "anthropic" and "anthropic-version" not in request.headers:
                    raise BadRequest("anthropic-version: header is required", code="invalid_request_error", param=None)
                call.body = _in_openai_terms(dialect, body, model, streamed=called in _STREAMS)
            await call.answer("chat" if dialect or called == "chat/completions" else called)
        except BadRequest as refusal:
            status = 401 if refusal.code == "invalid_api_key" else 400
            await call.refuse(status, str(refusal), code=refusal.code, param=refusal.param)
        except asyncio.CancelledError:
            call.count_hang_up()
            raise

    def _takes_key(self, request: wire.Request, provider: str) -> bool:
        shown = {request.headers[name].removeprefix("Bearer ") for name in _SECRET_HEADERS if name in request.headers}
        taken = self.keys.get(provider)
        return "bad" not in shown and (taken is None or shown <= taken)

    def _set_keys(self, request: wire.Request) -> Json:
        """Say which keys a provider takes."""
        given = msgspec.json.decode(request.body, type=Keys)
        if given.keys is None:
            self.keys.pop(given.provider, None)
        else:
            self.keys[given.provider] = frozenset(given.keys)
        return {"status": "ok"}

    def _script(self, request: wire.Request, *, provider: str, model: str) -> Script:
        text = request.headers.get("x-sim", in_model_name(model))
        for rule in self.rules:
            if rule.provider in (None, provider) and rule.model in (None, model):
                text = rule.script or ""
                if rule.times is not None:
                    rule.times -= 1
                    self.rules = [one for one in self.rules if one.times != 0]
                break
        try:
            return parse(text)
        except ValueError as wrong:
            raise BadRequest(str(wrong), code="invalid_script", param="model") from wrong

    def _add_rule(self, request: wire.Request) -> list[Rule]:
        """Add a rule; the rule that fits a call most closely applies to it, of several the oldest.

        A rule without `times` takes the place of all earlier ones for the same calls; one without a script
        only takes them away.
        """
        added = msgspec.json.decode(request.body, type=Rule)
        parse(added.script or "")
        if added.times is not None and added.times < 1:
            raise ValueError("times must be at least 1")
        if added.times is None:
            same = (added.provider, added.model)
            self.rules = [rule for rule in self.rules if (rule.provider, rule.model) != same]
        if added.script is not None:
            self.rules.append(added)
            self.rules.sort(key=lambda rule: (rule.provider is None) + (rule.model is None))
        return self.rules

    def _latest(self, request: wire.Request) -> Json:
        """The latest requests, oldest first."""
        limit = int(parse_qs(request.target.partition("?")[2]).get("limit", ["100"])[0])
        latest = list(self.received)[-limit:] if limit > 0 else []
        return {"requests": [received.shown() for received in latest]}

    def _reset(self) -> Json:
        self.stats = Stats()
        self.received.clear()
        self.rules.clear()
        self.keys.clear()
        return {"status": "ok"}


async def start(host: str = "127.0.0.1", port: int = 0) -> wire.Server:
    """A running simulator in this event loop, with `.port` and `close()`."""
    return await wire.serve(Provider().handle, host=host, port=port)


def main(*, host: str = "127.0.0.1", port: int = 0, announce: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Once listening, write the base URL and a newline to the file `announce`."""
    _raise_open_files_limit()
    run(lambda: _opened(host, port), host=host, announce=announce, loop_factory=_fastest_loop())


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@asynccontextmanager
async def _opened(host: str, port: int) -> AsyncIterator[tuple[int, Awaitable[None]]]:
    server = await start(host, port)
    try:
        yield server.port, asyncio.get_running_loop().create_future()  # it does nothing of itself
    finally:
        await server.close()


def _raise_open_files_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _read(data: bytes, model: str) -> tuple[Json, BadRequest | None]:
    """The JSON object of a request, and why it is refused, if it is. `model` is the path's, empty if it names none."""
    body = _decoded(data)
    if not isinstance(body, dict):
        return {"model": model}, BadRequest("The body is not a JSON object", code="invalid_json", param=None)
    if model:
        return body | {"model": model}, None
    if not isinstance(body.get("model"), str) or not body["model"]:
        missing = BadRequest("'model' is missing", code="missing_required_parameter", param="model")
        return body | {"model": ""}, missing
    return body, None


def _in_openai_terms(dialect: Dialect, body: Json, model: str, *, streamed: bool) -> Json:
    try:
        return dialect.read(body, model, streamed)
    except (AttributeError, KeyError, TypeError, ValueError) as odd:
        raise BadRequest(f"A field has the wrong shape: {odd}", code="invalid_value", param=None) from odd


def _decoded(data: bytes) -> Any:
    """The JSON value, or None where it is not JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _masked(headers: dict[str, str]) -> dict[str, str]:
    """The headers with all but the scheme and the last 4 characters of credentials replaced."""
    shown = dict(headers)
    for name in _SECRET_HEADERS:
        if name in shown:
            scheme, space, secret = shown[name].rpartition(" ")
            shown[name] = f"{scheme}{space}…{secret[-4:]}"
    return shown
