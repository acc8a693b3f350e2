"""What an org has used, by key and by day."""

from fastapi import APIRouter

from api.caller import WHO, MemberActor, Services
from api.errors import documented
from api.schemas.activity import DailyUsage, Usage, all_sums
from api.schemas.money import show
from projections.usage import usage_daily, usage_of_keys

router = APIRouter(tags=["Usage"])


@router.get("/me/usage", response_model=Usage, responses=documented(*WHO))
def show_usage(caller: MemberActor, app: Services) -> object:
    """Rupees spent today and in the last 30 days of India's calendar, in all and by key."""
    with app.reading() as connection:
        rows = usage_of_keys(connection, caller.org, now=app.clock())
    return {
        "today": show(sum(row["today"] for row in rows)),
        "last_30d": show(sum(row["last_30d"] for row in rows)),
        "keys": [
            {
                "id": row["id"],
                "name": row["name"],
                "today": show(row["today"]),
                "last_30d": show(row["last_30d"]),
            }
            for row in rows
        ],
    }


@router.get("/me/usage/daily", response_model=DailyUsage, responses=documented(*WHO))
def show_daily_usage(caller: MemberActor, app: Services) -> object:
    """The last 30 days of India's calendar by day and model, oldest first."""
    with app.reading() as connection:
        return {"object": "list", "data": all_sums(usage_daily(connection, caller.org, now=app.clock()))}
