"""Wires of the provider simulator that are not OpenAI's: Anthropic's, Google's, Cohere's and Amazon's.

A request is read into OpenAI's terms, answered as `answers.py` has it, and said again in the wire's own. Written from
the providers' documentation and apart from the gateway's translation, so that each is held against the other.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from adapters.simulators.answers import Answer, BadRequest, Json
from adapters.simulators.script import Script

Kind = Literal["opening", "piece", "closing"]


class Event(NamedTuple):
    """One frame of a stream: its kind as in `answers.Frame`, its event's name where the wire has names, its data."""

    kind: Kind
    name: str
    body: Json


@dataclass(frozen=True)
class Dialect:
    """One wire: how a request is read (the body, the model of the path, streamed), a whole answer, the frames of a
    stream, an error, an error within a stream as its event; `binary` frames are an AWS event stream. `wrong_key` is the
    status that tells of one."""

    read: Callable[[Json, str, bool], Json]
    whole: Callable[[Answer, Script], Json]
    events: Callable[[Answer, Script], Iterator[Event]]
    error: Callable[[int, str], Json]
    stream_error: Event
    binary: bool = False
    wrong_key: int = 401


class Tokens(NamedTuple):
    """What a usage report is made of; `prompt` is all of the input, cached or not, `output` has the reasoning."""

    prompt: int
    cached: int
    written: int
    hour: int
    output: int
    reasoning: int

    @property
    def fresh(self) -> int:
        return max(0, self.prompt - self.cached - self.written - self.hour)


def tokens(answer: Answer, script: Script) -> Tokens:
    """The figures of this answer, as the script wants them."""
    if script.usage_zero:
        return Tokens(0, 0, 0, 0, 0, 0)
    prompt = answer.prompt_tokens if script.prompt_tokens is None else script.prompt_tokens
    output = answer.pieces if script.completion_tokens is None else script.completion_tokens
    reasoning = min(len(answer.reasoning), output)
    cache = script.cached_tokens or 0, script.written_tokens, script.written_hour_tokens
    return Tokens(prompt, *cache, output, reasoning)


