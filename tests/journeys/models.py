"""The models of the journeys' catalog, and what the simulator says that a call to one of them uses.

A name after `sim-` is a script of `adapters/simulators/script.py`.
"""

from tests.product import INPUT_NANOS, OUTPUT_NANOS

PROMPT_TOKENS = 8
"""Of `chat_body`, by the simulator's rule: 4 for the message, and its 14 bytes / 4, rounded up."""

PIECES = 3
WELL_TOLD = tuple(
    f"sim-{PIECES}c-{words}"
    for words in (
        "split1",
        "split2",
        "split3",
        "split7",
        "split16",
        "split61",
        "wire1",
        "crlf",
        "crlf-split1",
        "nospace",
        "comments",
        "comments-crlf-split5",
        "fields",
        "bom",
        "bom-split1",
        "usagelast",
        "usagecontent",
        "usageevery",
        "usagegroq",
        "usagechoice",
        "usageevery-split1",
        "usagegroq-crlf-split3",
        "usagechoice-split2",
        "role0",
        "role3",
        "azure",
        "nodone",
        "nomodel",
        "withcost",
        "nulldetails",
        "emptyfinish",
        "filter",
        "cached5",
        "cachedtop5",
        "cachedhit5",
        "cachedread5",
        "pad40",
    )
)
"""Answers of three pieces in every form that a provider may send, each with its usage told."""

UNTOLD = (f"sim-{PIECES}c-nousage", f"sim-{PIECES}c-nousage-nodone", f"sim-{PIECES}c-nousage-split1")
"""The same without usage, which the gateway then counts."""

REASONING = ("sim-3c-reason2", "sim-3c-reason2-reasonalias", "sim-3c-reason2-reasonoutside")

BROKEN_EARLY = (
    "sim-reset",
    "sim-close",
    "sim-notjson",
    "sim-null",
    "sim-empty",
    "sim-nostream",
    "sim-errframe0",
    "sim-erropened",
    "sim-erropened-errfinish",
    "sim-cut0",
    "sim-junk0",
    "sim-err200",
    "sim-err500",
    "sim-err503",
    "sim-err429",
    "sim-err401",
    "sim-err404",
    "sim-err500-errtext",
    "sim-err500-errnumber",
    "sim-err500-errlean",
)
"""Providers that fail before any content, as does their twin: an error without a stream."""

BROKEN_LATE = (
    "sim-3c-cut1",
    "sim-3c-cut2-split1",
    "sim-3c-cut9",
    "sim-3c-errframe1",
    "sim-3c-errframe2-crlf",
    "sim-3c-errframe2-errtext",
    "sim-3c-errframe2-errfinish",
    "sim-3c-errframe1-nodone",
    "sim-3c-junk1",
)
"""Providers that fail after content: the stream ends with one error, and nothing is paid."""

SILENT_EARLY, SILENT_LATE = ("sim-hang", "sim-9000ttft"), ("sim-3c-hangafter1", "sim-3c-hangafter2-crlf")

REFUSED = ("sim-err400", "sim-err413", "sim-err422")
"""Providers that say that the request itself is wrong."""

EXACT_EMBEDDING, EXACT_CHAT, EXACT_TOKENS = "embedding-sim-in60", "sim-in60-1c", 60
"""Their reported usage is what was held, where the request is padded to 60 input tokens (`exact_body`)."""

MODELS = (
    *WELL_TOLD,
    *UNTOLD,
    *REASONING,
    *BROKEN_EARLY,
    *BROKEN_LATE,
    *SILENT_EARLY,
    *SILENT_LATE,
    *REFUSED,
    EXACT_EMBEDDING,
    EXACT_CHAT,
    "acme/steady-v1",
    "popular",
    "popular-too",
    "rare",
    "sim-3c-300ms",
    "sim-3c-pad100",
)


def cost_nanos(prompt_tokens: int, completion_tokens: int) -> int:
    """What `sim-india`, the cheaper of the two providers, costs."""
    return prompt_tokens * INPUT_NANOS + completion_tokens * OUTPUT_NANOS
