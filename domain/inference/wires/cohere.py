"""Cohere's chat wire, version 2 (docs.cohere.com/reference/chat)."""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask
from domain.inference.replies import Unusable
from domain.inference.sse import DONE
from domain.inference.wires.conversation import (
    LEFT_BEHIND,
    NO_AUDIO,
    SAID_EVERYWHERE,
    Audio,
    Image,
    Result,
    Text,
    Turn,
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

_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


def _body(ask: Ask, route: Route, provider: Provider, output_tokens: int | None) -> bytes:
    said = conversation_of(ask)
    if said.tool_choice.startswith(":"):
        raise Untranslatable("a tool_choice that names a tool")
    messages = [message for turn in said.turns for message in _messages(turn)]
    if said.system:
        messages.insert(0, {"role": "system", "content": "\n".join(text.text for text in said.system)})
    body: Json = {
        "model": route.upstream,
        "messages": messages,
        "stream": ask.streamed,
        "max_tokens": output_tokens or ask.output_tokens,
        "temperature": at_most_one(said.temperature),
        "p": said.top_p,
        "stop_sequences": said.stop or None,
        "seed": msgspec.json.decode(ask.members["seed"]) if "seed" in ask.members else None,
        "tools": [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in said.tools
        ]
        or None,
        "tool_choice": {"required": "REQUIRED", "none": "NONE"}.get(said.tool_choice) if said.tools else None,
        "response_format": _response_format(said.schema) if said.json else None,
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def _response_format(schema: Json | None) -> Json:
    return {"type": "json_object"} if schema is None else {"type": "json_object", "json_schema": schema}


def _messages(turn: Turn) -> Iterator[Json]:
    """A turn as messages: each result of a tool is one of its own."""
    for part in turn.parts:
        if isinstance(part, Result):
            yield {"role": "tool", "tool_call_id": part.id, "content": part.text}
    content: list[Json] = []
    for part in turn.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        elif isinstance(part, Audio):
            raise Untranslatable(NO_AUDIO)
    calls = [a_call(part.id, part.name, part.arguments) for part in turn.parts if isinstance(part, ToolCall)]
    if calls:
        yield {"role": "assistant", "tool_calls": calls} | ({"content": content} if content else {})
    elif content:
        yield {"role": turn.role, "content": content}


def _whole(body: bytes, id: str, created: int) -> bytes:
    reply = decoded(body)
    if "finish_reason" not in reply:
        return body
    if reply["finish_reason"] not in _FINISH:
        raise Unusable(f"The provider ended the answer with {reply['finish_reason']}.")
    try:
        message = reply["message"]
        content = message.get("content") or []
        calls = message.get("tool_calls") or []
        thoughts = "".join(part.get("thinking") or "" for part in content)
        return whole_answer(
            id=reply.get("id") or id,
            created=created,
            text="".join(part.get("text") or "" for part in content),
            reasoning=thoughts + (message.get("tool_plan") or ""),
            calls=[a_call(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls],
            finish=_FINISH[reply["finish_reason"]],
            usage=_usage(reply.get("usage")),
        )
    except (AttributeError, KeyError, TypeError) as odd:
        raise Unusable("The provider's answer is not of its wire.") from odd


def _usage(usage: Any) -> Json | None:
    """What is billed, which is less than what `tokens` has: that counts the provider's own prompt too."""
    told = (usage or {}).get("billed_units") or (usage or {}).get("tokens")
    if not told:
        return None
    return {"prompt_tokens": _count(told.get("input_tokens")), "completion_tokens": _count(told.get("output_tokens"))}


def _count(number: Any) -> Any:
    """These counts may be written with a point and a zero."""
    return int(number) if isinstance(number, float) and number.is_integer() else number or 0


class _Chunks:
    """One stream."""

    def __init__(self) -> None:
        self.done = False
        self._calls = -1

    def take(self, data: bytes) -> Iterator[Json]:
        if data.startswith(DONE):
            return
        event = decoded(data)
        try:
            yield from self._chunks(event)
        except (AttributeError, KeyError, TypeError) as odd:
            raise Unusable("The provider sent a frame that is not of its wire.") from odd

    def _chunks(self, event: Json) -> Iterator[Json]:
        match event.get("type"):
            case "message-start":
                yield delta({"role": "assistant", "content": ""})
            case "content-start" | "content-delta":
                said = event["delta"]["message"]["content"]
                if said.get("thinking"):
                    yield delta({"reasoning_content": said["thinking"]})
                if said.get("text"):
                    yield delta({"content": said["text"]})
            case "tool-plan-delta":
                yield delta({"reasoning_content": event["delta"]["message"]["tool_plan"]})
            case "tool-call-start":
                call = event["delta"]["message"]["tool_calls"]
                self._calls += 1
                function = call["function"]
                yield call_opening(self._calls, call["id"], function["name"], function.get("arguments") or "")
            case "tool-call-delta":
                yield call_arguments(self._calls, event["delta"]["message"]["tool_calls"]["function"]["arguments"])
            case "message-end":
                yield from self._end(event["delta"])
            case None:
                yield {"error": event.get("message") or "unspecified error"}

    def _end(self, said: Json) -> Iterator[Json]:
        reason = said.get("finish_reason")
        if reason not in _FINISH:
            yield {"error": said.get("error") or f"the answer ended with {reason}"}
            return
        yield delta({}, _FINISH[reason])
        usage = _usage(said.get("usage"))
        if usage:
            yield usage_chunk(usage)
        self.done = True


COHERE = Wire(
    paths={"chat": "/chat", "stream": "/chat"},
    takes=SAID_EVERYWHERE
    | LEFT_BEHIND
    | {"seed", "response_format:json_object", "response_format:json_schema", "messages:image", "messages:image_link"},
    body=_body,
    whole=_whole,
    frames=lambda: Translated(_Chunks()),
)
