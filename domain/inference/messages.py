"""Requests as clients send them: what the gateway reads, what it takes away, what it passes on untouched.

A body is taken apart at its top level only. Every value the gateway does not own is forwarded as the client's own
bytes, unknown fields included; fields of ours never reach a provider.
"""

import hashlib
import re
from typing import Any, Literal, NoReturn

import msgspec
from pydantic import SecretStr

from domain.byo.own import check_key
from domain.catalog.model import Modality
from domain.inference.metering import TOKENS_MAX
from domain.kernel.errors import Invalid
from domain.kernel.money import parse_inr
from domain.ledger.sizing import estimate_input_tokens, least_input_tokens
from domain.routing.needs import Needs, Optimize, Step

Endpoint = Literal["chat", "embeddings"]

FALLBACKS_MAX = 10
UPSTREAM_KEY = "upstream_key"
OURS = frozenset(
    {
        "optimize",
        "provider",
        "data_policy",
        "open_weights",
        "permissive",
        "fallbacks",
        "upstream_key",
        "sangam",
        "max_cost_inr",
    }
)
NOT_OFFERED = {
    "sangam": "Consensus panels are not offered here yet. Leave out 'sangam'.",
}

NAME_CHARACTERS_MAX = 200

# Values of fields that ask for nothing: a wire that has no such field says as much by leaving it out.
_IDLE: dict[str, frozenset[bytes]] = {
    "n": frozenset({b"1"}),
    "logprobs": frozenset({b"false"}),
    "frequency_penalty": frozenset({b"0", b"0.0"}),
    "presence_penalty": frozenset({b"0", b"0.0"}),
    "parallel_tool_calls": frozenset({b"true"}),
    "store": frozenset({b"false"}),
    "tools": frozenset({b"[]"}),
    "stop": frozenset({b"[]"}),
    "logit_bias": frozenset({b"{}"}),
    "modalities": frozenset({b'["text"]'}),
    "service_tier": frozenset({b'"auto"', b'"default"'}),
}
# What may stand inside messages that not every wire can say, by the mark it leaves in their bytes.
_KINDS = {
    b'"image_url"': "messages:image",
    b'"input_audio"': "messages:audio",
    b'"video_url"': "messages:video",
    b'"file"': "messages:file",
}
_LINKED_IMAGE = re.compile(rb'"image_url"\s*:\s*(?:\{[^{}]*?"url"\s*:\s*)?"(?!data:)')
_RESPONSE_FORMAT = re.compile(rb'"type"\s*:\s*"(json_object|json_schema|text)"')

# Fields that surely are part of the prompt; a provider may know others, so all bytes count towards the upper bound.
_PROMPT_FIELDS = frozenset({"messages", "input", "tools", "functions", "response_format", "prediction"})
_INLINE_MEDIA = re.compile(rb'"(?:data:[a-z]+/[^"]{1,100};base64,)?[A-Za-z0-9+/=\\]{512,}"')
_LINKED_MEDIA = re.compile(rb'"(?:url|image_url|video_url|audio_url|file_url|file_id)"\s*:\s*"(?!data:)')
_BLOB = re.compile(r"(?:data:[^,]{1,200},)?[A-Za-z0-9+/=]{512,}")


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    provider: str | None = None


