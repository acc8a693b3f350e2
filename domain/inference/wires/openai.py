"""OpenAI's wire: the client's own bytes go out, the provider's come back. Azure speaks it too, on paths of its own."""

from domain.catalog.model import Provider, Route
from domain.inference.messages import Ask, payload
from domain.inference.sse import Frames
from domain.inference.wires.wire import Wire


def _body(ask: Ask, route: Route, provider: Provider, output_tokens: int | None) -> bytes:
    return payload(
        ask,
        upstream=route.upstream,
        output_limit_field=provider.output_limit_field,
        output_tokens=output_tokens,
        stream_usage=provider.usage.stream == "last_chunk",
    )


def _whole(body: bytes, id: str, created: int) -> bytes:
    return body


OPENAI = Wire(
    paths={
        "chat": "/chat/completions",
        "stream": "/chat/completions",
        "embeddings": "/embeddings",
        "models": "/models",
    },
    takes=None,
    body=_body,
    whole=_whole,
    frames=Frames,
)
