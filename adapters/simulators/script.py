"""The fault language of the provider simulator: short words that say how one answer must go.

A script is words joined by '-', such as `50c-10ms-cut3`. It stands in a model name after the word `sim`
(`sim-50c-10ms-cut3`), in an `x-sim` header, or is set out of band through `POST /script`. `WORDS` is the
whole language; `GET /` of a running simulator prints it.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

UsagePlace = Literal["asked", "last", "content", "every", "groq", "choice", "never"]
CachedPlace = Literal["details", "top", "hit", "read"]
ErrorShape = Literal["openai", "number", "lean", "text"]
Instead = Literal["answer", "hang", "reset", "close", "html", "null", "empty"]
WholeFraming = Literal["length", "chunked", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How one answer goes; the default is a well-behaved provider. The fields are explained by `WORDS`.

    A "piece" is one delta that carries tokens, be it content, reasoning or a fragment of a tool call. What is
    to happen after more pieces than there are happens after the last piece and before the finish.
    """

    pieces: int | None = None
    delay_ms: int = 0
    first_byte_ms: int = 0
    openings: int = 1
    pad_bytes: int = 0
    reasoning_pieces: int = 0
    reasoning_field: str = "reasoning_content"
    reasoning_outside: bool = False

    instead: Instead = "answer"
    error_status: int | None = None
    error_shape: ErrorShape = "openai"
    error_finish: bool = False
    error_frame_after: int | None = None
    error_frame_opened: bool = False
    retry_after_seconds: int = 1
    cut_after: int | None = None
    hang_after: int | None = None
    junk_after: int | None = None

    usage_place: UsagePlace = "asked"
    usage_zero: bool = False
    usage_cost: bool = False
    details_null: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cached_place: CachedPlace = "details"
    written_tokens: int = 0
    written_hour_tokens: int = 0

    stream_bytes: int = 0
    wire_bytes: int = 0
    crlf: bool = False
    nospace: bool = False
    comments: bool = False
    event_fields: bool = False
    bom: bool = False
    done: bool = True
    ignore_stream: bool = False
    framing: WholeFraming = "length"
    stale_connection: bool = False

    model_named: bool = True
    azure_opening: bool = False
    content_parts: bool = False
    content_filter: bool = False
    finish_empty: bool = False


class Word(NamedTuple):
    """One word of the language: its form, where `<n>` is a whole number, what it sets, and its meaning."""

    form: str
    sets: dict[str, Any]
    meaning: str


NUMBER = object()
"""Stands in `Word.sets` for the number written in the word."""