def event_message(name: str, payload: bytes) -> bytes:
    """One message of an AWS event stream."""
    kind = b"exception" if name.endswith("Exception") else b"event"
    headers = b"".join(
        struct.pack(">B", len(key)) + key + b"\x07" + struct.pack(">H", len(value)) + value
        for key, value in (
            (b":" + kind + b"-type", name.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", kind),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _told(script: Script) -> bool:
    return script.usage_place != "never"


# Anthropic


def _read_anthropic(body: Json, model: str, streamed: bool) -> Json:
    if not isinstance(body.get("max_tokens"), int):
        raise BadRequest("max_tokens: Field required", code="invalid_request_error", param="max_tokens")
    messages: list[Json] = []
    if body.get("system"):
        messages.append({"role": "system", "content": body["system"]})
    for message in body["messages"]:
        messages += _openai_messages(message["role"], _blocks(message["content"]))
    choice = body.get("tool_choice") or {"type": "auto"}
    return {
        "model": body["model"],
        "messages": messages,
        "stream": body.get("stream") is True,
        "max_tokens": body["max_tokens"],
        "stop": body.get("stop_sequences") or [],
        "tools": [_function(tool["name"], tool["input_schema"]) for tool in body.get("tools") or []],
        "tool_choice": _choice({"any": "required"}.get(choice["type"], choice["type"]), choice.get("name")),
        "parallel_tool_calls": choice.get("disable_parallel_tool_use") is not True,
    }


def _blocks(content: Any) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _openai_messages(role: str, blocks: list[Json]) -> list[Json]:
    """A turn of typed blocks as the messages that OpenAI's wire has for it."""
    told = [
        {"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]}
        for block in blocks
        if block["type"] == "tool_result"
    ]
    said: list[Json] = [block for block in blocks if block["type"] in ("text", "image")]
    calls = [{"id": block["id"]} for block in blocks if block["type"] == "tool_use"]
    if said or calls:
        told.append({"role": role, "content": said} | ({"tool_calls": calls} if calls else {}))
    return told


def _function(name: str, schema: Json) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def _choice(kind: str, name: str | None) -> Any:
    return {"type": "function", "function": {"name": name}} if name else kind


_ANTHROPIC_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def _anthropic_usage(answer: Answer, script: Script, *, output: int) -> Json:
    used = tokens(answer, script)
    return {
        "input_tokens": used.fresh,
        "cache_creation_input_tokens": used.written + used.hour,
        "cache_read_input_tokens": used.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": used.written, "ephemeral_1h_input_tokens": used.hour},
        "output_tokens": output,
        "service_tier": "standard",
    }


def _anthropic_message(answer: Answer) -> Json:
    return {"id": f"msg_sim{answer.number:08d}", "type": "message", "role": "assistant", "model": answer.model}


def _anthropic_whole(answer: Answer, script: Script) -> Json:
    content: list[Json] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": "".join(answer.reasoning), "signature": "c2lt"})
    if answer.content:
        content.append({"type": "text", "text": "".join(answer.content)})
    content += [
        {"type": "tool_use", "id": f"toolu_sim{number}", "name": call.name, "input": _arguments(call.fragments)}
        for number, call in enumerate(answer.tool_calls)
    ]
    reply = _anthropic_message(answer) | {"content": content, "stop_sequence": None}
    reply["stop_reason"] = _ANTHROPIC_STOPS.get(answer.finish_reason)
    if _told(script):
        reply["usage"] = _anthropic_usage(answer, script, output=tokens(answer, script).output)
    return reply


def _arguments(fragments: list[str]) -> Any:
    try:
        return msgspec.json.decode("".join(fragments))
    except msgspec.DecodeError:  # cut short by the limit
        return {}


def _anthropic_events(answer: Answer, script: Script) -> Iterator[Event]:
    def event(kind: Kind, body: Json) -> Event:
        return Event(kind, body["type"], body)

    message = _anthropic_message(answer) | {"content": [], "stop_reason": None, "stop_sequence": None}
    if _told(script):
        message["usage"] = _anthropic_usage(answer, script, output=1)
    yield event("opening", {"type": "message_start", "message": message})
    yield event("opening", {"type": "ping"})
    index = 0
    for kind, field, pieces in (
        ("thinking", "thinking_delta", answer.reasoning),
        ("text", "text_delta", answer.content),
    ):
        if not pieces:
            continue
        opened = {"type": kind, kind: ""}
        yield event("opening", {"type": "content_block_start", "index": index, "content_block": opened})
        for piece in pieces:
            delta = {"type": field, kind: piece}
            yield event("piece", {"type": "content_block_delta", "index": index, "delta": delta})
        yield event("closing", {"type": "content_block_stop", "index": index})
        index += 1
    for number, call in enumerate(answer.tool_calls):
        block: Json = {"type": "tool_use", "id": f"toolu_sim{number}", "name": call.name, "input": {}}
        yield event("piece", {"type": "content_block_start", "index": index, "content_block": block})
        for fragment in call.fragments:
            delta = {"type": "input_json_delta", "partial_json": fragment}
            yield event("piece", {"type": "content_block_delta", "index": index, "delta": delta})
        yield event("closing", {"type": "content_block_stop", "index": index})
        index += 1
    ended: Json = {
        "type": "message_delta",
        "delta": {"stop_reason": _ANTHROPIC_STOPS.get(answer.finish_reason), "stop_sequence": None},
    }
    if _told(script):
        ended["usage"] = {"output_tokens": tokens(answer, script).output}
    yield event("closing", ended)
    yield event("closing", {"type": "message_stop"})


def _anthropic_error(status: int, message: str) -> Json:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


# Google


def _read_gemini(body: Json, model: str, streamed: bool) -> Json:
    config = body.get("generationConfig") or {}
    messages: list[Json] = []
    if body.get("systemInstruction"):
        messages.append({"role": "system", "content": body["systemInstruction"]["parts"]})
    for turn in body["contents"]:
        role = {"user": "user", "model": "assistant"}[turn["role"]]
        for part in turn["parts"]:
            if "functionResponse" in part:
                result = part["functionResponse"]["response"]["result"]
                messages.append({"role": "tool", "content": result})
        said = [part for part in turn["parts"] if "functionResponse" not in part]
        if said:
            messages.append({"role": role, "content": said})
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {"mode": "AUTO"}
    named = calling.get("allowedFunctionNames") or [None]
    declared = [one for tool in body.get("tools") or [] for one in tool["functionDeclarations"]]
    schema = config.get("responseJsonSchema")
    as_json: Json = {"type": "json_schema", "json_schema": {"schema": schema}} if schema else {"type": "json_object"}
    return {
        "model": model,
        "messages": messages,
        "stream": streamed,
        "max_tokens": config.get("maxOutputTokens"),
        "stop": config.get("stopSequences") or [],
        "tools": [_function(one["name"], one["parametersJsonSchema"]) for one in declared],
        "tool_choice": _choice({"AUTO": "auto", "ANY": "required", "NONE": "none"}[calling["mode"]], named[0]),
        "response_format": as_json if config.get("responseMimeType") == "application/json" else None,
    }


_GEMINI_STOPS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def _gemini_reply(answer: Answer, script: Script, parts: list[Json], *, output: int, last: bool) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = _GEMINI_STOPS.get(answer.finish_reason, "OTHER")
    reply: Json = {
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": f"sim{answer.number:08d}",
    }
    if _told(script):
        used = tokens(answer, script)
        reply["usageMetadata"] = {
            "promptTokenCount": used.prompt,
            "totalTokenCount": used.prompt + output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": used.prompt}],
        }
        if used.cached:
            reply["usageMetadata"]["cachedContentTokenCount"] = used.cached
        if output > used.reasoning:
            reply["usageMetadata"]["candidatesTokenCount"] = output - used.reasoning
        if used.reasoning:
            reply["usageMetadata"]["thoughtsTokenCount"] = used.reasoning
    return reply


def _gemini_parts(answer: Answer) -> Iterator[Json]:
    for thought in answer.reasoning:
        yield {"text": thought, "thought": True}
    for piece in answer.content:
        yield {"text": piece}
    for call in answer.tool_calls:
        yield {"functionCall": {"name": call.name, "args": _arguments(call.fragments)}, "thoughtSignature": "c2lt"}


def _gemini_whole(answer: Answer, script: Script) -> Json:
    parts = list(_gemini_parts(answer))
    return _gemini_reply(answer, script, parts, output=tokens(answer, script).output, last=True)


def _gemini_events(answer: Answer, script: Script) -> Iterator[Event]:
    for number, part in enumerate(_gemini_parts(answer), 1):
        yield Event("piece", "", _gemini_reply(answer, script, [part], output=number, last=False))
    end = _gemini_reply(answer, script, [{"text": ""}], output=tokens(answer, script).output, last=True)
    yield Event("closing", "", end)


def _gemini_error(status: int, message: str) -> Json:
    if status == 401:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}}
    return {"error": {"code": status, "message": message, "status": "UNAVAILABLE"}}


# Cohere


def _read_cohere(body: Json, model: str, streamed: bool) -> Json:
    choice = {"REQUIRED": "required", "NONE": "none"}.get(body.get("tool_choice") or "", "auto")
    wanted = body.get("response_format") or {}
    schema = wanted.get("json_schema")
    as_json: Json = {"type": "json_schema", "json_schema": {"schema": schema}} if schema else wanted
    return body | {
        "stream": body.get("stream") is True,
        "stop": body.get("stop_sequences") or [],
        "tool_choice": choice,
        "response_format": as_json,
    }


_COHERE_STOPS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR"}


def _cohere_usage(answer: Answer, script: Script) -> Json:
    used = tokens(answer, script)
    return {
        "billed_units": {"input_tokens": used.prompt, "output_tokens": used.output},
        "tokens": {"input_tokens": used.prompt + 61, "output_tokens": used.output + 2},
    }


def _cohere_call(number: int, name: str, arguments: str) -> Json:
    return {"id": f"call_sim{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _cohere_whole(answer: Answer, script: Script) -> Json:
    content: list[Json] = [{"type": "text", "text": "".join(answer.content)}] if answer.content else []
    if answer.reasoning:
        content.insert(0, {"type": "thinking", "thinking": "".join(answer.reasoning)})
    message: Json = {"role": "assistant", "content": content}
    if answer.tool_calls:
        message["tool_plan"] = "I will ask."
        message["tool_calls"] = [
            _cohere_call(number, call.name, "".join(call.fragments)) for number, call in enumerate(answer.tool_calls)
        ]
    reply: Json = {
        "id": f"sim-{answer.number:08d}",
        "finish_reason": _COHERE_STOPS.get(answer.finish_reason, "COMPLETE"),
        "message": message,
    }
    return reply | ({"usage": _cohere_usage(answer, script)} if _told(script) else {})


def _cohere_events(answer: Answer, script: Script) -> Iterator[Event]:
    def event(kind: Kind, type: str, message: Json | None = None, **more: Any) -> Event:
        return Event(kind, type, {"type": type, **more} | ({"delta": {"message": message}} if message else {}))

    yield event("opening", "message-start", {"role": "assistant", "content": []}, id=f"sim-{answer.number:08d}")
    for index, (kind, pieces) in enumerate((("thinking", answer.reasoning), ("text", answer.content))):
        if pieces:
            yield event("opening", "content-start", {"content": {"type": kind, kind: ""}}, index=index)
            for piece in pieces:
                yield event("piece", "content-delta", {"content": {kind: piece}}, index=index)
            yield event("closing", "content-end", index=index)
    for index, call in enumerate(answer.tool_calls):
        yield event("piece", "tool-call-start", {"tool_calls": _cohere_call(index, call.name, "")}, index=index)
        for fragment in call.fragments:
            arguments = {"tool_calls": {"function": {"arguments": fragment}}}
            yield event("piece", "tool-call-delta", arguments, index=index)
        yield event("closing", "tool-call-end", index=index)
    delta: Json = {"finish_reason": _COHERE_STOPS.get(answer.finish_reason, "COMPLETE")}
    if _told(script):
        delta["usage"] = _cohere_usage(answer, script)
    yield Event("closing", "message-end", {"type": "message-end", "delta": delta})


def _cohere_error(status: int, message: str) -> Json:
    return {"id": "00000000-0000-0000-0000-000000000000", "message": message}


# Amazon


def _read_bedrock(body: Json, model: str, streamed: bool) -> Json:
    config = body.get("inferenceConfig") or {}
    messages: list[Json] = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    for turn in body["messages"]:
        blocks = turn["content"]
        messages += [
            {"role": "tool", "content": block["toolResult"]["content"]} for block in blocks if "toolResult" in block
        ]
        said = [block for block in blocks if "toolResult" not in block]
        if said:
            messages.append({"role": turn["role"], "content": said})
    tools = [tool["toolSpec"] for tool in (body.get("toolConfig") or {}).get("tools") or [] if "toolSpec" in tool]
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {"auto": {}}
    ((kind, detail),) = choice.items()
    return {
        "model": model,
        "messages": messages,
        "stream": streamed,
        "max_tokens": config.get("maxTokens"),
        "stop": config.get("stopSequences") or [],
        "tools": [_function(tool["name"], tool["inputSchema"]["json"]) for tool in tools],
        "tool_choice": _choice({"any": "required"}.get(kind, kind), detail.get("name")),
    }


_BEDROCK_STOPS = _ANTHROPIC_STOPS | {"content_filter": "content_filtered"}


def _bedrock_usage(answer: Answer, script: Script) -> Json:
    used = tokens(answer, script)
    usage: Json = {
        "inputTokens": used.fresh,
        "outputTokens": used.output,
        "totalTokens": used.prompt + used.output,
    }
    if used.prompt > used.fresh:
        usage |= {
            "cacheReadInputTokens": used.cached,
            "cacheWriteInputTokens": used.written + used.hour,
            "cacheDetails": [
                {"inputTokens": used.written, "ttl": "5m"},
                {"inputTokens": used.hour, "ttl": "1h"},
            ],
        }
    return usage


def _bedrock_whole(answer: Answer, script: Script) -> Json:
    content: list[Json] = []
    if answer.reasoning:
        content.append({"reasoningContent": {"reasoningText": {"text": "".join(answer.reasoning)}}})
    if answer.content:
        content.append({"text": "".join(answer.content)})
    content += [
        {"toolUse": {"toolUseId": f"tooluse_sim{number}", "name": call.name, "input": _arguments(call.fragments)}}
        for number, call in enumerate(answer.tool_calls)
    ]
    reply: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _BEDROCK_STOPS.get(answer.finish_reason, "end_turn"),
        "metrics": {"latencyMs": 1},
    }
    return reply | ({"usage": _bedrock_usage(answer, script)} if _told(script) else {})


def _bedrock_events(answer: Answer, script: Script) -> Iterator[Event]:
    yield Event("opening", "messageStart", {"role": "assistant"})
    index = 0
    for pieces, said in (
        (answer.reasoning, lambda piece: {"reasoningContent": {"text": piece}}),
        (answer.content, lambda piece: {"text": piece}),
    ):
        for piece in pieces:
            yield Event("piece", "contentBlockDelta", {"delta": said(piece), "contentBlockIndex": index})
        if pieces:
            yield Event("closing", "contentBlockStop", {"contentBlockIndex": index})
            index += 1
    for number, call in enumerate(answer.tool_calls):
        start = {"toolUse": {"toolUseId": f"tooluse_sim{number}", "name": call.name}}
        yield Event("piece", "contentBlockStart", {"start": start, "contentBlockIndex": index})
        for fragment in call.fragments:
            delta = {"delta": {"toolUse": {"input": fragment}}, "contentBlockIndex": index}
            yield Event("piece", "contentBlockDelta", delta)
        yield Event("closing", "contentBlockStop", {"contentBlockIndex": index})
        index += 1
    yield Event("closing", "messageStop", {"stopReason": _BEDROCK_STOPS.get(answer.finish_reason, "end_turn")})
    metadata: Json = {"metrics": {"latencyMs": 1}}
    if _told(script):
        metadata["usage"] = _bedrock_usage(answer, script)
    yield Event("closing", "metadata", metadata)


def _bedrock_error(status: int, message: str) -> Json:
    return {"message": message}


_BROKEN = "Simulated error in the stream"

DIALECTS = {
    "anthropic": Dialect(
        read=_read_anthropic,
        whole=_anthropic_whole,
        events=_anthropic_events,
        error=_anthropic_error,
        stream_error=Event("closing", "error", _anthropic_error(529, _BROKEN)),
    ),
    "gemini": Dialect(
        read=_read_gemini,
        whole=_gemini_whole,
        events=_gemini_events,
        error=_gemini_error,
        stream_error=Event("closing", "", _gemini_error(503, _BROKEN)),
        wrong_key=400,
    ),
    "cohere": Dialect(
        read=_read_cohere,
        whole=_cohere_whole,
        events=_cohere_events,
        error=_cohere_error,
        stream_error=Event(
            "closing",
            "message-end",
            {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": _BROKEN}},
        ),
    ),
    "bedrock": Dialect(
        read=_read_bedrock,
        whole=_bedrock_whole,
        events=_bedrock_events,
        error=_bedrock_error,
        stream_error=Event("closing", "modelStreamErrorException", {"message": _BROKEN}),
        binary=True,
    ),
}
