"""What providers answer, read just enough to meter it, and rewritten just enough to be ours.

Usage may stand in five places of a stream: a last chunk without choices, the last chunk with content, every chunk (the
last counts, never the sum), `x_groq.usage`, or `choices[0].usage`; or nowhere.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from domain.inference.messages import Endpoint
from domain.inference.metering import Usage, UsageSemantics, read_usage, to_openai
from domain.inference.sse import BOM

_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")


class Unusable(Exception):
    """A 200 that is no answer: not JSON, of another shape, or an error in disguise. The message may be shown."""


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    usage: Any = None


class _Groq(msgspec.Struct, gc=False):
    usage: Any = None


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    object: Any = None
    created: Any = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    message: Any = None
    detail: Any = None
    x_groq: _Groq | None = None
    service_tier: Any = None


class Piece(msgspec.Struct, gc=False):
    """One frame of a stream, understood. `text` is what it adds to the answer, empty for opening and closing frames;
    `finished` are the choices that it ends; `usage` is the provider's own report, as it stood. `forward` is False for
    a frame that a client has no use for: nothing but usage, or no chunk at all. `regular`: it has every member that a
    strict client wants and none that it must not see, so that only the name of the model has to change."""

    text: str = ""
    finished: tuple[int, ...] = ()
    usage: Mapping[str, Any] | None = None
    closing: bool = False
    forward: bool = True
    regular: bool = False
    error: str | None = None
    id: str | None = None
    created: int | None = None
    model: str | None = None
    tier: str | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_EMPTY_FINISH = re.compile(rb'"finish_reason"\s*:\s*""')
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode  # what is Raw goes out byte for byte


def read_chunk(data: bytes) -> Piece:
    """Raises Unusable for a frame that is not a JSON object of the wire."""
    try:
        if not data.isascii():
            data.decode()
        chunk = _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable("The provider sent a frame that is not a chat completion chunk.") from error
    told = chunk.error
    if not told and chunk.choices is None and chunk.usage is None:
        told = chunk.message or chunk.detail  # an error without its envelope
    if told:
        return Piece(error=error_text(told))
    piece = Piece(
        id=chunk.id if isinstance(chunk.id, str) else None,
        created=chunk.created if isinstance(chunk.created, int) else None,
        model=chunk.model,
        tier=chunk.service_tier if isinstance(chunk.service_tier, str) else None,
    )
    piece.regular = piece.id is not None and piece.created is not None and isinstance(chunk.object, str)
    usage = chunk.usage
    if usage is None and chunk.x_groq is not None:
        usage = chunk.x_groq.usage
    for place, choice in enumerate(chunk.choices or ()):
        if choice.delta is not None:
            piece.text += _text_of(choice.delta)
        if choice.finish_reason == "error":
            return Piece(error="the answer ended in an error")
        if choice.finish_reason:
            piece.finished += (choice.index if isinstance(choice.index, int) else place,)
        if usage is None:
            usage = choice.usage
        if choice.delta is None or choice.index is None or choice.finish_reason == "" or choice.usage is not None:
            piece.regular = False
    piece.usage = usage if isinstance(usage, dict) else None
    piece.regular = piece.regular and usage is None
    piece.closing = not chunk.choices and usage is not None
    piece.forward = chunk.choices is not None and not piece.closing
    return piece


def _text_of(delta: _Delta) -> str:
    """Everything in a delta that a provider bills as output."""
    said = [delta.content, delta.reasoning_content, delta.refusal]
    if delta.reasoning != delta.reasoning_content:  # some servers send both names during a change-over
        said.append(delta.reasoning)
    parts = [part if isinstance(part, str) else msgspec.json.encode(part).decode() for part in said if part]
    for part in (delta.tool_calls, delta.function_call, delta.audio):
        if part:
            parts.append(_spoken(part))
    return "".join(parts)


def _spoken(part: Any) -> str:
    """The names and arguments of tool calls; any other shape as its JSON."""
    calls = part if isinstance(part, list) else [part]
    functions = [call.get("function", call) for call in calls if isinstance(call, dict)]
    if len(functions) != len(calls) or not all(isinstance(function, dict) for function in functions):
        return msgspec.json.encode(part).decode()
    said = [str(function.get("name") or "") + str(function.get("arguments") or "") for function in functions]
    return "".join(said) or " "


class StreamRewriter:
    """Gives the frames of one stream our name for the model, takes away usage that is not the final word, and adds what
    a strict client needs and this provider leaves out: `id` and `created` are for frames without."""

    def __init__(self, model: str, *, id: str, created: int) -> None:
        self._ours = model
        self._id = id
        self._created = created
        self._theirs: str | None = None
        self._needle = b""
        self._replacement = b""

    def rewrite(self, data: bytes, piece: Piece) -> bytes:
        if piece.regular:
            if piece.model != self._theirs:
                self._learn(data, piece.model)
            if self._needle and data.count(self._needle) == 1:
                return data.replace(self._needle, self._replacement)
        return self._rebuilt(data, piece)

    def _learn(self, data: bytes, theirs: str | None) -> None:
        """Finds how this provider spells the member, so that later frames need a byte replacement only."""
        self._theirs = theirs
        self._needle = b""
        if theirs is None:
            return
        value = msgspec.json.encode(theirs)
        for colon in (b":", b": "):
            if b'"model"' + colon + value in data:
                self._needle = b'"model"' + colon + value
                self._replacement = b'"model"' + colon + _encode(self._ours)

    def _rebuilt(self, data: bytes, piece: Piece) -> bytes:
        members: dict[str, Any] = {**_members.decode(data)}
        if piece.id is None:
            members["id"] = self._id
        if piece.created is None:
            members["created"] = self._created
        members["object"] = "chat.completion.chunk"
        members["model"] = self._ours
        members.pop("usage", None)
        if b'"usage"' in bytes(members.get("x_groq", b"")):
            del members["x_groq"]
        if not piece.regular:
            members["choices"] = _strict_choices(members["choices"])
        return _encode(members)


def _strict_choices(choices: msgspec.Raw) -> list[Any]:
    strict = []
    for place, choice in enumerate(msgspec.json.decode(choices)):
        choice.pop("usage", None)
        index, delta = choice.pop("index", None), choice.pop("delta", None)
        choice["finish_reason"] = choice.get("finish_reason") or None
        strict.append({"index": place if index is None else index, "delta": delta or {}, **choice})
    return strict


def closing_chunk(*, id: str, created: int, model: str, usage: Usage, cost_nanos: int) -> bytes:
    """The last chunk of every stream: no choices, and the usage with its cost."""
    return msgspec.json.encode(
        {
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [],
            "usage": to_openai(usage, cost_nanos),
        }
    )


class _WholeChoice(msgspec.Struct):
    message: dict[str, msgspec.Raw]


_whole_choices = msgspec.json.Decoder(list[_WholeChoice])


class Whole(msgspec.Struct):
    """A whole answer: its members as the provider's own bytes, its report of usage, the service tier that served, and
    its text if that is needed."""

    members: dict[str, msgspec.Raw]
    usage: Mapping[str, Any] | None
    tier: str | None = None

    def text(self) -> str:
        """What would have to be counted if the provider reported no usage."""
        said = []
        for choice in msgspec.json.decode(self.members["choices"]) if "choices" in self.members else ():
            said.append(_text_of(msgspec.convert(choice["message"], _Delta)))
        return "".join(said)


def read_whole(endpoint: Endpoint, body: bytes) -> Whole:
    """Raises Unusable where a 200 does not carry an answer."""
    try:
        body.decode()  # msgspec passes over strings that it need not read, be they UTF-8 or not
        members = _members.decode(body.removeprefix(BOM))
        if "error" in members and (error := msgspec.json.decode(members["error"])):
            raise Unusable(error_text(error))
        usage = msgspec.json.decode(members["usage"]) if "usage" in members else None
        tier = msgspec.json.decode(members["service_tier"]) if "service_tier" in members else None
        if endpoint == "chat":
            answered = bool(_whole_choices.decode(members.get("choices", b"[]")))
        else:
            answered = _LIST_OF_OBJECTS.match(memoryview(members.get("data", b""))) is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable("The provider's answer is not a JSON object of the expected shape.") from error
    if not answered:
        raise Unusable("The provider's answer is empty.")
    return Whole(
        members=members,
        usage=usage if isinstance(usage, dict) else None,
        tier=tier if isinstance(tier, str) else None,
    )


def answer_with(whole: Whole, *, model: str, usage: Usage, cost_nanos: int) -> bytes:
    """The provider's answer with our name for the model and our usage."""
    members: dict[str, Any] = {**whole.members, "model": model}
    if _EMPTY_FINISH.search(members.get("choices", b"")):
        members["choices"] = _with_finish(members["choices"])
    reported = to_openai(usage, cost_nanos)
    if "data" in whole.members and "choices" not in whole.members:
        reported.pop("completion_tokens", None)
        reported.pop("completion_tokens_details", None)
    members["usage"] = reported
    return _encode(members)


def _with_finish(choices: msgspec.Raw) -> Any:
    """Some providers leave the finish reason empty, mostly after tool calls."""
    found = msgspec.json.decode(choices)
    for choice in found:
        if choice.get("finish_reason") == "":
            called = (choice.get("message") or {}).get("tool_calls")
            choice["finish_reason"] = "tool_calls" if called else "stop"
    return found


def usage_of(report: Mapping[str, Any] | None, semantics: UsageSemantics) -> Usage | None:
    return None if report is None else read_usage(report, semantics)


def error_text(error: Any) -> str:
    """The sentence in a provider's error, whatever its shape, at most 500 characters."""
    if isinstance(error, dict):
        inner = error.get("error") or error
        if isinstance(inner, dict):
            told = (inner.get(name) for name in ("message", "Message", "detail", "code"))
            error = next((each for each in told if each), "unspecified error")
        else:
            error = inner
    return str(error)[:500]


def error_of_body(body: bytes) -> str:
    """The sentence in the body of a refusal; a neutral one where there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the provider gave no reason"
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return error_text(decoded) if decoded else "the provider gave no reason"