WORDS = (
    Word("<n>c", {"pieces": NUMBER}, "the answer has n pieces"),
    Word("<n>ms", {"delay_ms": NUMBER}, "n ms between pieces; before a whole answer"),
    Word("<n>ttft", {"first_byte_ms": NUMBER}, "n ms before the first byte of any answer"),
    Word("role<n>", {"openings": NUMBER}, "n content-free opening chunks instead of one"),
    Word("pad<n>", {"pad_bytes": NUMBER}, "n extra bytes of text in every piece"),
    Word("reason<n>", {"reasoning_pieces": NUMBER}, "n pieces of reasoning_content first, counted as reasoning"),
    Word("reasonalias", {"reasoning_field": "reasoning"}, "reasoning text in `reasoning` (vLLM, Ollama)"),
    Word("reasonoutside", {"reasoning_outside": True}, "reasoning not inside completion_tokens (xAI)"),
    Word("hang", {"instead": "hang"}, "accept the request and never answer"),
    Word("reset", {"instead": "reset"}, "reset the connection (TCP RST) before any answer"),
    Word("close", {"instead": "close"}, "close the connection (TCP FIN) before any answer"),
    Word("notjson", {"instead": "html"}, "200 with an HTML page"),
    Word("null", {"instead": "null"}, "200 with the body `null`"),
    Word("empty", {"instead": "empty"}, "200 with no body, or a stream without a frame"),
    Word("err<n>", {"error_status": NUMBER}, "that status with an error body; 429 with retry-after; err200 too"),
    Word("retryafter<n>", {"retry_after_seconds": NUMBER}, "retry-after of 429 and 503 in seconds, default 1"),
    Word("errnumber", {"error_shape": "number"}, "error.code is a number (OpenRouter)"),
    Word("errlean", {"error_shape": "lean"}, "the error object has nothing but a message"),
    Word("errtext", {"error_shape": "text"}, "`error` is a plain string beside error_type (TGI)"),
    Word(
        "errframe<n>",
        {"error_frame_after": NUMBER},
        "error frame in the 200 stream after n pieces; 0: first of all",
    ),
    Word(
        "erropened",
        {"error_frame_after": 0, "error_frame_opened": True},
        "error frame after the opening chunks and before any piece",
    ),
    Word(
        "errfinish",
        {"error_finish": True},
        "the error frame is a chunk with finish_reason error (OpenRouter)",
    ),
    Word("cut<n>", {"cut_after": NUMBER}, "close after n pieces; a whole answer stops half way"),
    Word("hangafter<n>", {"hang_after": NUMBER}, "silence after n pieces; a whole answer stops half way"),
    Word("junk<n>", {"junk_after": NUMBER}, "a frame that is not JSON after n pieces; the stream goes on"),
    Word("nousage", {"usage_place": "never"}, "never any usage"),
    Word("usagelast", {"usage_place": "last"}, "usage in a last chunk of choices [], asked for or not"),
    Word(
        "usagecontent",
        {"usage_place": "content"},
        "usage in the last content chunk, with the finish (Mistral)",
    ),
    Word("usageevery", {"usage_place": "every"}, "cumulative usage in every chunk (vLLM)"),
    Word("usagegroq", {"usage_place": "groq"}, "usage in x_groq.usage of the finish chunk (Groq)"),
    Word("usagechoice", {"usage_place": "choice"}, "usage in choices[0].usage of the finish chunk (Moonshot)"),
    Word("zerousage", {"usage_zero": True}, "usage of explicit zeros"),
    Word("withcost", {"usage_cost": True}, "the provider's own cost beside the tokens"),
    Word("nulldetails", {"details_null": True}, "both details of usage are null"),
    Word("in<n>", {"prompt_tokens": NUMBER}, "report n prompt tokens"),
    Word("out<n>", {"completion_tokens": NUMBER}, "report n completion tokens"),
    Word(
        "cached<n>",
        {"cached_tokens": NUMBER, "cached_place": "details"},
        "prompt_tokens_details.cached_tokens",
    ),
    Word("cachedtop<n>", {"cached_tokens": NUMBER, "cached_place": "top"}, "top-level cached_tokens (Moonshot)"),
    Word("cachedhit<n>", {"cached_tokens": NUMBER, "cached_place": "hit"}, "prompt_cache_hit_tokens (DeepSeek)"),
    Word(
        "cachedread<n>",
        {"cached_tokens": NUMBER, "cached_place": "read"},
        "cache_read_input_tokens, not inside prompt_tokens (Anthropic)",
    ),
    Word("written<n>", {"written_tokens": NUMBER}, "n tokens written to the cache for minutes (Anthropic, Bedrock)"),
    Word("writtenhour<n>", {"written_hour_tokens": NUMBER}, "n tokens written to the cache for an hour"),
    Word("split<n>", {"stream_bytes": NUMBER}, "the stream in HTTP chunks of n bytes"),
    Word("wire<n>", {"wire_bytes": NUMBER}, "all bytes, headers too, in writes of n bytes 1 ms apart"),
    Word("crlf", {"crlf": True}, "lines of the stream end in CRLF"),
    Word("nospace", {"nospace": True}, "`data:{` without the space"),
    Word("comments", {"comments": True}, "`: keep-alive` lines and blank lines between frames"),
    Word("fields", {"event_fields": True}, "event and id lines in every frame"),
    Word("bom", {"bom": True}, "a UTF-8 byte order mark first"),
    Word("nodone", {"done": False}, "no [DONE]"),
    Word("nostream", {"ignore_stream": True}, "a whole answer though a stream was asked for"),
    Word("chunked", {"framing": "chunked"}, "a whole answer without Content-Length, chunked"),
    Word("untilclose", {"framing": "close"}, "a whole answer that ends where the connection closes"),
    Word(
        "stale",
        {"stale_connection": True},
        "keep the connection alive, but close it when its next request comes",
    ),
    Word("nomodel", {"model_named": False}, "no `model` in the answer"),
    Word("azure", {"azure_opening": True}, "first chunk of choices [] with prompt_filter_results (Azure)"),
    Word("parts", {"content_parts": True}, "content is a list of parts (Mistral)"),
    Word("filter", {"content_filter": True}, "finish_reason content_filter"),
    Word("emptyfinish", {"finish_empty": True}, "finish_reason is an empty string (xAI)"),
)

_MARKER = "sim"
_BY_FORM = {word.form: word for word in WORDS}
_NUMBER = re.compile(r"\d+")


def parse(text: str) -> Script:
    """The script that `text` spells; of two words for the same thing the later counts. Raises ValueError."""
    settings: dict[str, Any] = {}
    for written in text.split("-"):
        if not written:
            continue
        number = _NUMBER.search(written)
        form = _NUMBER.sub("<n>", written) if number else written
        word = _BY_FORM.get(form)
        if word is None:
            raise ValueError(f"'{written}' is no word of the simulator's script language; GET / lists them")
        for field, value in word.sets.items():
            settings[field] = int(number[0]) if value is NUMBER and number else value
    if settings.get("error_status") not in (None, 200, *range(400, 600)):
        raise ValueError("err<n> takes 200 or a status from 400 to 599")
    return Script(**settings)


def in_model_name(model: str) -> str:
    """The script written in a model name after the word `sim`; empty where there is none."""
    words = re.split("[-/:]", model)
    return "-".join(words[words.index(_MARKER) + 1 :]) if _MARKER in words else ""


def language() -> str:
    """All words with their meanings, one a line."""
    return "".join(f"{word.form:14} {word.meaning}\n" for word in WORDS)
