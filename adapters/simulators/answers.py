"""What the provider simulator says and how it counts: OpenAI's bodies from a request and a script, no I/O.

The counting rule is published so that tests can compute what a call must cost:
prompt tokens = for each message 4, plus its text's UTF-8 bytes / 4 rounded up (`prompt_tokens`);
completion tokens = the number of pieces of all choices, reasoning included; a tool call is one piece for its
name and one for each fragment of its arguments.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from adapters.simulators.script import Script

_DEVANAGARI = re.compile("[\u0900-\u097f]")
_PIECE = re.compile(r"\s*\S+")
_ECHO_WORDS_MAX = 12

Json = dict[str, Any]


class BadRequest(Exception):
    """A request that the provider refuses with 400; `param` is the field at fault."""

    def __init__(self, message: str, *, code: str, param: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class ToolCall(NamedTuple):
    name: str
    fragments: list[str]


class Frame(NamedTuple):
    """One chunk of a stream: an opening without content, a piece that carries tokens, or a closing."""

    kind: Literal["opening", "piece", "closing"]
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a chat, the same in each of its `choices`, and what identifies it."""

    number: int
    created: int
    model: str
    choices: int
    prompt_tokens: int
    reasoning: list[str]
    content: list[str]
    tool_calls: list[ToolCall]
    finish_reason: str
    usage_asked: bool
    logprobs_asked: bool

    @property
    def pieces(self) -> int:
        """The pieces of all choices, which is what they cost in completion tokens."""
        calls = sum(1 + len(call.fragments) for call in self.tool_calls)
        return (len(self.reasoning) + len(self.content) + calls) * self.choices


def prompt_tokens(messages: list[Json]) -> int:
    """Tokens of a chat's messages by the simulator's rule; parts that are not text count nothing."""
    return sum(4 + byte_tokens(_text(message)) for message in messages)


def chat(body: Json, script: Script, *, number: int, created: int) -> Answer:
    """Decide what to answer to the chat request `body`. `created` is in Unix seconds. Raises BadRequest."""
    messages = _messages(body)
    limit = whole_number(body, "max_completion_tokens") or whole_number(body, "max_tokens")
    calls = _tool_calls(body, messages)
    content = [] if calls else _content(body, messages, script)
    reasoning = [f" thought {index + 1}" + "x" * script.pad_bytes for index in range(script.reasoning_pieces)]
    finish_reason = "tool_calls" if calls else "stop"
    if script.content_filter:
        finish_reason = "content_filter"
    if limit is not None and len(reasoning) + len(content) + sum(1 + len(c.fragments) for c in calls) > limit:
        finish_reason = "length"
        reasoning = reasoning[:limit]
        content = content[: limit - len(reasoning)]
        calls = _first_pieces(calls, limit - len(reasoning))
    return Answer(
        number=number,
        created=created,
        model=body["model"],
        choices=whole_number(body, "n") or 1,
        prompt_tokens=prompt_tokens(messages),
        reasoning=reasoning,
        content=content,
        tool_calls=calls,
        finish_reason="" if script.finish_empty else finish_reason,
        usage_asked=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs_asked=body.get("logprobs") is True,
    )


def whole(answer: Answer, script: Script) -> Json:
    """The answer as one `chat.completion` object."""
    body = envelope(answer, script, "chat.completion")
    body["choices"] = [_whole_choice(answer, script, index) for index in range(answer.choices)]
    if script.usage_place != "never":
        body["usage"] = _all_usage(answer, script)
        if script.usage_place == "groq":
            body["x_groq"] = {"id": f"req_{answer.number}", "usage": body["usage"]}
    return body


def frames(answer: Answer, script: Script) -> Iterator[Frame]:
    """The answer as the chunks of a stream, usage where the script has it; without `[DONE]`."""
    place = script.usage_place
    produced = 0

    def frame(kind: Literal["opening", "piece", "closing"], choices: list[Json]) -> Frame:
        body = envelope(answer, script, "chat.completion.chunk")
        body["choices"] = choices
        if place == "every":
            reasoned = min(produced, len(answer.reasoning) * answer.choices)
            body["usage"] = usage(script, answer.prompt_tokens, produced, reasoning_tokens=reasoned)
        elif answer.usage_asked and place != "never":
            body["usage"] = None
        return Frame(kind, body)

    if script.azure_opening:
        opening = frame("opening", [])
        opening.body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
        yield opening
    for number in range(script.openings):
        for index in range(answer.choices):
            delta: Json = {"role": "assistant"} if number == 0 else {}
            yield frame("opening", [_chunk_choice(index, delta | {"content": None if answer.tool_calls else ""})])

    deltas = list(_deltas(answer, script))
    for position, delta in enumerate(deltas):
        for index in range(answer.choices):
            produced += 1
            choice = _chunk_choice(index, _with_call_id(delta, answer, index))
            if answer.logprobs_asked and "content" in delta:
                choice["logprobs"] = _logprobs([delta["content"]])
            piece = frame("piece", [choice])
            if place == "content" and position == len(deltas) - 1:
                choice["finish_reason"] = answer.finish_reason
                if index == answer.choices - 1:
                    piece.body["usage"] = _all_usage(answer, script)
            yield piece

    if place != "content" or not deltas:
        for index in range(answer.choices):
            finish = frame("closing", [_chunk_choice(index, {}, answer.finish_reason)])
            if index == answer.choices - 1:
                _place_usage(finish.body, answer, script)
            yield finish
    if place == "last" or (answer.usage_asked and place in ("asked", "every")):
        last = frame("closing", [])
        last.body["usage"] = _all_usage(answer, script)
        yield last


