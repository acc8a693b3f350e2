"""Amazon Bedrock's Converse wire (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html), with a
Bedrock API key as bearer. Streams are AWS event streams: binary frames with checksums."""

import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask
from domain.inference.replies import Unusable
from domain.inference.sse import FrameTooLong
from domain.inference.wires.conversation import (
    LEFT_BEHIND,
    NO_AUDIO,
    SAID_EVERYWHERE,
    Audio,
    Conversation,
    Image,
    Part,
    Result,
    Text,
    at_most_one,
    conversation_of,
)
from domain.inference.wires.conversation import Call as ToolCall
from domain.inference.wires.replying import (
    Json,
    a_call,
    call_arguments,
    call_opening,
    decoded,
    delta,
    usage_chunk,
    whole_answer,
)
from domain.inference.wires.wire import Translated, Untranslatable, Wire

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_FRAME_BYTES_MAX = 16 << 20  # the longest message of the event stream encoding


def _body(ask: Ask, route: Route, provider: Provider, output_tokens: int | None) -> bytes:
    said = conversation_of(ask)
    config = {
        "maxTokens": output_tokens or ask.output_tokens,
        "temperature": at_most_one(said.temperature),
        "topP": said.top_p,
        "stopSequences": said.stop or None,
    }
    body: Json = {
        "messages": [
            {"role": turn.role, "content": [each for part in turn.parts for each in _parts(part)]}
            for turn in said.turns
        ],
        "inferenceConfig": {name: value for name, value in config.items() if value is not None},
    }
    if said.system:
        body["system"] = [each for text in said.system for each in _parts(text)]
    if said.tools and said.tool_choice != "none":
        body["toolConfig"] = _tools(said)
    elif any(isinstance(part, ToolCall) for turn in said.turns for part in turn.parts):
        raise Untranslatable("tool calls in its past, but no tools that may be called now")
    return msgspec.json.encode(body)


