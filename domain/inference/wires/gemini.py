"""Google's generateContent wire (ai.google.dev/api/generate-content)."""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask
from domain.inference.replies import Unusable
from domain.inference.wires.conversation import (
    LEFT_BEHIND,
    SAID_EVERYWHERE,
    Audio,
    Conversation,
    Image,
    Part,
    Result,
    Text,
    conversation_of,
)
from domain.inference.wires.conversation import Call as ToolCall
from domain.inference.wires.replying import Json, a_call, call_opening, decoded, delta, usage_chunk, whole_answer
from domain.inference.wires.wire import Translated, Untranslatable, Wire

_STOPS = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})
# Tokens of thought for each reasoning_effort, as Google's own OpenAI-compatible endpoint has them.
_THINKING_TOKENS = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}


def _body(ask: Ask, route: Route, provider: Provider, output_tokens: int | None) -> bytes:
    said = conversation_of(ask)
    limit = output_tokens or ask.output_tokens
    config: Json = {
        "maxOutputTokens": limit,
        "temperature": said.temperature,
        "topP": said.top_p,
        "stopSequences": said.stop or None,
        "responseMimeType": "application/json" if said.json else None,
        "responseJsonSchema": said.schema,
        **{name: _plain(ask, field) for field, name in _SAME_MEANING.items()},
        "thinkingConfig": _thinking(ask),
    }
    body: Json = {
        "contents": [
            {"role": "model" if turn.role == "assistant" else "user", "parts": [_part(part) for part in turn.parts]}
            for turn in said.turns
        ],
        "generationConfig": {name: value for name, value in config.items() if value is not None},
    }
    if said.system:
        body["systemInstruction"] = {"parts": [_part(text) for text in said.system]}
    if said.tools:
        body["tools"] = [
            {
                "functionDeclarations": [
                    {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
                    for tool in said.tools
                ]
            }
        ]
        body["toolConfig"] = {"functionCallingConfig": _tool_choice(said)}
    return msgspec.json.encode(body)


_SAME_MEANING = {
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}


def _plain(ask: Ask, field: str) -> Any:
    return msgspec.json.decode(ask.members[field]) if field in ask.members else None


def _thinking(ask: Ask) -> Json | None:
    effort = _plain(ask, "reasoning_effort")
    if effort is None:
        return None
    if effort not in _THINKING_TOKENS:
        raise Untranslatable(f"a reasoning_effort of '{effort}'")
    return {"thinkingBudget": _THINKING_TOKENS[effort]}


def _part(part: Part) -> Json:
    match part:
        case Text(text):
            return {"text": text}
        case Image(url="") as image:
            return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
        case Image():
            raise Untranslatable("a linked image, which this provider does not fetch")
        case Audio(format, data):
            return {"inlineData": {"mimeType": f"audio/{format}", "data": data}}
        case ToolCall() as call:
            spoken: Json = {"functionCall": {"name": call.name, "args": call.arguments}}
            return spoken | {"thoughtSignature": call.signature} if call.signature else spoken
        case Result() as result:
            return {"functionResponse": {"name": result.name, "response": {"result": result.text}}}


def _tool_choice(said: Conversation) -> Json:
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}.get(said.tool_choice)
    return {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [said.tool_choice[1:]]}


def _whole(body: bytes, id: str, created: int) -> bytes:
    reply = decoded(body)
    if "error" in reply or not ("candidates" in reply or "promptFeedback" in reply):
        return body
    try:
        parts, finish = _candidate(reply)
        calls = _calls(parts, reply.get("responseId") or id)
        return whole_answer(
            id=reply.get("responseId") or id,
            created=created,
            text="".join(part.get("text") or "" for part in parts if not part.get("thought")),
            reasoning="".join(part.get("text") or "" for part in parts if part.get("thought")),
            calls=[_signed(a_call(each["id"], each["name"], each["args"]), each["signature"]) for each in calls],
            finish=_finish(finish, called=bool(calls)) or "stop",
            usage=_usage(reply.get("usageMetadata")),
        )
    except (AttributeError, KeyError, TypeError) as odd:
        raise Unusable("The provider's answer is not of its wire.") from odd


def _candidate(reply: Json) -> tuple[list[Json], str]:
    """The parts of the answer, and why it ended, empty while it goes on. A refused prompt has neither."""
    for candidate in reply.get("candidates") or ():
        return (candidate.get("content") or {}).get("parts") or [], candidate.get("finishReason") or ""
    return [], "SAFETY" if (reply.get("promptFeedback") or {}).get("blockReason") else ""


