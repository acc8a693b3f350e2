"""The inference routes as OpenAPI has them. They are answered by api/fast_http.py before any framework sees them, so
they are described here and not by a route."""

from typing import Any

from api.errors import documented

INFERENCE_ERRORS = (
    "invalid_request",
    "no_route",
    "invalid_api_key",
    "forbidden_scope",
    "insufficient_credits",
    "max_cost_exceeded",
    "model_not_found",
    "idempotency_conflict",
    "payload_too_large",
    "rate_limit_exceeded",
    "daily_limit_reached",
    "budget_exceeded",
    "all_routes_failed",
    "overloaded",
    "ledger_unavailable",
    "internal_error",
)
_EXTENSIONS: dict[str, Any] = {
    "optimize": {
        "type": "string",
        "enum": ["price", "latency", "uptime", "throughput", "auto"],
        "default": "price",
        "description": "How eligible routes are ranked",
    },
    "provider": {"type": "string", "description": "Exactly this provider, or `no_route`"},
    "data_policy": {"type": "string", "enum": ["india_only"], "description": "Only routes resident in India"},
    "open_weights": {"type": "boolean", "description": "Only open-weight models"},
    "permissive": {"type": "boolean", "description": "Only permissively licensed models"},
    "fallbacks": {
        "type": "array",
        "maxItems": 10,
        "description": "What to try after the model, in order",
        "items": {
            "type": "object",
            "required": ["model"],
            "properties": {"model": {"type": "string"}, "provider": {"type": "string"}},
        },
    },
    "max_cost_inr": {
        "type": ["number", "string"],
        "description": "Refuse if the call can cost more; a running stream is ended at it",
    },
}
_HEADERS: dict[str, Any] = {
    name: {"schema": {"type": "string"}, "description": meaning}
    for name, meaning in {
        "x-br-request-id": "For `GET /v1/requests/{id}`; also as `x-request-id`",
        "x-br-provider": "Who served",
        "x-br-model": "The model that served",
        "x-br-latency-ms": "Until the provider's first byte",
        "x-br-cost-inr": "What was debited; on whole replies",
    }.items()
}


def _object(properties: dict[str, Any], *, required: list[str], example: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": True,
        "example": example,
    }


_USAGE = {
    "type": "object",
    "properties": {
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
        "cost_inr": {"type": "string", "description": "What was debited, exact"},
        "estimated": {"type": "boolean", "description": "Counted by the gateway, as the provider told nothing"},
    },
}
_CHAT_EXAMPLE = {
    "model": "sarvam-105b",
    "messages": [{"role": "user", "content": "Namaste!"}],
    "max_tokens": 100,
    "data_policy": "india_only",
}
SCHEMAS: dict[str, Any] = {
    "Usage": _USAGE,
    "ChatRequest": _object(
        {
            "model": {"type": "string"},
            "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "stream": {"type": "boolean", "default": False},
            **_EXTENSIONS,
        },
        required=["model", "messages"],
        example=_CHAT_EXAMPLE,
    ),
    "ChatReply": _object(
        {
            "id": {"type": "string"},
            "object": {"type": "string"},
            "created": {"type": "integer"},
            "model": {"type": "string", "description": "The model of the catalog that served"},
            "choices": {"type": "array", "items": {"type": "object"}},
            "usage": {"$ref": "#/components/schemas/Usage"},
        },
        required=["id", "object", "created", "model", "choices", "usage"],
        example={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1795400000,
            "model": "sarvam-105b",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Namaste!"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost_inr": "0.00048312"},
        },
    ),
    "EmbeddingsRequest": _object(
        {
            "model": {"type": "string"},
            "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]},
            "encoding_format": {"type": "string", "enum": ["float", "base64"]},
            "dimensions": {"type": "integer"},
            **_EXTENSIONS,
        },
        required=["model", "input"],
        example={"model": "bge-m3", "input": "Namaste!"},
    ),
    "EmbeddingsReply": _object(
        {
            "object": {"type": "string"},
            "model": {"type": "string"},
            "data": {"type": "array", "items": {"type": "object"}},
            "usage": {"$ref": "#/components/schemas/Usage"},
        },
        required=["object", "model", "data", "usage"],
        example={
            "object": "list",
            "model": "bge-m3",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.01, -0.02]}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3, "cost_inr": "0.000003"},
        },
    ),
    "Quote": {"type": "object", "description": "Per eligible route what the call is expected to cost, and at most"},
}


def _operation(summary: str, *, request: str, reply: str, description: str, streams: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{reply}"}}}
    if streams:
        content["text/event-stream"] = {
            "schema": {"type": "string"},
            "example": 'data: {"choices":[{"index":0,"delta":{"content":"Namaste!"}}]}\n\ndata: [DONE]\n\n',
        }
    return {
        "post": {
            "tags": ["Inference"],
            "summary": summary,
            "description": description,
            "operationId": summary.lower().replace(" ", "_"),
            "security": [{"bearer": []}, {"apiKey": []}],
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "schema": {"type": "string"},
                    "description": "A repeat of the same call within 24 hours is not made, or charged, again",
                }
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}},
            },
            "responses": {
                "200": {"description": "Served", "headers": _HEADERS, "content": content},
                **{str(status): reply for status, reply in documented(*INFERENCE_ERRORS).items()},
            },
        }
    }


PATHS: dict[str, Any] = {
    "/v1/chat/completions": _operation(
        "Chat completion",
        request="ChatRequest",
        reply="ChatReply",
        streams=True,
        description="OpenAI's wire, whole or streamed. Fields that are not listed go to the provider as they are. Every"
        " stream ends with a chunk that has `usage`, then `[DONE]`.",
    ),
    "/v1/embeddings": _operation(
        "Embeddings",
        request="EmbeddingsRequest",
        reply="EmbeddingsReply",
        description="OpenAI's wire. Billed on input tokens.",
    ),
    "/v1/quote": _operation(
        "Quote",
        request="ChatRequest",
        reply="Quote",
        description="What a chat call would cost and hold, per eligible route. Nothing is called or held.",
    ),
}