class _Fields(msgspec.Struct, frozen=True):
    """What the gateway reads of a body. Everything else is the provider's business."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    service_tier: str | None = None
    optimize: Optimize | None = None
    provider: str | None = None
    data_policy: Literal["india_only"] | None = None
    open_weights: bool | None = None
    permissive: bool | None = None
    fallbacks: list[Fallback] | None = None
    upstream_key: str | None = None


class Ask(msgspec.Struct, frozen=True):
    """A request that has been understood. `members` are the provider's fields, each as the client's own bytes.

    `output_tokens` is the client's own limit for each of the `choices`, None where it set none; `max_cost` is in
    nano-rupees; `upstream_key` is a key of the caller's own, for this call alone.
    """

    endpoint: Endpoint
    model: str
    members: dict[str, msgspec.Raw]
    needs: Needs
    streamed: bool = False
    output_tokens: int | None = None
    choices: int = 1
    max_cost: int | None = None
    constraints: tuple[str, ...] = ()
    body_digest: str = ""
    upstream_key: SecretStr | None = None

    def rare(self) -> frozenset[str]:
        """The classes of usage beyond plain tokens that this request can cause. Few prices have rates for them, so they
        are looked for only where one does."""
        found: frozenset[str] = frozenset()
        if any(b'"cache_control"' in bytes(self.members.get(name, b"")) for name in ("messages", "tools")):
            found |= {"cache_write_hour"}
        if "messages:audio" in self.needs.fields:
            found |= {"audio_input", "cached_audio_input"}
        if "audio" in self.members or "modalities" in self.members:
            found |= {"audio_output"}
        return found


_fields = msgspec.json.Decoder(_Fields)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode  # what is Raw goes out byte for byte


def parse(endpoint: Endpoint, body: bytes) -> Ask:
    """Raises Invalid `invalid_request` naming the field at fault, or `unsupported_parameter`."""
    try:
        body.decode()  # msgspec passes over strings that it need not read, be they UTF-8 or not
        fields = _fields.decode(body)
        members = _members.decode(body)
    except msgspec.ValidationError as error:
        _refuse_field(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("invalid_request", f"The body is not valid JSON: {error}.") from None
    _require_names(fields)
    prompt = "messages" if endpoint == "chat" else "input"
    if bytes(members.get(prompt, b"null")) == b"null":
        raise Invalid("invalid_request", f"'{prompt}' is required.", param=prompt)
    for name in NOT_OFFERED.keys() & members.keys():
        raise Invalid("unsupported_parameter", NOT_OFFERED[name], param=name)
    choices = 1 if fields.n is None else fields.n
    limit = _output_limit(fields)
    if choices < 1 or choices > 128:
        raise Invalid("invalid_request", "'n' must be between 1 and 128.", param="n")
    passed_on = {name: value for name, value in members.items() if name not in OURS}
    messages = bytes(passed_on.get("messages", b""))
    media = b"base64," in messages or b'_url"' in messages or b'"input_audio"' in messages or b'"file"' in messages
    most, least = _bound_input_tokens(passed_on, messages if media else b"")
    return Ask(
        endpoint=endpoint,
        model=fields.model,
        members=passed_on,
        needs=_needs(fields, endpoint, passed_on, messages if media else b"", most=most, least=least),
        streamed=bool(fields.stream) and endpoint == "chat",
        output_tokens=limit,
        choices=choices,
        max_cost=_max_cost(members.get("max_cost_inr")),
        constraints=_constraints(fields),
        upstream_key=None if fields.upstream_key is None else _given_key(fields.upstream_key),
    )


def _bound_input_tokens(members: dict[str, msgspec.Raw], pictured: bytes) -> tuple[int, int]:
    """An upper and a lower bound on the prompt's tokens, from its bytes. Media counts by the piece; `pictured` are the
    messages if there may be any in them."""
    total = prompt = media = media_bytes = 0
    for name, raw in members.items():
        total += len(raw)
        if name not in _PROMPT_FIELDS:
            continue
        prompt += len(raw)
        if name == "messages" and pictured:
            inline = [found.end() - found.start() for found in _INLINE_MEDIA.finditer(pictured)]
            media_bytes += sum(inline)
            media += len(inline) + len(_LINKED_MEDIA.findall(pictured))
        elif name == "input" and b'"' not in bytes(raw):
            total += 3 * bytes(raw).count(b",")  # token numbers: a comma behind each but the last
    most = estimate_input_tokens(total, images=media, image_bytes=media_bytes)
    return most, least_input_tokens(prompt, image_bytes=media_bytes)


def prompt_text(ask: Ask) -> str:
    """The words of the prompt, for counting: every string in messages, tools and input, without inline media."""
    said: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            if not _BLOB.fullmatch(value):
                said.append(value)
        elif isinstance(value, dict):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    for name in sorted(_PROMPT_FIELDS & ask.members.keys()):
        try:
            collect(msgspec.json.decode(ask.members[name]))
        except (msgspec.DecodeError, RecursionError):  # passed on unread, so it must not break the settlement now
            said.append(bytes(ask.members[name]).decode())
    return "\n".join(said)


def token_numbers(ask: Ask) -> int:
    """How many tokens an embeddings request brings as numbers instead of text."""
    given = bytes(ask.members.get("input", b""))
    return 0 if b'"' in given else len(re.findall(rb"\d+", given))


def payload(
    ask: Ask,
    *,
    upstream: str,
    output_limit_field: str,
    output_tokens: int | None,
    stream_usage: bool,
) -> bytes:
    """The body for one provider: its own name for the model, the output limit of the hold where one is needed
    (tokens for each choice), and usage asked for in streams."""
    members: dict[str, Any] = {**ask.members, "model": upstream}
    if output_tokens is not None:
        given: list[str] = [name for name in ("max_completion_tokens", "max_tokens") if name in members]
        for name in given or [output_limit_field]:
            members[name] = output_tokens
    if ask.streamed and stream_usage:
        members["stream_options"] = _with_usage(ask.members.get("stream_options"))
    elif ask.streamed:
        members.pop("stream_options", None)
    return _encode(members)


def _with_usage(options: msgspec.Raw | None) -> dict[str, Any]:
    given = {} if options is None or bytes(options) == b"null" else _members.decode(options)
    return {**given, "include_usage": True}


def _needs(
    fields: _Fields,
    endpoint: Endpoint,
    members: dict[str, msgspec.Raw],
    pictured: bytes,
    *,
    most: int,
    least: int,
) -> Needs:
    fallbacks = fields.fallbacks or []
    if len(fallbacks) > FALLBACKS_MAX:
        raise Invalid("invalid_request", f"'fallbacks' takes at most {FALLBACKS_MAX} steps.", param="fallbacks")
    primary = Step(model=fields.model, provider=fields.provider)
    steps = (primary, *[Step(model=step.model, provider=step.provider) for step in fallbacks])
    modality: Modality = "chat" if endpoint == "chat" else "embedding"
    return Needs(
        steps=steps,
        may_chain=fields.fallbacks is None and fields.provider is None and fields.upstream_key is None,
        modality=modality,
        optimize=fields.optimize or "price",
        india_only=fields.data_policy == "india_only",
        open_weights=bool(fields.open_weights),
        permissive=bool(fields.permissive),
        input_tokens=most,
        input_tokens_least=least,
        fields=frozenset(members) if not (pictured or "response_format" in members) else _told(members, pictured),
        idle=frozenset([name for name, value in members.items() if len(value) <= 9 and _is_idle(name, bytes(value))]),
        service_tier="" if fields.service_tier in (None, "auto", "default") else fields.service_tier,
    )


def _is_idle(name: str, value: bytes) -> bool:
    return value == b"null" or value in _IDLE.get(name, ())


def _told(members: dict[str, msgspec.Raw], pictured: bytes) -> frozenset[str]:
    """The fields, and what stands inside them that not every wire can say, as `field:what`."""
    found = set(members)
    if "response_format" in members:
        named = _RESPONSE_FORMAT.search(bytes(members["response_format"]))
        found.add(f"response_format:{named[1].decode()}" if named else "response_format:other")
    found.update([kind for mark, kind in _KINDS.items() if mark in pictured])
    if "messages:image" in found and _LINKED_IMAGE.search(pictured):
        found.add("messages:image_link")
    return frozenset(found)


def _require_names(fields: _Fields) -> None:
    """Names go into the record and into messages, so they must be short and printable."""
    names = [("model", fields.model), ("provider", fields.provider)]
    for index, step in enumerate(fields.fallbacks or ()):
        names += [(f"fallbacks[{index}].model", step.model), (f"fallbacks[{index}].provider", step.provider)]
    for param, name in names:
        if name is not None and not (0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable()):
            raise Invalid(
                "invalid_request", f"'{param}' must be 1 to {NAME_CHARACTERS_MAX} printable characters.", param=param
            )


def _output_limit(fields: _Fields) -> int | None:
    """The smaller of the two limits that OpenAI's wire knows, None where neither is set."""
    limits = [limit for limit in (fields.max_completion_tokens, fields.max_tokens) if limit is not None]
    if not limits:
        return None
    if min(limits) < 1:
        raise Invalid("invalid_request", "The output limit must be at least 1 token.", param="max_tokens")
    return min(*limits, TOKENS_MAX)  # keeps every amount within what the ledger can store


