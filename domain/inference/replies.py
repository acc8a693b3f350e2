"""What providers answer, read just enough to meter it, and rewritten just enough to be ours.

Usage may stand in five places of a stream: a last chunk without choices, the last chunk with content, every chunk (the
last counts, never the sum), `x_groq.usage`, or `choices[0].usage`; or nowhere.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.inference.messages import Endpoint, join_members
from domain.inference.metering import Usage, UsageSemantics, read_usage, to_openai


class Unusable(Exception):
    """A 200 that is no answer: not JSON, of another shape, or an error in disguise. The message may be shown."""


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class _Choice(msgspec.Struct):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    usage: Any = None


class _Groq(msgspec.Struct):
    usage: Any = None


class _Chunk(msgspec.Struct):
    id: Any = None
    created: Any = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: _Groq | None = None


class Piece(msgspec.Struct):
    """One frame of a stream, understood. `text` is what it adds to the answer, empty for opening and closing frames;
    `usage` is the provider's own report, as it stood; `forward` is False where the frame held nothing but usage."""

    text: str = ""
    choices: int = 0
    finished: bool = False
    usage: Mapping[str, Any] | None = None
    forward: bool = True
    error: str | None = None
    id: str | None = None
    created: int | None = None
    model: str | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_chunk(data: bytes) -> Piece:
    """Raises Unusable for a frame that is not a JSON object of the wire."""
    try:
        chunk = _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable("The provider sent a frame that is not a chat completion chunk.") from error
    if chunk.error:
        return Piece(error=error_text(chunk.error))
    piece = Piece(
        id=chunk.id if isinstance(chunk.id, str) else None,
        created=chunk.created if isinstance(chunk.created, int) else None,
        model=chunk.model,
    )
    usage = chunk.usage
    if usage is None and chunk.x_groq is not None:
        usage = chunk.x_groq.usage
    choices = chunk.choices or ()
    for choice in choices:
        if choice.delta is not None:
            piece.text += _text_of(choice.delta)
        if choice.finish_reason:
            piece.finished = True
        if usage is None and isinstance(choice.usage, dict):
            usage = choice.usage
    piece.choices = len(choices)
    piece.usage = usage if isinstance(usage, dict) else None
    piece.forward = bool(choices) or (usage is None and chunk.x_groq is None)
    return piece


def _text_of(delta: _Delta) -> str:
    """Everything in a delta that a provider bills as output."""
    parts = []
    for part in (delta.content, delta.reasoning_content, delta.reasoning, delta.refusal):
        if part:
            parts.append(part if isinstance(part, str) else msgspec.json.encode(part).decode())
            if part is delta.reasoning_content and delta.reasoning == part:
                break  # some servers send both names during a change-over
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
    """Gives the frames of one stream our name for the model, and takes away usage that is not the final word."""

    def __init__(self, model: str) -> None:
        self._ours = msgspec.json.encode(model)
        self._needle = b""
        self._replacement = b""
        self._theirs: str | None = None

    def rewrite(self, data: bytes, piece: Piece) -> bytes:
        if piece.usage is not None:
            return self._without_usage(data)
        if piece.model != self._theirs or (piece.model is not None and not self._needle):
            self._learn(data, piece.model)
        if not self._needle:
            return data
        if self._needle in data:
            return data.replace(self._needle, self._replacement, 1)
        return self._replaced(data)

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
                self._replacement = b'"model"' + colon + self._ours
                return
        self._needle = b'"model"'

    def _replaced(self, data: bytes) -> bytes:
        members = {name: bytes(value) for name, value in _members.decode(data).items()}
        return join_members({**members, "model": self._ours})

    def _without_usage(self, data: bytes) -> bytes:
        members = {name: bytes(value) for name, value in _members.decode(data).items()}
        members.pop("usage", None)
        members.pop("x_groq", None)
        if b'"usage"' in members.get("choices", b""):
            choices = msgspec.json.decode(members["choices"])
            for choice in choices:
                choice.pop("usage", None)
            members["choices"] = msgspec.json.encode(choices)
        return join_members({**members, "model": self._ours})


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


class Whole(msgspec.Struct):
    """A whole answer: its members as the provider's own bytes, its report of usage, and its text if that is needed."""

    members: dict[str, msgspec.Raw]
    usage: Mapping[str, Any] | None

    def text(self) -> str:
        """What would have to be counted if the provider reported no usage."""
        said = []
        for choice in msgspec.json.decode(self.members["choices"]) if "choices" in self.members else ():
            message = choice.get("message") or {}
            said.append(_text_of(msgspec.convert(message, _Delta, strict=False)))
        return "".join(said)


def read_whole(endpoint: Endpoint, body: bytes) -> Whole:
    """Raises Unusable where a 200 does not carry an answer."""
    try:
        members = _members.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable("The provider's answer is not a JSON object.") from error
    if bytes(members.get("error", b"null")) != b"null":
        raise Unusable(error_text(msgspec.json.decode(members["error"])))
    wanted = "choices" if endpoint == "chat" else "data"
    if not bytes(members.get(wanted, b"")).startswith(b"["):
        raise Unusable(f"The provider's answer has no {wanted}.")
    if endpoint == "chat" and bytes(members[wanted]).strip() == b"[]":
        raise Unusable("The provider's answer has no choices.")
    usage = msgspec.json.decode(members["usage"]) if "usage" in members else None
    return Whole(members=members, usage=usage if isinstance(usage, dict) else None)


def answer_with(whole: Whole, *, model: str, usage: Usage, cost_nanos: int) -> bytes:
    """The provider's answer with our name for the model and our usage."""
    members = {name: bytes(value) for name, value in whole.members.items()}
    members["model"] = msgspec.json.encode(model)
    reported = to_openai(usage, cost_nanos)
    if "data" in whole.members and "choices" not in whole.members:
        reported.pop("completion_tokens", None)
        reported.pop("completion_tokens_details", None)
    members["usage"] = msgspec.json.encode(reported)
    return join_members(members)


def usage_of(report: Mapping[str, Any] | None, semantics: UsageSemantics) -> Usage | None:
    return None if report is None else read_usage(report, semantics)


def error_text(error: Any) -> str:
    """The sentence in a provider's error, whatever its shape, at most 500 characters."""
    if isinstance(error, dict):
        inner = error.get("error", error)
        if isinstance(inner, dict):
            error = inner.get("message") or inner.get("detail") or inner.get("code") or "unspecified error"
        else:
            error = inner
    return str(error)[:500]


def error_of_body(body: bytes) -> str:
    """The sentence in the body of a refusal; a neutral one where there is none."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "the provider gave no reason"
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return error_text(decoded) if decoded else "the provider gave no reason"