def _parts(part: Part) -> list[Json]:
    """A part, and behind it the mark that the prompt up to here is to be cached."""
    match part:
        case Text(text, cache):
            return [{"text": text}, *_cache_point(cache)]
        case Image(url="", media_type=media_type) as image if media_type in _IMAGES:
            source = {"bytes": image.data}
            return [{"image": {"format": _IMAGES[media_type], "source": source}}, *_cache_point(image.cache)]
        case Image():
            raise Untranslatable("an image that is linked or of a rare format")
        case Audio():
            raise Untranslatable(NO_AUDIO)
        case ToolCall() as call:
            return [{"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}]
        case Result() as result:
            told = {"toolUseId": result.id, "content": [{"text": result.text}]}
            return [{"toolResult": told}, *_cache_point(result.cache)]


def _cache_point(cache: Json | None) -> list[Json]:
    if cache is None:
        return []
    point = {"type": "default"} | ({"ttl": cache["ttl"]} if cache.get("ttl") else {})
    return [{"cachePoint": point}]


def _tools(said: Conversation) -> Json:
    specs: list[Json] = []
    for tool in said.tools:
        spec: Json = {"name": tool.name, "inputSchema": {"json": tool.parameters}}
        if tool.description:
            spec["description"] = tool.description
        specs += [{"toolSpec": spec}, *_cache_point(tool.cache)]
    choice: dict[str, Json] = {"auto": {"auto": {}}, "required": {"any": {}}}
    return {
        "tools": specs,
        "toolChoice": choice.get(said.tool_choice) or {"tool": {"name": said.tool_choice[1:]}},
    }


def _whole(body: bytes, id: str, created: int) -> bytes:
    reply = decoded(body)
    if "output" not in reply:
        return body
    try:
        blocks = reply["output"]["message"]["content"]
        calls = [block["toolUse"] for block in blocks if "toolUse" in block]
        return whole_answer(
            id=id,
            created=created,
            text="".join(block.get("text") or "" for block in blocks),
            reasoning="".join(_thought(block.get("reasoningContent")) for block in blocks),
            calls=[a_call(call["toolUseId"], call["name"], call.get("input") or {}) for call in calls],
            finish=_FINISH.get(reply.get("stopReason") or "", "stop"),
            usage=_usage(reply.get("usage")),
        )
    except (AttributeError, KeyError, TypeError) as odd:
        raise Unusable("The provider's answer is not of its wire.") from odd


def _thought(content: Any) -> str:
    return ((content or {}).get("reasoningText") or {}).get("text") or ""


def _usage(usage: Json | None) -> Json | None:
    """The input figure leaves out what was read from or written to the cache; the total of some models does too."""
    if usage is None:
        return None
    fresh, output, total = (usage.get(name) for name in ("inputTokens", "outputTokens", "totalTokens"))
    read, written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
    report = {"input_tokens": fresh, "output_tokens": output}
    if total is not None and total != (fresh or 0) + (output or 0):
        report["total_tokens"] = total
    if read is not None or written is not None:
        hour = sum(each.get("inputTokens") or 0 for each in usage.get("cacheDetails") or () if each.get("ttl") == "1h")
        report |= {
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "cache_creation": {"ephemeral_1h_input_tokens": hour},
        }
    return report


class EventFrames:
    """The frames of an AWS event stream as JSON objects of one member, named by the event; an exception as `error`.

    A frame is: its length, the length of its headers (both 4 bytes, big-endian), the CRC-32 of these, headers, payload,
    the CRC-32 of all before (smithy.io, Amazon Event Stream Specification).
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Raises FrameTooLong, and Unusable where a checksum does not hold."""
        self._rest += block
        while len(self._rest) >= 12:
            length = _number(self._rest[:4])
            if zlib.crc32(self._rest[:8]) != _number(self._rest[8:12]) or length < 16:
                raise Unusable("The provider sent a frame whose checksum does not hold.")
            if length > _FRAME_BYTES_MAX:
                raise FrameTooLong
            if len(self._rest) < length:
                return
            frame, self._rest = self._rest[:length], self._rest[length:]
            yield _event(frame)

    def end(self) -> tuple[()]:
        return ()  # half a frame is nothing


def _event(frame: bytes) -> bytes:
    if zlib.crc32(frame[:-4]) != _number(frame[-4:]):
        raise Unusable("The provider sent a frame whose checksum does not hold.")
    payload_at = 12 + _number(frame[4:8])
    headers = _headers(frame[12:payload_at])
    payload = frame[payload_at:-4]
    name = headers.get(":event-type", "")
    if headers.get(":message-type", "event") != "event":
        kind = headers.get(":exception-type") or headers.get(":error-code") or "error"
        told = decoded(payload).get("message") if payload else None
        return msgspec.json.encode({"error": {"type": kind, "message": told or headers.get(":error-message") or kind}})
    return b"{" + msgspec.json.encode(name) + b":" + (payload or b"{}") + b"}"


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are text, which is type 7; the spine needs no others."""
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    found, at = {}, 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name, kind = data[at + 1 : name_end].decode("utf-8", "replace"), data[name_end]
        at = name_end + 1
        size = sizes.get(kind)
        if size is None:
            size = _number(data[at : at + 2])
            at += 2
        if kind == 7:
            found[name] = data[at : at + size].decode("utf-8", "replace")
        at += size
    return found


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


class _Chunks:
    """One stream. The metadata with the usage is its last event."""

    def __init__(self) -> None:
        self.done = False
        self._calls = -1
        self._unsaid = False  # a tool call has been opened, and no arguments followed

    def take(self, data: bytes) -> Iterator[Json]:
        event = decoded(data)
        try:
            yield from self._chunks(event)
        except (AttributeError, KeyError, TypeError) as odd:
            raise Unusable("The provider sent a frame that is not of its wire.") from odd

    def _chunks(self, event: Json) -> Iterator[Json]:
        for name, said in event.items():
            match name:
                case "messageStart":
                    yield delta({"role": "assistant", "content": ""})
                case "contentBlockStart" if "toolUse" in said["start"]:
                    self._calls += 1
                    self._unsaid = True
                    yield call_opening(
                        self._calls, said["start"]["toolUse"]["toolUseId"], said["start"]["toolUse"]["name"]
                    )
                case "contentBlockDelta":
                    yield from self._delta(said["delta"])
                case "contentBlockStop" if self._unsaid:
                    self._unsaid = False
                    yield call_arguments(self._calls, "{}")
                case "messageStop":
                    yield delta({}, _FINISH.get(said.get("stopReason") or "", "stop"))
                case "metadata":
                    usage = _usage(said.get("usage"))
                    if usage:
                        yield usage_chunk(usage)
                    self.done = True
                case "error":
                    yield {"error": said}

    def _delta(self, said: Json) -> Iterator[Json]:
        if said.get("text"):
            yield delta({"content": said["text"]})
        if (said.get("reasoningContent") or {}).get("text"):
            yield delta({"reasoning_content": said["reasoningContent"]["text"]})
        if (said.get("toolUse") or {}).get("input"):
            self._unsaid = False
            yield call_arguments(self._calls, said["toolUse"]["input"])


def _status(status: int, body: bytes) -> int:
    """424 means here that the model failed, not that the request is wrong."""
    return 502 if status == 424 else status


BEDROCK = Wire(
    paths={"chat": "/model/{model}/converse", "stream": "/model/{model}/converse-stream"},
    takes=SAID_EVERYWHERE | LEFT_BEHIND | {"messages:image"},
    body=_body,
    whole=_whole,
    frames=lambda: Translated(_Chunks(), EventFrames()),
    status=_status,
)
