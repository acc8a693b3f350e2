"""Which models are used most, platform-wide and without names."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from api.caller import Services, public
from api.errors import documented
from api.schemas.times import read_day, show_day
from domain.kernel.clock import ist_day
from domain.kernel.errors import Invalid
from projections.rankings import WINDOWS_DAYS, rankings

router = APIRouter(tags=["Rankings"], dependencies=[Depends(public)])


@router.get("/v1/rankings", responses=documented("invalid_range", "ledger_unavailable"))
def show_rankings(
    app: Services,
    window: Annotated[Literal["7d", "30d"] | None, Query(description="Both unless given")] = None,
    by: Literal["tokens", "requests"] = "tokens",
    as_of: Annotated[str | None, Query(description="The last day, as it was; today unless given")] = None,
) -> dict[str, Any]:
    """The 50 models used most in 7 and 30 days up to a day (India time). Models of fewer than 3 orgs are hidden."""
    today = ist_day(app.clock())
    day = today if as_of is None else read_day(as_of, param="as_of")
    if day > today:
        raise Invalid("invalid_range", "as_of must not be in the future.", param="as_of")
    with app.reading() as connection:
        return {
            "as_of": show_day(day),
            "windows": {
                name: rankings(connection, last_day=day, window_days=days, by=by)
                for name, days in WINDOWS_DAYS.items()
                if window in (None, name)
            },
        }
