"""Requests as clients send them, and what a wire makes of them."""

from typing import Any

import msgspec

from domain.catalog.model import Provider
from domain.inference.messages import parse
from domain.inference.wires.wire import Wire
from tests.domain.inference.scene import a_route

LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks it up",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def called(*ids: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    calls = [
        {"id": id, "type": "function", "function": {"name": "look_up", "arguments": f'{{"what":"{id}"}}'}, **more}
        for id in ids
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def result(id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def sent(wire: Wire, *, limit: int | None = None, messages: Any = None, **body: Any) -> dict[str, Any]:
    """The body that a provider of this wire would get. Raises Untranslatable."""
    asked = {"model": "org/model", "messages": messages or [user("say it")], **body}
    ask = parse("chat", msgspec.json.encode(asked))
    provider = Provider(id="p", name="P", base_url="https://p.example")
    decoded: dict[str, Any] = msgspec.json.decode(wire.body(ask, a_route("cheap", upstream="theirs"), provider, limit))
    return decoded
