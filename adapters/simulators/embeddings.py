"""Embeddings of the provider simulator: unit vectors that depend on nothing but the input."""

import base64
import hashlib
import math
import struct
from typing import Any

import msgspec

from adapters.simulators.answers import BadRequest, Json, byte_tokens, whole_number
from adapters.simulators.script import Script

DIMENSIONS = 1536
DIMENSIONS_MAX = 8192
INPUTS_MAX = 2048


def embeddings(body: Json, script: Script) -> Json:
    """The body that answers the embeddings request `body`. Raises BadRequest."""
    if body.get("input") in (None, "", []):
        raise BadRequest("'input' must not be empty", code="missing_required_parameter", param="input")
    inputs = _inputs(body["input"])
    if len(inputs) > INPUTS_MAX:
        raise BadRequest("'input' has too many items", code="invalid_value", param="input")
    dimensions = whole_number(body, "dimensions") or DIMENSIONS
    if dimensions > DIMENSIONS_MAX:
        raise BadRequest("'dimensions' is too large", code="invalid_value", param="dimensions")
    as_base64 = body.get("encoding_format") == "base64"
    answer: Json = {"object": "list", "data": []}
    for index, one in enumerate(inputs):
        packed = _vector(one, dimensions)
        vector = base64.b64encode(packed).decode() if as_base64 else struct.unpack(f"<{dimensions}f", packed)
        answer["data"].append({"object": "embedding", "index": index, "embedding": vector})
    if script.model_named:
        answer["model"] = body["model"]
    if script.usage_place != "never":
        tokens = 0 if script.usage_zero else script.prompt_tokens
        tokens = embedding_tokens(body["input"]) if tokens is None else tokens
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer


def embedding_tokens(value: str | list[str] | list[int] | list[list[int]]) -> int:
    """Tokens of an `input`: of a text its UTF-8 bytes / 4 rounded up, of a token array its length."""
    return sum(byte_tokens(one) if isinstance(one, str) else len(one) for one in _inputs(value))


def _inputs(value: Any) -> list[str | list[int]]:
    """An embedding's `input` as a list of texts or token arrays."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(one, int) for one in value):
            return [value]
        if all(isinstance(one, str) and one for one in value):
            return value
        if all(isinstance(one, list) and one and all(isinstance(t, int) for t in one) for one in value):
            return value
    raise BadRequest("'input' must be text, tokens or a list of them", code="invalid_value", param="input")


def _vector(one: str | list[int], dimensions: int) -> bytes:
    """A unit vector as little-endian float32; a shorter one has the direction of a longer one's beginning."""
    source = one.encode() if isinstance(one, str) else b"\0" + msgspec.json.encode(one)
    values = struct.unpack(f"<{dimensions}h", hashlib.shake_256(source).digest(2 * dimensions))
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))