def usage(script: Script, prompt: int, completion: int, *, reasoning_tokens: int) -> Json:
    """A usage object for these tokens, in the shape and with the numbers that the script wants."""
    if script.usage_zero:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    prompt = prompt if script.prompt_tokens is None else script.prompt_tokens
    completion = completion if script.completion_tokens is None else script.completion_tokens
    cached, place = script.cached_tokens, script.cached_place
    if script.reasoning_outside:
        completion = max(0, completion - reasoning_tokens)
    if cached is not None and place == "read":
        prompt = max(0, prompt - cached)
    total = prompt + completion + (reasoning_tokens if script.reasoning_outside else 0)
    body: Json = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    if script.details_null:
        body |= {"prompt_tokens_details": None, "completion_tokens_details": None}
    else:
        if cached is None or place == "details":
            body["prompt_tokens_details"] = {"cached_tokens": cached or 0, "audio_tokens": 0}
        body["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens, "audio_tokens": 0}
    if cached is not None and place == "top":
        body["cached_tokens"] = cached
    if cached is not None and place == "hit":
        body |= {"prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": max(0, prompt - cached)}
    if cached is not None and place == "read":
        body |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}
    if script.usage_cost:
        body |= {"cost": 0.00042, "estimated_cost": 0.00042}
    return body


def envelope(answer: Answer, script: Script, kind: str) -> Json:
    """The fields that a whole answer and every chunk begin with."""
    body: Json = {"id": f"chatcmpl-sim{answer.number:08d}", "object": kind, "created": answer.created}
    if script.model_named:
        body["model"] = answer.model
    body["system_fingerprint"] = "fp_simulator"
    return body


def byte_tokens(text: str) -> int:
    """UTF-8 bytes / 4, rounded up."""
    return math.ceil(len(text.encode()) / 4)


def whole_number(body: Json, name: str) -> int | None:
    """The field `name` of a request, at least 1, or None where it is absent. Raises BadRequest."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or value < 1):
        raise BadRequest(f"'{name}' must be a whole number of at least 1", code="invalid_value", param=name)
    return value


def _messages(body: Json) -> list[Json]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise BadRequest("'messages' must be a list of messages", code="invalid_value", param="messages")
    return messages


def _text(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _last_text(messages: list[Json], role: str) -> str:
    return next((_text(message) for message in reversed(messages) if message.get("role") == role), "")


def _content(body: Json, messages: list[Json], script: Script) -> list[str]:
    """The pieces of the answer's text, cut at the first stop sequence."""
    pieces: list[str] = _PIECE.findall(_sentence(body, messages))
    if script.pieces is not None:
        pieces = [pieces[index % len(pieces)] for index in range(script.pieces)]
    if script.pad_bytes:
        pieces = [piece + "x" * script.pad_bytes for piece in pieces]
    stops = body.get("stop") or []
    text = "".join(pieces)
    ends = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop and stop in text]
    if not ends:
        return pieces
    left, kept = min(ends), []
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return kept


def _sentence(body: Json, messages: list[Json]) -> str:
    response_format = body.get("response_format") or {}
    asked = _last_text(messages, "user")
    echo = " ".join(asked.split()[:_ECHO_WORDS_MAX])
    if response_format.get("type") == "json_schema":
        schema = (response_format.get("json_schema") or {}).get("schema") or {}
        return msgspec.json.encode(_example(schema, echo)).decode()
    if response_format.get("type") == "json_object":
        return msgspec.json.encode({"answer": echo}).decode()
    if messages[-1].get("role") == "tool":
        return f"The tool says: {_text(messages[-1])}. This answers “{echo}”."
    if _DEVANAGARI.search(asked):
        return f"आपने पूछा: “{echo}”। यह सिम्युलेटर का नमूना उत्तर है; असली उत्तर के लिए किसी प्रदाता की कुंजी जोड़ें।"
    return f"You asked: “{echo}”. This is the simulator's sample answer; add a provider's key for real ones."


