"""Anthropic's Messages wire (docs.claude.com/en/api/messages, version 2023-06-01)."""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask
from domain.inference.replies import Unusable
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
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _body(ask: Ask, route: Route, provider: Provider, output_tokens: int | None) -> bytes:
    said = conversation_of(ask)
    limit = output_tokens or ask.output_tokens or route.max_output_tokens  # which this wire wants to be told
    body: Json = {
        "model": route.upstream,
        "max_tokens": min(limit, route.max_output_tokens or limit),
        "messages": [{"role": turn.role, "content": [_part(part) for part in turn.parts]} for turn in said.turns],
    }
    if said.system:
        body["system"] = [_part(text) for text in said.system]
    if said.tools:
        body["tools"] = [
            _cached({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}, tool.cache)
            for tool in said.tools
        ]
        body["tool_choice"] = _tool_choice(said)
    if said.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": said.schema}}
    if said.stop:
        body["stop_sequences"] = said.stop
    if said.temperature is not None:
        body["temperature"] = at_most_one(said.temperature)
    if said.top_p is not None:
        body["top_p"] = said.top_p
    if ask.streamed:
        body["stream"] = True
    return msgspec.json.encode(body)


def _part(part: Part) -> Json:
    match part:
        case Text(text, cache):
            return _cached({"type": "text", "text": text}, cache)
        case Image(url="") as image:
            source = {"type": "base64", "media_type": image.media_type, "data": image.data}
            return _cached({"type": "image", "source": source}, image.cache)
        case Image() as image:
            return _cached({"type": "image", "source": {"type": "url", "url": image.url}}, image.cache)
        case Audio():
            raise Untranslatable(NO_AUDIO)
        case ToolCall() as call:
            return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        case Result() as result:
            return _cached({"type": "tool_result", "tool_use_id": result.id, "content": result.text}, result.cache)


def _cached(part: Json, cache: Json | None) -> Json:
    return part if cache is None else part | {"cache_control": cache}


def _tool_choice(said: Conversation) -> Json:
    choice: Json = {"type": {"auto": "auto", "none": "none", "required": "any"}.get(said.tool_choice, "tool")}
    if choice["type"] == "tool":
        choice["name"] = said.tool_choice[1:]
    if not said.parallel and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _whole(body: bytes, id: str, created: int) -> bytes:
    reply = decoded(body)
    if reply.get("type") == "error" or not isinstance(reply.get("content"), list):
        return body  # an error in disguise, or nothing of the wire: told apart where OpenAI's are
    blocks = [block for block in reply["content"] if isinstance(block, dict)]
    return whole_answer(
        id=reply.get("id") or id,
        created=created,
        text=_joined(blocks, "text"),
        reasoning=_joined(blocks, "thinking"),
        calls=[a_call(b["id"], b["name"], b.get("input") or {}) for b in blocks if b.get("type") == "tool_use"],
        finish=_FINISH.get(reply.get("stop_reason") or "", "stop"),
        usage=reply.get("usage"),
    )


def _joined(blocks: list[Json], kind: str) -> str:
    return "".join(block.get(kind) or "" for block in blocks if block.get("type") == kind)


class _Chunks:
    """One stream. Usage comes in two halves: the prompt's when it begins, the answer's, cumulative, at its end."""

    def __init__(self) -> None:
        self.done = False
        self._usage: Json = {}
        self._calls = -1
        self._unsaid = False  # a tool call has been opened, and no arguments followed

    def take(self, data: bytes) -> Iterator[Json]:
        event = decoded(data)
        try:
            yield from self._chunks(event)
        except (AttributeError, KeyError, TypeError) as odd:
            raise Unusable("The provider sent a frame that is not of its wire.") from odd

    def _chunks(self, event: Json) -> Iterator[Json]:
        match event.get("type"):
            case "message_start":
                self._learn(event["message"].get("usage"))
                yield delta({"role": "assistant", "content": ""})
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                block = event["content_block"]
                self._calls += 1
                self._unsaid = True
                yield call_opening(self._calls, block["id"], block["name"])
            case "content_block_delta":
                yield from self._delta(event["delta"])
            case "content_block_stop" if self._unsaid:
                self._unsaid = False
                yield call_arguments(self._calls, "{}")
            case "message_delta":
                self._learn(event.get("usage"))
                if event["delta"].get("stop_reason"):
                    yield delta({}, _FINISH.get(event["delta"]["stop_reason"], "stop"))
                yield usage_chunk(self._usage)
            case "message_stop":
                self.done = True
            case "error":
                yield {"error": event["error"]}

    def _delta(self, said: Json) -> Iterator[Json]:
        match said["type"]:
            case "text_delta":
                yield delta({"content": said["text"]})
            case "thinking_delta":
                yield delta({"reasoning_content": said["thinking"]})
            case "input_json_delta" if said["partial_json"]:
                self._unsaid = False
                yield call_arguments(self._calls, said["partial_json"])

    def _learn(self, usage: Any) -> None:
        self._usage.update({name: value for name, value in (usage or {}).items() if value is not None})


ANTHROPIC = Wire(
    paths={"chat": "/messages", "stream": "/messages", "models": "/models?limit=1000"},
    takes=SAID_EVERYWHERE
    | LEFT_BEHIND
    | {"parallel_tool_calls", "response_format:json_schema", "messages:image", "messages:image_link"},
    body=_body,
    whole=_whole,
    frames=lambda: Translated(_Chunks()),
)
