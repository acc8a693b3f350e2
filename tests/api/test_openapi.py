"""The description of the API: every route is in it, with what it demands, an example and its error codes."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from adapters.settings import Settings
from adapters.wiring import App, build
from api import errors
from api.access import ROUTES
from api.app import build as build_web
from api.caller import demands
from api.schemas.document import describe
from domain.kernel import errors as refusals
from domain.kernel.errors import Invalid, Refusal, TooMany


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> App:
    """Never connected: the description needs no database."""
    home: Path = tmp_path_factory.mktemp("home")
    return build(Settings(home=home), database_url="postgresql://nowhere", pepper=b"p")


@pytest.fixture(scope="module")
def document(services: App) -> dict[str, Any]:
    return describe(build_web(services))


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, item in document["paths"].items() for method, each in item.items()]


def test_every_route_that_the_product_promises_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    described = {f"{method.upper()} {path}" for method, path, _ in operations(document)}
    ours_alone = {"POST /webhooks/razorpay"}
    assert described == {route.replace(":path}", "}") for route in ROUTES} - ours_alone


def test_every_operation_says_what_it_does_and_demands(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert operation["description"], path
        assert operation["security"], path
        unasked = operation["responses"].get("422", {"description": "compliance_failed"})  # FastAPI adds one of its own
        assert "compliance_failed" in unasked["description"], path
        if path.startswith("/me/"):
            assert {"401", "403"} <= set(operation["responses"]), path
        assert method != "patch" or "requestBody" in operation, path
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            assert "example" in document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]], path


def test_every_reference_leads_somewhere_and_examples_have_the_envelope(document: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].rsplit("/", 1)[1] in document["components"]["schemas"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    for _, path, operation in operations(document):
        for status, reply in operation["responses"].items():
            for code, example in reply.get("content", {}).get("application/json", {}).get("examples", {}).items():
                error = example["value"]["error"]
                assert set(error) == {"message", "type", "param", "code"}
                assert (error["code"], str(errors.status_and_type(code)[0])) == (code, status), path


def test_a_route_that_demands_nothing_keeps_the_product_from_starting() -> None:
    router = APIRouter()

    @router.get("/open")
    def forgotten() -> str:
        return "anybody"

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.extend(router.routes)
    with pytest.raises(RuntimeError, match="/open must demand exactly one"):
        demands(app)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/aside", httpx.WSGITransport)  # whatever it is, it is no route of ours
    with pytest.raises(RuntimeError):
        demands(app)


def test_every_family_of_refusals_has_a_status_and_an_envelope() -> None:
    families = [
        family
        for family in vars(refusals).values()
        if isinstance(family, type) and issubclass(family, Refusal) and family is not Refusal
    ]
    assert set(errors.TABLE) == set(families)
    seen = {errors.status_of(family("a_code", "Do this.")) for family in families}
    assert seen == {400, 401, 402, 403, 404, 409, 413, 422, 429, 502, 503}
    body = errors.error_body(Invalid("no_route", 'Say "so".', param="model"))
    assert body == (
        b'{"error":{"message":"Say \\"so\\".","type":"invalid_request_error","param":"model","code":"no_route"}}'
    )
    assert errors.retry_header(TooMany("c", "m", retry_after=3)) == b"retry-after: 3\r\n"
    assert errors.retry_header(TooMany("c", "m")) == b""
