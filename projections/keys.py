"""Each API key as its owner sees it: name, limits, state, and when it was last used."""

from typing import Any, LiteralString

from psycopg.rows import dict_row

from domain.kernel.clock import ist_month
from domain.keys.events import (
    KeyDisabled,
    KeyEnabled,
    KeyLimitsChanged,
    KeyMinted,
    KeyModelsChanged,
    KeyMoved,
    KeyRenamed,
    KeyRevoked,
    KeyRotated,
)
from domain.ledger.events import CreditHeld, RequestRefused
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, number_array, on, text_array

TABLES = """
create table keys (
    key text collate "C" primary key,
    org text collate "C" not null,
    workspace text collate "C" not null,
    name text not null,
    prefix text not null,
    scope text not null,
    monthly_budget bigint,
    rpm_limit bigint,
    daily_limit bigint,
    models text[] not null,
    expires_at bigint,
    created_at bigint not null,
    disabled_at bigint,
    revoked_at bigint,
    last_used_at bigint
) with (fillfactor = 50);
create index keys_by_org on keys (org, created_at);
"""

_LAST_USED = (
    "update keys t set last_used_at = greatest(t.last_used_at, u.at)"
    " from unnest(%s::text[], %s::bigint[]) u (key, at) where t.key = u.key"
)


class Keys(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []
        self._last_used: dict[str, int] = {}

    @on(KeyMinted)
    def minted(self, event: KeyMinted, stream: str, position: int) -> None:
        self._changes.append(
            (
                "insert into keys values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s, %s)",
                [
                    stream.removeprefix("key:"),
                    event.org,
                    event.workspace,
                    clean(event.name),
                    event.prefix,
                    event.scope,
                    event.monthly_budget,
                    event.rpm_limit,
                    event.daily_limit,
                    text_array([clean(model) for model in event.models]),
                    event.expires,
                    event.at,
                ],
            )
        )

    @on(KeyRenamed)
    def renamed(self, event: KeyRenamed, stream: str, position: int) -> None:
        self._set("update keys set name = %s where key = %s", stream, clean(event.name))

    @on(KeyLimitsChanged)
    def limits_changed(self, event: KeyLimitsChanged, stream: str, position: int) -> None:
        self._set(
            "update keys set monthly_budget = %s, rpm_limit = %s, daily_limit = %s where key = %s",
            stream,
            event.monthly_budget,
            event.rpm_limit,
            event.daily_limit,
        )

    @on(KeyModelsChanged)
    def models_changed(self, event: KeyModelsChanged, stream: str, position: int) -> None:
        models = text_array([clean(model) for model in event.models])
        self._set("update keys set models = %s::text[] where key = %s", stream, models)

    @on(KeyDisabled)
    def disabled(self, event: KeyDisabled, stream: str, position: int) -> None:
        self._set("update keys set disabled_at = %s where key = %s", stream, event.at)

    @on(KeyEnabled)
    def enabled(self, event: KeyEnabled, stream: str, position: int) -> None:
        self._set("update keys set disabled_at = null where key = %s", stream)

    @on(KeyMoved)
    def moved(self, event: KeyMoved, stream: str, position: int) -> None:
        self._set("update keys set workspace = %s where key = %s", stream, event.workspace)

    @on(KeyRotated)
    def rotated(self, event: KeyRotated, stream: str, position: int) -> None:
        self._set("update keys set prefix = %s where key = %s", stream, event.prefix)

    @on(KeyRevoked)
    def revoked(self, event: KeyRevoked, stream: str, position: int) -> None:
        self._set("update keys set revoked_at = %s where key = %s", stream, event.at)

    @on(CreditHeld, "key")
    @on(RequestRefused, "key")
    def used(self, event: CreditHeld | RequestRefused, stream: str, position: int) -> None:
        if event.at > self._last_used.get(event.key, 0):
            self._last_used[event.key] = event.at

    def _set(self, statement: LiteralString, stream: str, *values: Any) -> None:
        self._changes.append((statement, [*values, stream.removeprefix("key:")]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)
        if self._last_used:
            cursor.execute(_LAST_USED, [text_array([*self._last_used]), number_array([*self._last_used.values()])])


PROJECTION = Projection("keys", 1, TABLES, Keys, weight=2)

_ROW = """
select k.key as id, k.name, k.prefix, k.scope, k.workspace as workspace_id, k.rpm_limit, k.daily_limit,
    k.monthly_budget, coalesce(b.used, 0)::bigint as spent_month, coalesce(b.held, 0)::bigint as held, k.models,
    k.expires_at, k.last_used_at, k.created_at, k.disabled_at, k.revoked_at
from view_keys.keys k left join view_budgets.budgets b on b.scope = k.key and b.month = %(month)s
where k.org = %(org)s
"""


def keys_of(connection: Connection, org: str, *, now: int) -> list[dict[str, Any]]:
    """The org's keys, oldest first: `id`, `name`, `prefix`, `scope`, `workspace_id`, `rpm_limit`, `daily_limit`,
    `monthly_budget`, `spent_month`, `held` (nano-rupees of the month of `now`), `models`, and the moments
    `expires_at`, `last_used_at`, `created_at`, `disabled_at`, `revoked_at` in microseconds or None."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(_ROW + " order by k.created_at, k.key", {"org": org, "month": ist_month(now)}).fetchall()


def key_row(connection: Connection, org: str, key: str, *, now: int) -> dict[str, Any] | None:
    """One row of `keys_of`; None if the org has no such key (yet)."""
    cursor = connection.cursor(row_factory=dict_row)
    parameters = {"org": org, "key": key, "month": ist_month(now)}
    return cursor.execute(_ROW + " and k.key = %(key)s", parameters).fetchone()
