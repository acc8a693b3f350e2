"""Which models are used most: requests and tokens by day (India time), model and org; shown without the orgs."""

from collections import defaultdict
from typing import Any, Literal

from psycopg.rows import dict_row

from domain.ledger.events import RequestSettled
from projections.base import Connection, Cursor, Fold, Projection, Sums, day_of, on

WINDOWS_DAYS = {"7d": 7, "30d": 30}
ORGS_MIN = 3
ROWS_MAX = 50

TABLES = """
create table rankings (
    day bigint not null,
    model text collate "C" not null,
    org text collate "C" not null,
    requests bigint not null,
    tokens bigint not null,
    primary key (day, model, org)
) with (fillfactor = 70);
"""

_RANKINGS = Sums("rankings", keys={"day": "bigint", "model": "text", "org": "text"}, sums=("requests", "tokens"))


class Rankings(Fold):
    def __init__(self) -> None:
        self._rows: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])

    @on(RequestSettled, "org", "model", "usage")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        row = self._rows[day_of(event.at), event.model, event.org]
        row[0] += 1
        row[1] += event.usage.total_tokens

    def flush(self, cursor: Cursor) -> None:
        _RANKINGS.add(cursor, self._rows)


PROJECTION = Projection("rankings", 1, TABLES, Rankings, weight=4)


def rankings(
    connection: Connection, *, last_day: int, window_days: int, by: Literal["tokens", "requests"]
) -> list[dict[str, Any]]:
    """The most used models of the `window_days` up to and including `last_day` (days since 1970, India's calendar).

    Rows: `rank`, `previous_rank` (in the window before, None where it had none), `model`, `tokens`, `requests`, `share`
    (of all use in the window, a decimal string with four places). At most `ROWS_MAX`; models used by fewer
    than `ORGS_MIN` orgs are left out, of the window before likewise. The days of the past never change, so that any
    `last_day` shows what was shown then.
    """
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        with used as (
            select model, day > %(last)s - %(days)s as current, sum(tokens)::bigint as tokens,
                sum(requests)::bigint as requests, count(distinct org) as orgs
            from view_rankings.rankings
            where day > %(last)s - 2 * %(days)s and day <= %(last)s
            group by 1, 2
        ), measured as (
            select *, case when %(by)s = 'tokens' then tokens else requests end as amount from used
        ), ranked as (
            select *, rank() over (partition by current order by amount desc)::int as rank
            from measured where orgs >= %(orgs)s
        )
        select c.rank, p.rank as previous_rank, c.model, c.tokens, c.requests,
            coalesce(round(c.amount / nullif((select sum(amount) from measured where current), 0), 4), 0)::text as share
        from ranked c left join ranked p on p.model = c.model and not p.current
        where c.current order by c.rank, c.model limit %(rows)s
        """,
        {"last": last_day, "days": window_days, "by": by, "orgs": ORGS_MIN, "rows": ROWS_MAX},
    ).fetchall()
