"""Whether a document is genuine, for anyone who holds one: the page behind its QR code."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from api.caller import Services, public
from api.errors import documented
from api.schemas.documents import Verified, verified, verified_for_people
from api.web.render import read_only_page, render
from domain.kernel.errors import NotFound
from projections import documents

router = APIRouter(tags=["Documents"], dependencies=[Depends(public)])
HTML: dict[int | str, dict[str, Any]] = {
    200: {"model": Verified, "content": {"text/html": {"schema": {"type": "string"}}}}
}


@router.get("/verify/{number:path}", responses=HTML | documented("not_found", "ledger_unavailable"))
def verify_document(number: str, request: Request, app: Services) -> Response:
    """Whether there is a document of this number, slashes and all, and what it must say: kind, date, total, State, the
    buyer's initials, the SHA-256 of the PDF, and whether it was cancelled. A page for browsers, JSON for programs."""
    with app.reading() as connection:
        row = documents.document(connection, number)
        issued = None if row is None else documents.issued(connection, row["position"])
    document = None if issued is None else app.documents.open(issued)
    for_people = "text/html" in request.headers.get("accept", "")
    nonce = app.entropy(16).hex()
    if row is None or document is None:
        if for_people:
            page = render("verify_unknown.html", number=number, nonce=nonce)
            return read_only_page(page, nonce=nonce, status=404)
        raise NotFound("not_found", "We issued no document of this number; compare it with the paper.", param="number")
    if for_people:
        return read_only_page(render("verify.html", nonce=nonce, **verified_for_people(row, document)), nonce=nonce)
    return JSONResponse(verified(row, document), headers={"vary": "accept"})