def _tool_calls(body: Json, messages: list[Json]) -> list[ToolCall]:
    """The tools to call: those required or named, else those whose name the last user message mentions."""
    functions = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
    choice = body.get("tool_choice") or "auto"
    last = messages[-1]
    if not functions or choice == "none" or last.get("role") != "user":
        return []
    asked = _text(last)
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        called = [function for function in functions if function["name"] == named]
        if not called:
            raise BadRequest("'tool_choice' names no tool", code="invalid_value", param="tool_choice")
    else:
        called = [function for function in functions if _mentions(asked, function["name"])]
        if not called and (choice in ("required", "any") or _mentions(asked, "tool")):
            called = functions[:1]
    if body.get("parallel_tool_calls") is False:
        called = called[:1]
    words = re.findall(r"\w+", asked)
    subject = words[-1] if words else "example"
    return [ToolCall(one["name"], _fragments(_example(one.get("parameters") or {}, subject))) for one in called]


def _mentions(text: str, name: str) -> bool:
    """Whether `text` has the name, or a telling word of it: "weather" for `get_weather`."""
    lowered = text.lower()
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if len(word) >= 4]
    return name.lower() in lowered or any(word in lowered for word in words)


def _example(schema: Json, subject: str) -> Any:
    """A value that fits the JSON schema, with `subject` for texts."""
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kinds = schema.get("type", "object")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "object":
        return {name: _example(part, subject) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_example(schema.get("items") or {"type": "string"}, subject)]
    return {"string": subject, "integer": 1, "number": 1.5, "boolean": True}.get(kind)


def _fragments(arguments: Any) -> list[str]:
    """The arguments as JSON text in pieces of 8 characters, so that no piece is valid alone."""
    text = msgspec.json.encode(arguments).decode()
    return [text[start : start + 8] for start in range(0, len(text), 8)]


def _first_pieces(calls: list[ToolCall], pieces: int) -> list[ToolCall]:
    kept = []
    for call in calls:
        if pieces <= 0:
            break
        kept.append(ToolCall(call.name, call.fragments[: pieces - 1]))
        pieces -= 1 + len(call.fragments)
    return kept


def _all_usage(answer: Answer, script: Script) -> Json:
    reasoned = len(answer.reasoning) * answer.choices
    return usage(script, answer.prompt_tokens, answer.pieces, reasoning_tokens=reasoned)


def _place_usage(finish: Json, answer: Answer, script: Script) -> None:
    """Put usage into the finish chunk where the script has it there."""
    if script.usage_place == "groq":
        finish["x_groq"] = {"id": f"req_{answer.number}", "usage": _all_usage(answer, script)}
    elif script.usage_place == "choice":
        finish["choices"][0]["usage"] = _all_usage(answer, script)
    elif script.usage_place == "content":
        finish["usage"] = _all_usage(answer, script)


def _whole_choice(answer: Answer, script: Script, index: int) -> Json:
    text = "".join(answer.content)
    content: Any = [{"type": "text", "text": text}] if script.content_parts else text
    message: Json = {"role": "assistant", "content": None if answer.tool_calls else content, "refusal": None}
    if answer.reasoning:
        message[script.reasoning_field] = "".join(answer.reasoning)
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": _call_id(answer, index, position),
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.fragments)},
            }
            for position, call in enumerate(answer.tool_calls)
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(answer.content) if answer.logprobs_asked else None,
        "finish_reason": answer.finish_reason,
    }


def _chunk_choice(index: int, delta: Json, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _deltas(answer: Answer, script: Script) -> Iterator[Json]:
    """The deltas of one choice, one a piece."""
    for thought in answer.reasoning:
        yield {script.reasoning_field: thought}
    for text in answer.content:
        yield {"content": [{"type": "text", "text": text}] if script.content_parts else text}
    for position, call in enumerate(answer.tool_calls):
        opening = {"index": position, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [opening]}
        for fragment in call.fragments:
            yield {"tool_calls": [{"index": position, "function": {"arguments": fragment}}]}


def _with_call_id(delta: Json, answer: Answer, index: int) -> Json:
    """The delta for choice `index`: calls of each choice have ids of their own, told in their first delta."""
    calls = delta.get("tool_calls")
    if not calls or "type" not in calls[0]:
        return delta
    return {"tool_calls": [calls[0] | {"id": _call_id(answer, index, calls[0]["index"])}]}


def _call_id(answer: Answer, index: int, position: int) -> str:
    return f"call_sim{answer.number:08d}{index:02d}{position:02d}"


def _logprobs(pieces: list[Any]) -> Json:
    texts = [piece if isinstance(piece, str) else piece[0]["text"] for piece in pieces]
    content = [{"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []} for text in texts]
    return {"content": content, "refusal": None}