def _max_cost(raw: msgspec.Raw | None) -> int | None:
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        nanos = parse_inr(bytes(raw).decode().strip('"'))
        if nanos <= 0:
            raise ValueError
    except (ValueError, ArithmeticError):
        raise Invalid(
            "invalid_request",
            "'max_cost_inr' must be a positive number of rupees with at most nine decimals.",
            param="max_cost_inr",
        ) from None
    return nanos


def _constraints(fields: _Fields) -> tuple[str, ...]:
    """What bound the routing, for the record."""
    bound = []
    if fields.data_policy:
        bound.append(f"data_policy:{fields.data_policy}")
    if fields.open_weights:
        bound.append("open_weights")
    if fields.permissive:
        bound.append("permissive")
    if fields.provider:
        bound.append(f"provider:{fields.provider}")
    if fields.optimize:
        bound.append(f"optimize:{fields.optimize}")
    if fields.upstream_key is not None:
        bound.append(UPSTREAM_KEY)
    return tuple(bound)


def _given_key(key: str) -> SecretStr:
    """Wrapped, so that nothing shows it that shows a request."""
    return SecretStr(check_key(key, param=UPSTREAM_KEY))


def body_digest(body: bytes) -> str:
    """What two bodies have in common that ask for the same. A key of the caller's own is no part of it: not even its
    hash may be kept."""
    members = _members.decode(body)
    if UPSTREAM_KEY in members:
        body = msgspec.json.encode({name: value for name, value in members.items() if name != UPSTREAM_KEY})
    return hashlib.sha256(body).hexdigest()[:32]


def _refuse_field(error: msgspec.ValidationError) -> NoReturn:
    text = str(error)
    found = re.search(r"at `\$\.?([^`]*)`", text) or re.search(r"field `([^`]*)`", text)
    name: Any = found.group(1) if found else None
    raise Invalid("invalid_request", f"The request is not as it should be: {text}.", param=name or None) from None
