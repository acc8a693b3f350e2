"""Identifiers: a prefix that says what it is, the time in milliseconds, and 64 random bits.

They sort by time, which keeps the indexes of the log narrow and warm. The caller brings the time and the randomness,
so that nothing here depends on either.
"""


def make_id(prefix: str, *, at: int, entropy: bytes) -> str:
    """`req_0199f2c41d7a…`: `at` in microseconds since 1970, `entropy` of 8 bytes."""
    return f"{prefix}_{at // 1000:012x}{entropy.hex()}"
