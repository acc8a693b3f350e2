"""An org's receipts and other legal documents: their list, their PDFs as they were issued, and the same as pages."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from adapters.wiring import App
from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.documents import DocumentList, document_row
from api.web.render import read_only_page
from domain.kernel.errors import Invalid, NotFound, Unavailable
from domain.payments.papers import file_name
from projections import documents

router = APIRouter(tags=["Billing"])
RETRY_SECONDS = 5

PDF: dict[int | str, dict[str, Any]] = {
    200: {"description": "The PDF", "content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "`if-none-match` names the PDF that the caller has"},
}
PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
}
Number = Annotated[str | None, Query(description="Another document of the payment, such as that of a refund")]


@router.get("/me/billing/receipts", response_model=DocumentList, responses=documented(*WHO, "invalid_request"))
def list_receipts(
    caller: MemberActor,
    app: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """All documents of the org, newest first: receipts, invoices, those of refunds. `ready` once the PDF is made."""
    with app.reading() as connection:
        rows = documents.documents_of(
            connection, caller.org, before=None if before is None else _position(before), limit=limit + 1
        )
    page = rows[:limit]
    return {
        "object": "list",
        "data": [document_row(row) for row in page],
        "next_before": str(page[-1]["position"]) if len(rows) > limit else None,
    }


@router.get(
    "/me/billing/receipts/{payment_id}.html", response_class=Response, responses=PAGE | documented(*WHO, "not_found")
)
def show_receipt(payment_id: str, caller: MemberActor, app: Services, document: Number = None) -> Response:
    """The document of a payment as a page for browsers. It is there before the PDF is."""
    return _page(app, _of_payment(app, caller.org, payment_id, document))


@router.get(
    "/me/billing/receipts/{payment_id}",
    response_class=Response,
    responses=PDF | documented(*WHO, "not_found", "receipt_not_ready"),
)
def download_receipt(
    payment_id: str, request: Request, caller: MemberActor, app: Services, document: Number = None
) -> Response:
    """The document of a payment as a signed PDF, the same bytes each time. `etag` is its SHA-256."""
    return _download(app, _of_payment(app, caller.org, payment_id, document), request)


@router.get(
    "/me/billing/documents/{number:path}.html", response_class=Response, responses=PAGE | documented(*WHO, "not_found")
)
def show_document(number: str, caller: MemberActor, app: Services) -> Response:
    """Any document of the org by its number, slashes and all, as a page for browsers."""
    return _page(app, _of_org(app, caller.org, number))


@router.get(
    "/me/billing/documents/{number:path}",
    response_class=Response,
    responses=PDF | documented(*WHO, "not_found", "receipt_not_ready"),
)
def download_document(number: str, request: Request, caller: MemberActor, app: Services) -> Response:
    """Any document of the org by its number, slashes and all, as a signed PDF."""
    return _download(app, _of_org(app, caller.org, number), request)


def _of_payment(app: App, org: str, payment: str, number: str | None) -> dict[str, Any]:
    """The document by which the payment was receipted, or that of it which has the number. Raises NotFound."""
    with app.reading() as connection:
        row = (
            documents.document_of_payment(connection, payment)
            if number is None
            else documents.document(connection, number)
        )
    if row is None or row["org"] != org or row["payment"] != payment:
        raise NotFound("not_found", f"Your org has no such document of payment '{payment}'.", param="payment_id")
    return row


def _of_org(app: App, org: str, number: str) -> dict[str, Any]:
    with app.reading() as connection:
        row = documents.document(connection, number)
    if row is None or row["org"] != org:
        raise NotFound("not_found", f"Your org has no document '{number}'.", param="number")
    return row


def _download(app: App, row: dict[str, Any], request: Request) -> Response:
    """Raises Unavailable `receipt_not_ready` until the PDF is made and on record."""
    if row["sha256"] is None:
        line = app.documents.missing()
        raise Unavailable(
            "receipt_not_ready",
            "The PDF is being made; try again in a few seconds, or add .html to the address for a page."
            if line is None
            else f"The PDF cannot be made on this server yet, and will be once its operator types: {line}",
            retry_after=RETRY_SECONDS,
        )
    headers = {
        "etag": f'"{row["sha256"]}"',
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-disposition": f'attachment; filename="BharatRouter-{file_name(row["number"])}.pdf"',
    }
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kept = app.documents.kept(row["number"])
    if kept is None or kept.sha256 != row["sha256"]:
        raise RuntimeError(f"the PDF of {row['number']} is not the one on record; run `bharatrouter verify`")
    return Response(kept.pdf, headers=headers, media_type="application/pdf")


def _page(app: App, row: dict[str, Any]) -> Response:
    with app.reading() as connection:
        issued = documents.issued(connection, row["position"])
    document = app.documents.open(issued)
    if document is None:
        raise NotFound("not_found", f"The facts of document '{row['number']}' are erased.", param="number")
    nonce = app.entropy(16).hex()
    now = msgspec.structs.replace(document, cancelled=row["cancelled_at"] is not None)
    return read_only_page(app.documents.html(now, nonce=nonce), nonce=nonce)


def _position(before: str) -> int:
    if not before.isascii() or not before.isdigit() or len(before) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(before)
