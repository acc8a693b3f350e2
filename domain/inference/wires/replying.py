"""Replies in OpenAI's shapes, for the wires that have others: a whole answer, and the chunks of a stream."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.inference.replies import Unusable
from domain.inference.sse import BOM

Json = dict[str, Any]


def decoded(data: bytes) -> Json:
    """A JSON object. Raises Unusable for anything else."""
    try:
        data.decode()
        value = msgspec.json.decode(data.removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable("The provider's answer is not a JSON object of the expected shape.") from error
    if not isinstance(value, dict):
        raise Unusable("The provider's answer is not a JSON object of the expected shape.")
    return value


def whole_answer(
    *,
    id: str,
    created: int,
    text: str | None,
    reasoning: str,
    calls: list[Json],
    finish: str,
    usage: Mapping[str, Any] | None,
) -> bytes:
    """One `chat.completion` with one choice. Its model is named by whoever sends it on."""
    message: Json = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    answer: Json = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": "",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    if usage is not None:
        answer["usage"] = usage
    return msgspec.json.encode(answer)


def a_call(id: str, name: str, arguments: Any) -> Json:
    """A tool call of a whole answer; arguments that are not text yet become it."""
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def delta(said: Json, finish: str | None = None) -> Json:
    """A chunk with one choice. Identity, time and model are given to it where it is sent on."""
    return {"choices": [{"index": 0, "delta": said, "logprobs": None, "finish_reason": finish}]}


def call_opening(index: int, id: str, name: str, arguments: str = "") -> Json:
    """The chunk that opens the tool call number `index`."""
    call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return delta({"tool_calls": [call]})


def call_arguments(index: int, fragment: str) -> Json:
    return delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})


def usage_chunk(usage: Mapping[str, Any]) -> Json:
    """The last chunk: no choices, and the report."""
    return {"choices": [], "usage": usage}
