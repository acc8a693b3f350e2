"""Requests, tokens, cost and errors by org, key, workspace, model, provider and day: every sum that a usage page shows.

A request counts on the day (India time) on which it ended, as in the feed; refused and failed ones are its errors.
"""

from collections import defaultdict
from typing import Any

from psycopg.rows import dict_row

from domain.kernel.clock import ist_day
from domain.ledger.events import HoldExpired, HoldReleased, RequestRefused, RequestSettled
from projections.base import Connection, Cursor, Fold, Projection, Sums, clean, day_of, on

DAYS_SHOWN = 30
TOP_ROWS = 10

TABLES = """
create table usage (
    org text collate "C" not null,
    day bigint not null,
    key text collate "C" not null,
    model text collate "C" not null,
    provider text collate "C" not null,
    workspace text collate "C" not null,
    requests bigint not null,
    errors bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cost bigint not null,
    own bigint not null,
    primary key (org, day, key, model, provider, workspace)
) with (fillfactor = 70);
"""

_USAGE = Sums(
    "usage",
    keys={
        "org": "text",
        "day": "bigint",
        "key": "text",
        "model": "text",
        "provider": "text",
        "workspace": "text",
    },
    sums=("requests", "errors", "prompt_tokens", "completion_tokens", "cost", "own"),
)
_WHO = ("org", "key", "workspace", "model")


class Usage(Fold):
    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, int, str, str, str, str], list[int]] = defaultdict(lambda: [0] * 6)

    @on(RequestSettled, *_WHO, "provider", "usage", "cost", "own")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        usage = event.usage
        row = self._rows[event.org, day_of(event.at), event.key, event.model, event.provider, event.workspace]
        row[0] += 1
        row[2] += usage.prompt_tokens
        row[3] += usage.completion_tokens
        row[4] += event.cost
        row[5] += event.own

    @on(HoldReleased, *_WHO)
    @on(HoldExpired, *_WHO)
    @on(RequestRefused, *_WHO)
    def failed(self, event: HoldReleased | HoldExpired | RequestRefused, stream: str, position: int) -> None:
        row = self._rows[event.org, day_of(event.at), event.key, clean(event.model), "", event.workspace]
        row[0] += 1
        row[1] += 1

    def flush(self, cursor: Cursor) -> None:
        _USAGE.add(cursor, self._rows)


PROJECTION = Projection("usage", 2, TABLES, Usage, weight=7)

_SUMS = """coalesce(sum(requests), 0)::bigint as requests, coalesce(sum(errors), 0)::bigint as errors,
    coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint as completion_tokens, coalesce(sum(cost), 0)::bigint as cost"""
_SELECTED = """from view_usage.usage where org = %(org)s and day between %(first)s and %(last)s
    and (%(model)s::text is null or model = %(model)s)
    and (%(key)s::text is null or key = %(key)s)
    and (%(workspace)s::text is null or workspace = %(workspace)s)"""


def usage_of_keys(connection: Connection, org: str, *, now: int) -> list[dict[str, Any]]:
    """For each key of the org, used or not: `id`, `name`, and nano-rupees `today` and `last_30d` at `now`."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select k.key as id, k.name, coalesce(sum(u.cost) filter (where u.day = %(today)s), 0)::bigint as today,
            coalesce(sum(u.cost), 0)::bigint as last_30d
        from view_keys.keys k
        left join view_usage.usage u
            on u.org = k.org and u.key = k.key and u.day between %(today)s - %(shown)s + 1 and %(today)s
        where k.org = %(org)s group by k.key order by k.created_at, k.key
        """,
        {"org": org, "today": ist_day(now), "shown": DAYS_SHOWN},
    ).fetchall()


def usage_daily(connection: Connection, org: str, *, now: int) -> list[dict[str, Any]]:
    """The last 30 days of India's calendar by `day` (days since 1970) and `model`, with the sums; oldest first."""
    cursor = connection.cursor(row_factory=dict_row)
    today = ist_day(now)
    return cursor.execute(
        f"select day, model, {_SUMS} from view_usage.usage where org = %(org)s and day between %(first)s and %(last)s"
        " group by day, model order by day, model",
        {"org": org, "first": today - DAYS_SHOWN + 1, "last": today},
    ).fetchall()


def activity_summary(
    connection: Connection,
    org: str,
    *,
    first_day: int,
    last_day: int,
    model: str | None = None,
    key: str | None = None,
    workspace: str | None = None,
) -> dict[str, Any]:
    """What happened from `first_day` to `last_day` (days since 1970 on India's calendar, both included).

    `totals`, with how many requests were served on the org's own keys and endpoints (`byok`), and lists of the same
    sums (`requests`, `errors`, `prompt_tokens`, `completion_tokens`, `cost` in nano-rupees): `days`; `top_models` and
    `top_keys` by cost, `TOP_ROWS` each; `model_providers`. `filters` lists the models, keys and workspaces to choose
    from in the period, whatever is chosen now.
    """
    cursor = connection.cursor(row_factory=dict_row)
    chosen = {
        "org": org,
        "first": first_day,
        "last": last_day,
        "model": model,
        "key": key,
        "workspace": workspace,
        "top": TOP_ROWS,
    }
    by = f"{_SUMS} {_SELECTED} group by"
    top = "order by cost desc, requests desc"
    offered = cursor.execute(
        """
        select coalesce(array_agg(distinct model), '{}') as models, coalesce(array_agg(distinct key), '{}') as keys,
            coalesce(array_agg(distinct workspace), '{}') as workspaces
        from view_usage.usage where org = %(org)s and day between %(first)s and %(last)s
        """,
        chosen,
    ).fetchone()
    return {
        "totals": cursor.execute(
            f"select {_SUMS}, coalesce(sum(own), 0)::bigint as byok {_SELECTED}", chosen
        ).fetchone(),
        "days": cursor.execute(f"select day, {by} day order by day", chosen).fetchall(),
        "top_models": cursor.execute(f"select model, {by} model {top}, model limit %(top)s", chosen).fetchall(),
        "top_keys": cursor.execute(
            "select t.*, k.name from (select key as id,"
            f" {by} key {top}, key limit %(top)s) t left join view_keys.keys k on k.key = t.id {top}, t.id",
            chosen,
        ).fetchall(),
        "model_providers": cursor.execute(
            f"select model, provider, {by} model, provider {top}, model, provider", chosen
        ).fetchall(),
        "filters": offered,
    }
