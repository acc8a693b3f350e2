"""What pages of another origin may do: call everything with a key, and read what SDKs look at."""

EXPOSED = (
    "x-br-request-id, x-request-id, x-br-provider, x-br-model, x-br-latency-ms, x-br-cost-inr,"
    " x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, retry-after,"
    " retry-after-ms, x-should-retry"
)

CORS = [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED.encode())]
"""On every reply. No credentials: a key is sent by whoever holds it, never by the browser on its own."""
