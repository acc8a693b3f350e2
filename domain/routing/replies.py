"""What a provider's answer means for the next attempt."""

_RETRIED_ELSEWHERE = frozenset({401, 402, 403, 404, 408, 425, 429})


def should_fail_over(status: int) -> bool:
    """Whether another route should be tried after this HTTP status.

    401 to 404 speak of our key, balance or name for the model, not of the caller's request. Any other 4xx is about the
    request and would fail elsewhere too. Under 400 is no answer of this wire at all: redirects are not followed.
    """
    return status < 400 or status >= 500 or status in _RETRIED_ELSEWHERE


def counts_against(end: str, status: int) -> bool:
    """Whether an attempt that was not served, and ended so, speaks against its route: it was called, and it was not the
    request that was at fault."""
    return end != "parameters" and (end != "status" or should_fail_over(status))
