"""The OpenAPI document: what FastAPI knows of its routes, and beside them the inference routes, which it never sees."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.caller import demands
from api.schemas.inference import PATHS, SCHEMAS
from api.session import COOKIE, CSRF_HEADER

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What to do next"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string", "description": "Never changes its meaning"},
            },
        }
    },
}
SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "public": [{}, {"bearer": []}],
    **{which: [{"bearer": []}, {"apiKey": []}] for which in ("key", "standard_key")},
    "person": [{"session": []}],
    **{who: [{"session": []}, {"bearer": []}, {"apiKey": []}] for who in ("signed_in", "member", "admin", "owner")},
    "operator": [{"operator": []}],
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    document = get_openapi(
        title="BharatRouter",
        version=app.version,
        description="One OpenAI-compatible API, prepaid and billed in rupees. Every amount that is shown is an exact"
        " decimal string in rupees; every error has the same envelope, and its `code` is the contract.",
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for (method, path), demand in demands(app).items():
        operation = document["paths"].get(path.replace(":path}", "}"), {}).get(method.lower())
        if operation is not None:
            operation["security"] = SECURITY[demand]
            operation["responses"].pop("422", None)  # what cannot be read is answered 400, in our envelope
            _complete_examples(operation)
    document["paths"] = PATHS | document["paths"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas |= SCHEMAS | {"Error": ERROR}
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "`br-…`"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-br-api-key"},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": f"__Host-{COOKIE}",
            "description": f"and {CSRF_HEADER} on changes",
        },
        "operator": {"type": "http", "scheme": "bearer", "description": "BR_OPERATOR_TOKEN"},
    }
    return document


def _complete_examples(operation: dict[str, Any]) -> None:
    """Puts back the nulls that FastAPI leaves out of what it describes: the envelope has all four fields, always."""
    for reply in operation["responses"].values():
        for example in reply.get("content", {}).get("application/json", {}).get("examples", {}).values():
            error = example["value"]["error"]
            example["value"] = {"error": {name: error.get(name) for name in ("message", "type", "param", "code")}}
