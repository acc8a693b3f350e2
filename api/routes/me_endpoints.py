"""An org's own endpoints: OpenAI-compatible deployments that its calls and chains can name, free of charge."""

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented, error_body, status_of
from api.schemas.byo import (
    AddedEndpoint,
    EndpointList,
    EndpointToTest,
    NewEndpoint,
    RemovedEndpoint,
    TestedEndpoint,
    compliance_report,
    endpoint_row,
)
from domain.byo.compliance import Compliance
from domain.byo.own import (
    NOTHING_OWN,
    EndpointTerms,
    Own,
    add_endpoint,
    check_base_url,
    check_terms,
    host_of,
    mask_of,
    remove_endpoint,
    require_room,
)
from domain.kernel.errors import Unprocessable

router = APIRouter(prefix="/me/endpoints", tags=["Own keys and endpoints"])


@router.get("", response_model=EndpointList, responses=documented(*WHO))
async def list_endpoints(caller: MemberActor, app: Services) -> object:
    """The org's endpoints, oldest first; of their keys only the last signs are shown."""
    return {"object": "list", "data": [endpoint_row(endpoint) for endpoint in _own(app, caller.org).endpoints.values()]}


@router.post(
    "",
    status_code=201,
    response_model=AddedEndpoint,
    responses=documented(
        *WHO, "invalid_request", "address_refused", "endpoint_limit", "compliance_failed", "overloaded"
    ),
)
def create_endpoint(wanted: NewEndpoint, caller: AdminActor, app: Services) -> object:
    """Tests the endpoint, which takes up to 30 seconds, and saves it if it passes: a whole chat with usage, a stream
    that ends with `[DONE]`, and a refusal of a model that does not exist. At once, requests and chains can name it by
    its `provider_ref`. Calls of it cost nothing here.

    Only addresses of the open internet are called, by https, unless the operator allows others.
    """
    terms = check_terms(
        EndpointTerms(
            name=wanted.name,
            model=wanted.model,
            base_url=app.egress.check_url(wanted.base_url, param="base_url"),
            upstream=wanted.upstream_model,
            residency=wanted.residency,
        )
    )
    key = wanted.secret
    require_room(_own(app, caller.org))
    report = app.own_checks.check_endpoint(terms.base_url, terms.upstream, key)
    if not report.passed:
        return _not_compliant(report)
    id = app.new_id("end")
    add_endpoint(
        app.store,
        org=caller.org,
        endpoint=id,
        terms=terms,
        sealed=app.vault.seal(caller.org, key, bound_to=host_of(terms.base_url)) if key else "",
        mask=mask_of(key) if key else "",
        at=app.clock(),
        by=caller.by,
    )
    app.directory.catch_up()
    saved = _own(app, caller.org).endpoint(id)
    return {"ok": True, "endpoint": endpoint_row(saved), "compliance": compliance_report(report)}


@router.post(
    "/test",
    response_model=TestedEndpoint,
    responses=documented(*WHO, "invalid_request", "address_refused", "overloaded"),
)
def test_endpoint(wanted: EndpointToTest, caller: AdminActor, app: Services) -> object:
    """The same test, and nothing is saved."""
    base_url = check_base_url(app.egress.check_url(wanted.base_url, param="base_url"))
    report = app.own_checks.check_endpoint(base_url, wanted.upstream_model, wanted.secret)
    return {"ok": report.passed, "compliance": compliance_report(report)}


@router.delete("/{id}", response_model=RemovedEndpoint, responses=documented(*WHO, "not_found"))
def delete_endpoint(id: str, caller: AdminActor, app: Services) -> object:
    """Forgets the endpoint, within a second on every gateway; steps that name it are skipped from then on."""
    remove_endpoint(app.store, org=caller.org, endpoint=id, at=app.clock(), by=caller.by)
    app.directory.catch_up()
    return {"id": id, "deleted": True}


def _not_compliant(report: Compliance) -> Response:
    """The error, and the whole report beside it."""
    wrong = " ".join(f"{check.name}: {check.detail}" for check in report.checks if not check.passed)
    refusal = Unprocessable("compliance_failed", f"The endpoint was not saved. {wrong}")
    error = msgspec.json.decode(error_body(refusal))
    return JSONResponse(error | {"ok": False, "compliance": compliance_report(report)}, status_of(refusal))


def _own(app: App, org: str) -> Own:
    return app.directory.directory.own(org) or NOTHING_OWN
