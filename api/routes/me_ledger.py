"""Everything that moved an org's money, to be checked without us."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.times import read_day
from domain.kernel.errors import Invalid
from projections.ledger import ledger_export

router = APIRouter(tags=["Billing"])


@router.get(
    "/me/billing/ledger.jsonl",
    response_class=StreamingResponse,
    responses=documented(*WHO, "invalid_range"),
)
def export_ledger(
    caller: MemberActor,
    app: Services,
    first: Annotated[
        str | None, Query(alias="from", description="First day, `YYYY-MM-DD`; the org's first unless given")
    ] = None,
    last: Annotated[str | None, Query(alias="to", description="Last day, included; today unless given")] = None,
) -> StreamingResponse:
    """Every fact of the org's account, payments, refunds and documents, and the hold and ending of each call: a JSON
    object a line in the order of the log, each with its hash and the path to the sealed header of its block. What the
    lines say, and the script that checks them, is at `/docs/verify-ledger`."""
    first_day = None if first is None else read_day(first, param="from")
    last_day = None if last is None else read_day(last, param="to")
    if first_day is not None and last_day is not None and first_day > last_day:
        raise Invalid("invalid_range", "from must not be after to.", param="from")
    lines = ledger_export(app.reading, caller.org, first_day=first_day, last_day=last_day)
    name = "-".join(filter(None, ["ledger", first, last]))
    headers = {"content-disposition": f'attachment; filename="{name}.jsonl"', "cache-control": "no-store"}
    return StreamingResponse(lines, media_type="application/jsonl", headers=headers)
