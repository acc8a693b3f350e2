"""A chat request taken apart once, for the wires that are not OpenAI's: turns, tools and limits as plain data.

Whatever has no common meaning is refused here as Untranslatable, never dropped in silence. Turns of one role that
follow each other are joined: most wires want the roles to alternate.
"""

import re
from typing import Any, Literal

import msgspec

from domain.inference.messages import Ask
from domain.inference.wires.wire import Untranslatable

# Fields that every wire can say, and fields that change nothing in the answer and are left behind.
SAID_EVERYWHERE = frozenset(
    {"model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens"}
    | {"stop", "tools", "tool_choice", "response_format", "response_format:text"}
)
LEFT_BEHIND = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})

NO_AUDIO = "audio, which this provider does not take"

_DATA_URL = re.compile(r"data:([a-z]+/[A-Za-z0-9.+-]+);base64,(.*)", re.DOTALL)


class Text(msgspec.Struct, frozen=True):
    """`cache` is the client's mark that the prompt up to here should be cached, as it stood."""

    text: str
    cache: dict[str, Any] | None = None


class Image(msgspec.Struct, frozen=True):
    """Embedded as base64 `data` of a media type, or linked by `url`."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    cache: dict[str, Any] | None = None


class Audio(msgspec.Struct, frozen=True):
    """Embedded as base64 `data`; `format` is `wav` or `mp3`."""

    format: str
    data: str


class Call(msgspec.Struct, frozen=True):
    """A tool call of the model. `signature` is what Google's models want back unchanged."""

    id: str
    name: str
    arguments: dict[str, Any]
    signature: str = ""


class Result(msgspec.Struct, frozen=True):
    """What a tool answered to the call `id` of the tool `name`."""

    id: str
    name: str
    text: str
    cache: dict[str, Any] | None = None


Part = Text | Image | Audio | Call | Result


class Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    parts: list[Part]


class Tool(msgspec.Struct, frozen=True):
    name: str
    description: str
    parameters: dict[str, Any]
    cache: dict[str, Any] | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """`tool_choice` is `auto`, `none`, `required`, or the name of a tool after a colon, as `:look_up`. `schema` is the
    JSON schema that the answer must fit, `json` whether it must be JSON at all."""

    system: list[Text]
    turns: list[Turn]
    tools: list[Tool]
    tool_choice: str
    parallel: bool
    stop: list[str]
    temperature: Any
    top_p: Any
    json: bool
    schema: dict[str, Any] | None


def conversation_of(ask: Ask) -> Conversation:
    """Raises Untranslatable."""
    said = {name: _decoded(name, value) for name, value in ask.members.items() if name not in LEFT_BEHIND}
    try:
        format = said.get("response_format") or {}
        stop = said.get("stop") or []
        system, turns = _turns(said["messages"])
        return Conversation(
            system=system,
            turns=turns,
            tools=[_tool(tool) for tool in said.get("tools") or []],
            tool_choice=_tool_choice(said.get("tool_choice")),
            parallel=said.get("parallel_tool_calls") is not False,
            stop=[stop] if isinstance(stop, str) else list(stop),
            temperature=said.get("temperature"),
            top_p=said.get("top_p"),
            json=format.get("type") in ("json_object", "json_schema"),
            schema=format["json_schema"]["schema"] if format.get("type") == "json_schema" else None,
        )
    except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as odd:
        raise Untranslatable("a field of another shape than OpenAI's") from odd


def at_most_one(number: Any) -> Any:
    """A temperature for wires that end at 1, where OpenAI's goes on to 2."""
    return 1 if isinstance(number, int | float) and number > 1 else number


def _decoded(name: str, value: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as odd:
        raise Untranslatable(f"a '{name}' that cannot be read") from odd


def _turns(messages: list[dict[str, Any]]) -> tuple[list[Text], list[Turn]]:
    system: list[Text] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            system += _texts(message["content"])
            continue
        if role == "user":
            parts = _parts(message["content"])
        elif role == "assistant":
            calls = [_call(call) for call in message.get("tool_calls") or []]
            names.update({call.id: call.name for call in calls})
            parts = [*_texts(message.get("content")), *calls]
        elif role == "tool":
            id = message["tool_call_id"]
            told = _texts(message["content"])
            cache = next((text.cache for text in told if text.cache), None)
            parts = [Result(id, names.get(id, id), "".join(text.text for text in told), cache)]
        else:
            raise Untranslatable(f"a message of the role '{role}'")
        speaker: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
        if turns and turns[-1].role == speaker:
            turns[-1].parts.extend(parts)
        elif parts:
            turns.append(Turn(speaker, parts))
    return system, turns


def _texts(content: Any) -> list[Text]:
    """The texts of a message that can have nothing else; empty ones, which most wires refuse, are left out."""
    parts = _parts(content)
    if not all(isinstance(part, Text) for part in parts):
        raise Untranslatable("media in a message that is not the user's")
    return [part for part in parts if isinstance(part, Text)]


def _parts(content: Any) -> list[Part]:
    if content is None or isinstance(content, str):
        return [Text(content)] if content else []
    parts: list[Part] = []
    for part in content:
        kind, cache = part["type"], part.get("cache_control")
        if kind == "text":
            if part["text"]:
                parts.append(Text(part["text"], cache))
        elif kind == "refusal":
            parts.append(Text(part["refusal"]))
        elif kind == "image_url":
            parts.append(_image(part["image_url"], cache))
        elif kind == "input_audio":
            parts.append(Audio(part["input_audio"]["format"], part["input_audio"]["data"]))
        else:
            raise Untranslatable(f"a part of the type '{kind}'")
    return parts


def _image(given: Any, cache: dict[str, Any] | None) -> Image:
    url = given if isinstance(given, str) else given["url"]
    embedded = _DATA_URL.fullmatch(url)
    if embedded:
        return Image(media_type=embedded[1], data=embedded[2], cache=cache)
    if not url.startswith(("http://", "https://")):
        raise Untranslatable("an image that is neither embedded as base64 nor linked")
    return Image(url=url, cache=cache)


def _call(call: dict[str, Any]) -> Call:
    function = call["function"]
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as odd:
        raise Untranslatable("a tool call whose arguments are not a JSON object") from odd
    google = (call.get("extra_content") or {}).get("google") or {}
    return Call(call["id"], function["name"], arguments, google.get("thought_signature") or "")


def _tool(tool: dict[str, Any]) -> Tool:
    if tool.get("type", "function") != "function":
        raise Untranslatable(f"a tool of the type '{tool['type']}'")
    function = tool["function"]
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    cache = tool.get("cache_control") or function.get("cache_control")
    return Tool(function["name"], function.get("description") or "", parameters, cache)


def _tool_choice(choice: Any) -> str:
    if choice is None:
        return "auto"
    if choice in ("auto", "none", "required"):
        return str(choice)
    if isinstance(choice, dict) and choice.get("type") == "function":
        return ":" + str(choice["function"]["name"])
    raise Untranslatable("a tool_choice of a kind that only OpenAI knows")
