"""What an org's keys did: in sums, and request by request."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.activity import Activity, ActivityEvents, activity_event, all_sums, sums
from api.schemas.times import read_range, show_day
from domain.kernel.clock import DAY, IST_OFFSET
from domain.kernel.errors import Invalid
from projections.activity import ROWS_MAX, activity_events
from projections.usage import activity_summary

router = APIRouter(tags=["Usage"])
WITHIN = (*WHO, "invalid_range")

FirstDay = Annotated[str | None, Query(alias="from", description="First day, `YYYY-MM-DD`; 30 days unless given")]
LastDay = Annotated[str | None, Query(alias="to", description="Last day, included; today unless given")]


@router.get("/me/activity", response_model=Activity, responses=documented(*WITHIN))
def show_activity(
    caller: MemberActor,
    app: Services,
    first: FirstDay = None,
    last: LastDay = None,
    model: str | None = None,
    key_id: str | None = None,
    workspace_id: str | None = None,
) -> object:
    """Sums of at most 366 days of India's calendar: by day, model, key and provider, with the lists to filter by."""
    from_day, to_day = read_range(first, last, now=app.clock())
    with app.reading() as connection:
        found = activity_summary(
            connection,
            caller.org,
            first_day=from_day,
            last_day=to_day,
            model=model,
            key=key_id,
            workspace=workspace_id,
        )
    return {
        "range": {"from": show_day(from_day), "to": show_day(to_day)},
        "totals": sums(found["totals"]),
        **{name: all_sums(found[name]) for name in ("days", "top_models", "top_keys", "model_providers")},
        "filters": found["filters"],
    }


@router.get(
    "/me/activity/events",
    response_model=ActivityEvents,
    response_model_exclude_unset=True,
    responses=documented(*WITHIN, "invalid_request"),
)
def list_activity_events(
    caller: MemberActor,
    app: Services,
    first: FirstDay = None,
    last: LastDay = None,
    model: str | None = None,
    key_id: str | None = None,
    workspace_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=ROWS_MAX)] = 50,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
) -> object:
    """Requests that ended or were refused, newest first."""
    from_day, to_day = read_range(first, last, now=app.clock())
    with app.reading() as connection:
        rows = activity_events(
            connection,
            caller.org,
            start=from_day * DAY - IST_OFFSET,
            end=(to_day + 1) * DAY - IST_OFFSET,
            limit=limit,
            before=None if before is None else _place(before),
            model=model,
            key=key_id,
            workspace=workspace_id,
        )
    return {
        "events": [activity_event(row) for row in rows],
        "next_before": f"{rows[-1]['at']}-{rows[-1]['id']}" if len(rows) == limit else None,
    }


def _place(before: str) -> tuple[int, int]:
    at, _, id = before.partition("-")
    if not (before.isascii() and at.isdigit() and id.isdigit()) or max(len(at), len(id)) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(at), int(id)
