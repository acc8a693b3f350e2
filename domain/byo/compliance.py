"""What an endpoint must do to be called as one of OpenAI's wire, and what a provider's answers say of a key: judged
from replies, whoever asked for them. Nothing of a reply is repeated in a verdict, since what answers may be anything.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from domain.byo.own import usable_models
from domain.inference.sse import DONE, Frames, FrameTooLong

SECONDS_MAX = 30
BAD_MODEL = "no-such-model-of-bharatrouter"
"""A name that no deployment has."""

CheckName = Literal["chat", "stream", "bad_model", "time"]


class Check(msgspec.Struct, frozen=True):
    """One demand; `detail` says what was missing, or what was there."""

    name: CheckName
    passed: bool = msgspec.field(name="pass")
    detail: str


class Compliance(msgspec.Struct, frozen=True, kw_only=True):
    """`latency_ms` is how long the whole chat took, 0 where there was none."""

    checks: tuple[Check, ...]
    latency_ms: int

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def chat_body(model: str, *, tokens: int = 1, streamed: bool = False) -> bytes:
    """A chat as small as can be."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say yes."}],
        "max_tokens": tokens,
    }
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


def judge_chat(status: int, body: bytes) -> Check:
    """A whole chat: 200, choices with a message, and how many tokens it took."""
    if status != 200:
        return Check("chat", False, f"HTTP {status} in place of 200. {_hint(status)}".rstrip())
    reply = _object(body)
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(_in(choices[0], "message"), dict):
        return Check("chat", False, "The reply has no `choices` with a `message`.")
    used = _in(reply, "usage")
    if not all(type(_in(used, name)) is int for name in ("prompt_tokens", "completion_tokens")):
        return Check("chat", False, "The reply has no `usage` with `prompt_tokens` and `completion_tokens`.")
    return Check("chat", True, "A whole answer with `choices` and `usage`.")


def judge_stream(status: int, content_type: str, body: bytes) -> Check:
    """A streamed chat: server-sent events, a delta among them, and `[DONE]` as the last."""
    if status != 200:
        return Check("stream", False, f"HTTP {status} in place of 200. {_hint(status)}".rstrip())
    if not content_type.lower().startswith("text/event-stream"):
        return Check("stream", False, "The reply is no `text/event-stream`; `stream: true` must give one.")
    reader = Frames()
    try:
        frames = [*reader.feed(body), *reader.end()]
    except FrameTooLong:
        return Check("stream", False, "A frame of the stream is longer than any answer's.")
    chunks = [_object(frame) for frame in frames if frame != DONE]
    deltas = [
        choice for chunk in chunks for choice in _list(chunk.get("choices")) if isinstance(_in(choice, "delta"), dict)
    ]
    if not deltas:
        return Check("stream", False, "No frame of the stream has `choices` with a `delta`.")
    if not frames or frames[-1] != DONE:
        return Check("stream", False, "The stream does not end with `data: [DONE]`.")
    return Check("stream", True, "Server-sent events with deltas, ended by `[DONE]`.")


def judge_bad_model(status: int, body: bytes) -> Check:
    """A model that is not there must be refused, as a fault of the caller."""
    if not 400 <= status < 500:
        return Check("bad_model", False, f"A model that does not exist got HTTP {status} in place of a 4xx.")
    if not _object(body):
        return Check(
            "bad_model", False, f"The refusal (HTTP {status}) of a model that does not exist is no JSON object."
        )
    return Check("bad_model", True, f"A model that does not exist is refused with HTTP {status} and JSON.")


def judge_time(milliseconds: int) -> Check:
    seconds = milliseconds / 1000
    passed = milliseconds < SECONDS_MAX * 1000
    return Check("time", passed, f"All of it took {seconds:.1f} s; {SECONDS_MAX} s are allowed.")


# Keys for providers


Verdict = Literal["good", "refused", "unsure"]


class KeyCheck(msgspec.Struct, frozen=True):
    """What a provider made of a key: it took it, refused it, or did not say. `models` are those that it lists."""

    verdict: Verdict
    models: tuple[str, ...] = ()


UNSURE = KeyCheck("unsure")


def judge_list(status: int, body: bytes) -> KeyCheck | None:
    """What the answer to a call for the provider's models says of the key; None where a chat has to tell, since not
    every provider has such a list, and not every good key may read it."""
    if status == 200:
        return KeyCheck("good", usable_models(_ids(body)))
    if status == 401:
        return KeyCheck("refused")
    return None if 400 <= status < 500 and status != 429 else UNSURE


def judge_key_by_chat(status: int) -> KeyCheck:
    """What the answer to a small chat says of the key."""
    if status == 200:
        return KeyCheck("good")
    return KeyCheck("refused") if status in (401, 403) else UNSURE


def _ids(body: bytes) -> Sequence[str]:
    """The ids of a list of models: OpenAI's `data`, Google's and Cohere's `models`, or an array alone."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    rows = found if isinstance(found, list) else _list(_in(found, "data")) or _list(_in(found, "models"))
    ids = [_in(row, "id") or _in(row, "name") for row in rows]
    return [id.removeprefix("models/") for id in ids if isinstance(id, str)]


def _hint(status: int) -> str:
    if status in (401, 403):
        return "The endpoint does not take the key."
    if status == 404:
        return "Paths are put behind `base_url`, which mostly ends in /v1."
    return "Redirects are not followed." if 300 <= status < 400 else ""


def _object(data: bytes) -> dict[str, Any]:
    """The JSON object, empty where it is none."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
