"""Objections to what a request cost."""

from fastapi import APIRouter

from api.caller import WHO, AdminActor, Services
from api.errors import documented
from api.schemas.disputes import DisputeRow, NewDispute, dispute_row
from domain.ledger.dispute import dispute_request

router = APIRouter(tags=["Requests"])


@router.post(
    "/me/requests/{id}/dispute",
    response_model=DisputeRow,
    responses=documented(*WHO, "invalid_request", "not_found", "request_open"),
)
def dispute(id: str, wanted: NewDispute, caller: AdminActor, app: Services) -> object:
    """Objects to what an ended request cost. Where its record says who pays, the decision is in the reply, and credit
    that comes back is there at once; else an operator looks. A second objection is answered as the first."""
    found = dispute_request(
        app.store,
        org=caller.org,
        request=id,
        reason=app.vault.seal(caller.org, wanted.reason),
        at=app.clock(),
        by=caller.by,
    )
    return dispute_row(id, found)
