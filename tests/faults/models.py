"""The models that the faults are tried on. A name after `sim-` is a script of `adapters/simulators/script.py`."""

BRISK_PIECES, SLOW_PIECES = 6, 4

BRISK = f"sim-{BRISK_PIECES}c-50ms"
"""A whole answer after 50 ms, a stream of about 300."""

STEADY = "sim-8c-80ms"
"""A stream of 600 ms."""

SLOW = f"sim-{SLOW_PIECES}c-600ms"
"""A whole answer after 600 ms, a stream of 1.8 s."""

LATE = "sim-8c-1500ttft"
"""Nothing for 1.5 s."""

LONG = "sim-90c-50ms"
"""A stream of 4.5 s, far longer than a gateway reads on for a client that has left."""

ENDLESS = "sim-2000c-50ms"

BROKEN_BEFORE_CONTENT = (
    "sim-reset",
    "sim-close",
    "sim-hang",
    "sim-err500",
    "sim-err503",
    "sim-err429",
    "sim-err401",
    "sim-null",
    "sim-empty",
    "sim-notjson",
    "sim-6c-errframe0",
    "sim-6c-erropened",
    "sim-6c-cut0",
    "sim-6c-hangafter0",
)
BROKEN_AFTER_CONTENT = (
    "sim-6c-20ms-cut1",
    "sim-6c-20ms-cut3",
    "sim-6c-20ms-cut6",
    "sim-6c-20ms-cut3-wire7",
    "sim-6c-20ms-hangafter1",
    "sim-6c-20ms-hangafter6",
    "sim-6c-20ms-errframe2",
    "sim-6c-20ms-errframe6-errfinish",
    "sim-6c-20ms-junk3",
)
MODELS = (BRISK, STEADY, SLOW, LATE, LONG, ENDLESS, *BROKEN_BEFORE_CONTENT, *BROKEN_AFTER_CONTENT)
