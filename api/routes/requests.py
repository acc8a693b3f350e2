"""The story of one request."""

from fastapi import APIRouter

from api.caller import KeyCaller, Services
from api.errors import documented
from api.schemas.request import RequestRecord, request_record
from domain.kernel.errors import NotFound
from projections.requests import request_story

router = APIRouter(tags=["Requests"])


@router.get(
    "/v1/requests/{id}",
    response_model=RequestRecord,
    responses=documented("invalid_api_key", "not_found", "ledger_unavailable"),
)
def show_request(id: str, caller: KeyCaller, app: Services) -> object:
    """What was held, the routes considered and tried, the usage by class, the price version, the sum to the nano-rupee,
    the debit, and the events of the log that say so. Any key of the org may ask."""
    with app.reading() as connection:
        story = request_story(connection, caller.org, id)
    if not story:
        raise NotFound("not_found", f"Your org has no request '{id}'.", param="id")
    return request_record(id, story)
