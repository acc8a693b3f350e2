"""Orgs and their workspaces, as the dashboard lists them."""

from typing import Any, LiteralString

from psycopg.rows import dict_row

from domain.accounts.events import (
    OrgCreated,
    WorkspaceBudgetChanged,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRenamed,
)
from domain.kernel.clock import ist_month
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, on

TABLES = """
create table orgs (
    org text collate "C" primary key,
    name text not null,
    created_at bigint not null
);
create table workspaces (
    workspace text collate "C" primary key,
    org text collate "C" not null,
    name text not null,
    "default" boolean not null,
    monthly_budget bigint,
    created_at bigint not null
);
create index workspaces_by_org on workspaces (org, created_at);
"""


class Orgs(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []

    @on(OrgCreated, "name")
    def created(self, event: OrgCreated, stream: str, position: int) -> None:
        values = [stream.removeprefix("org:"), clean(event.name), event.at]
        self._changes.append(("insert into orgs values (%s, %s, %s)", values))

    @on(WorkspaceCreated)
    def workspace_created(self, event: WorkspaceCreated, stream: str, position: int) -> None:
        self._changes.append(
            (
                "insert into workspaces values (%s, %s, %s, %s, %s, %s)",
                [
                    stream.removeprefix("workspace:"),
                    event.org,
                    clean(event.name),
                    event.default,
                    event.monthly_budget,
                    event.at,
                ],
            )
        )

    @on(WorkspaceRenamed)
    def workspace_renamed(self, event: WorkspaceRenamed, stream: str, position: int) -> None:
        self._set("update workspaces set name = %s where workspace = %s", stream, clean(event.name))

    @on(WorkspaceBudgetChanged)
    def workspace_budget_changed(self, event: WorkspaceBudgetChanged, stream: str, position: int) -> None:
        statement: LiteralString = "update workspaces set monthly_budget = %s where workspace = %s"
        self._set(statement, stream, event.monthly_budget)

    @on(WorkspaceDeleted)
    def workspace_deleted(self, event: WorkspaceDeleted, stream: str, position: int) -> None:
        self._set("delete from workspaces where workspace = %s", stream)

    def _set(self, statement: LiteralString, stream: str, *values: Any) -> None:
        self._changes.append((statement, [*values, stream.removeprefix("workspace:")]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


PROJECTION = Projection("orgs", 1, TABLES, Orgs)


def org_row(connection: Connection, org: str) -> dict[str, Any] | None:
    """`id`, `name`, `created_at` in microseconds; None if there is no such org (yet)."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute("select org as id, name, created_at from view_orgs.orgs where org = %s", [org]).fetchone()


def workspaces_of(connection: Connection, org: str, *, now: int) -> list[dict[str, Any]]:
    """The org's workspaces, oldest first: `id`, `name`, `default`, `monthly_budget`, `spent_month`, `held` (nano-rupees
    of the month of `now`), `created_at` in microseconds. Deleted ones are left out."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select w.workspace as id, w.name, w."default", w.monthly_budget,
            coalesce(b.used, 0)::bigint as spent_month, coalesce(b.held, 0)::bigint as held, w.created_at
        from view_orgs.workspaces w
        left join view_budgets.budgets b on b.scope = w.workspace and b.month = %(month)s
        where w.org = %(org)s order by w.created_at, w.workspace
        """,
        {"org": org, "month": ist_month(now)},
    ).fetchall()
