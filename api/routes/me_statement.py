"""An org's month as a file to keep."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.statement import statement_csv
from domain.kernel.clock import ist_month
from domain.kernel.errors import NotFound, Unavailable
from domain.ledger.statement import read_month, show_month
from projections.balances import statement_of

router = APIRouter(tags=["Billing"])

PDF = "application/pdf"


@router.get(
    "/me/billing/statement",
    response_class=Response,
    responses={
        200: {"description": "The statement", "content": {"text/csv": {}, PDF: {}}},
        **documented(*WHO, "invalid_range", "invalid_request", "pdf_unavailable", "overloaded"),
    },
)
def show_statement(
    caller: MemberActor,
    app: Services,
    request: Request,
    month: Annotated[str | None, Query(description="`YYYY-MM` of India's calendar; this month unless given")] = None,
    format: Annotated[
        Literal["csv", "pdf"] | None, Query(description="`csv` unless given or `Accept` asks for a PDF")
    ] = None,
) -> Response:
    """A month of India's calendar (this one so far): opening balance, each money event, each day's calls, closing
    balance. Amounts are exact, and the rows add up to the nano-rupee."""
    now = app.clock()
    wanted = ist_month(now) if month is None else read_month(month)
    as_pdf = format == "pdf" or (format is None and PDF in request.headers.get("accept", ""))
    with app.reading() as connection:
        try:
            statement = statement_of(connection, caller.org, month=wanted, now=now)
        except NotFound:  # the caller is a member of it, so the read models have yet to hear of it
            raise Unavailable("ledger_unavailable", "This org is quite new; try again.", retry_after=1) from None
    body = app.statement_pdf(statement) if as_pdf else statement_csv(statement).encode()
    name = f"statement-{show_month(wanted)}.{'pdf' if as_pdf else 'csv'}"
    return Response(
        body,
        media_type=PDF if as_pdf else "text/csv",
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "private, no-store",
            "vary": "accept",
        },
    )