def _finish(reason: str, *, called: bool) -> str | None:
    if not reason:
        return None
    if reason == "MAX_TOKENS":
        return "length"
    if reason not in _STOPS:  # safety, recitation, blocked terms and what else is to come of the kind
        return "content_filter"
    return "tool_calls" if called else "stop"


def _calls(parts: list[Json], prefix: str, *, before: int = 0) -> list[Json]:
    """The tool calls of these parts. This wire need not number them, and OpenAI's must."""
    return [
        {
            "id": part["functionCall"].get("id") or f"call_{prefix}_{before + number}",
            "name": part["functionCall"]["name"],
            "args": part["functionCall"].get("args") or {},
            "signature": part.get("thoughtSignature") or "",
        }
        for number, part in enumerate(part for part in parts if "functionCall" in part)
    ]


def _signed(call: Json, signature: str) -> Json:
    """The signature goes where Google's OpenAI-compatible endpoint has it, so that clients know to return it."""
    return call | {"extra_content": {"google": {"thought_signature": signature}}} if signature else call


def _usage(metadata: Json | None) -> Json | None:
    """The prompt's figure includes what was cached; thoughts and the prompts of tools stand beside the others."""
    if metadata is None:
        return None
    prompt = metadata.get("promptTokenCount")
    details = {
        "cached_tokens": metadata.get("cachedContentTokenCount"),
        "audio_tokens": _audio(metadata.get("promptTokensDetails")),
        "cached_tokens_details": {"audio_tokens": _audio(metadata.get("cacheTokensDetails"))},
    }
    return {
        "prompt_tokens": None if prompt is None else prompt + (metadata.get("toolUsePromptTokenCount") or 0),
        "completion_tokens": metadata.get("candidatesTokenCount") or 0,
        "total_tokens": metadata.get("totalTokenCount"),
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": metadata.get("thoughtsTokenCount"),
            "audio_tokens": _audio(metadata.get("candidatesTokensDetails")),
        },
    }


def _audio(details: Any) -> int | None:
    return next((each.get("tokenCount") for each in details or () if each.get("modality") == "AUDIO"), None)


class _Chunks:
    """One stream. Every frame is a whole reply with the next parts; its usage is cumulative, and final at the end."""

    def __init__(self) -> None:
        self.done = False  # nothing but the end of the body says so
        self._begun = self._ended = False
        self._calls = 0

    def take(self, data: bytes) -> Iterator[Json]:
        reply = decoded(data)
        try:
            yield from self._chunks(reply)
        except (AttributeError, KeyError, TypeError) as odd:
            raise Unusable("The provider sent a frame that is not of its wire.") from odd

    def _chunks(self, reply: Json) -> Iterator[Json]:
        if "error" in reply:
            yield {"error": reply["error"]}
            return
        if not self._begun:
            self._begun = True
            yield delta({"role": "assistant", "content": ""})
        parts, reason = _candidate(reply)
        for part in parts:
            if part.get("text"):
                yield delta({"reasoning_content" if part.get("thought") else "content": part["text"]})
        for call in _calls(parts, reply.get("responseId") or "0", before=self._calls):
            opening = call_opening(self._calls, call["id"], call["name"], msgspec.json.encode(call["args"]).decode())
            spoken = opening["choices"][0]["delta"]["tool_calls"]
            spoken[0] = _signed(spoken[0], call["signature"])
            self._calls += 1
            yield opening
        finish = _finish(reason, called=self._calls > 0)
        if finish:
            self._ended = True
            yield delta({}, finish)
        usage = _usage(reply.get("usageMetadata"))
        if usage and self._ended:
            yield usage_chunk(usage)


def _status(status: int, body: bytes) -> int:
    """A wrong key is a 400 here, which elsewhere means that the request is wrong."""
    return 401 if status == 400 and b"API_KEY_INVALID" in body else status


GEMINI = Wire(
    paths={
        "chat": "/models/{model}:generateContent",
        "stream": "/models/{model}:streamGenerateContent?alt=sse",
        "models": "/models?pageSize=1000",
    },
    takes=SAID_EVERYWHERE
    | LEFT_BEHIND
    | _SAME_MEANING.keys()
    | {"reasoning_effort", "response_format:json_object", "response_format:json_schema"}
    | {"messages:image", "messages:audio"},
    body=_body,
    whole=_whole,
    frames=lambda: Translated(_Chunks()),
    status=_status,
)
