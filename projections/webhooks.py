"""What is to be sent to which endpoint: a notice becomes a delivery to each endpoint that wants it at that moment.

Who raises a notice only puts its fact on record; nobody has to hand it over.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, LiteralString

from psycopg.rows import dict_row

from domain.accounts.events import OrgDeleted
from domain.kernel.clock import ist_month, to_iso
from domain.kernel.money import NANOS_PER_PAISA, format_inr
from domain.monitoring.alerts import ALL_PPM
from domain.monitoring.events import AlertBreached, AlertRecovered
from domain.payments.events import DocumentIssued, LowBalanceNoticed
from domain.webhooks.endpoints import TEST_TYPE
from domain.webhooks.events import (
    BudgetReached,
    DeliveryTried,
    EndpointAdded,
    EndpointChanged,
    EndpointDisabled,
    EndpointEnabled,
    EndpointRemoved,
    RedeliveryAsked,
    SampleAsked,
)
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, on, text_array

# `failing_since` is the first failure after the last success. `next_at` is set while there is something to do.
TABLES = """
create table webhook_endpoints (
    endpoint text collate "C" primary key,
    org text collate "C" not null,
    types text[] not null,
    alert text collate "C" not null,
    enabled boolean not null default true,
    failing_since bigint
);
create index webhook_endpoints_by_org on webhook_endpoints (org);
create table deliveries (
    delivery text collate "C" primary key,
    endpoint text collate "C" not null,
    org text collate "C" not null,
    type text collate "C" not null,
    at bigint not null,
    position bigint not null,
    data jsonb not null,
    status text collate "C" not null default 'pending',
    attempts bigint not null default 0,
    response_code bigint,
    problem text not null default '',
    tried_at bigint,
    next_at bigint
);
create index deliveries_by_endpoint on deliveries (endpoint, position);
create index deliveries_due on deliveries (next_at) where next_at is not null;
create table budgets_told (
    scope text collate "C" not null,
    month bigint not null,
    percent bigint not null,
    primary key (scope, month)
);
"""

_Change = tuple[LiteralString, list[Any]]

_NOTICE: LiteralString = """
insert into deliveries (delivery, endpoint, org, type, at, position, data, next_at)
select %(id)s || '_' || split_part(endpoint, '_', 2), endpoint, org, %(type)s, %(at)s, %(position)s, %(data)s, %(at)s
from webhook_endpoints
where org = %(org)s and enabled and (
    endpoint = %(endpoint)s or %(type)s = any(types) and (alert = '' or alert = %(alert)s)
)
"""


class Webhooks(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, Any]] = []

    # Endpoints

    @on(EndpointAdded, "org", "endpoint", "types", "alert")
    def added(self, event: EndpointAdded, stream: str, position: int) -> None:
        statement: LiteralString = (
            "insert into webhook_endpoints (endpoint, org, types, alert) values (%s, %s, %s::text[], %s)"
        )
        self._changes.append((statement, [event.endpoint, event.org, text_array(event.types), event.alert]))

    @on(EndpointChanged, "endpoint", "types")
    def changed(self, event: EndpointChanged, stream: str, position: int) -> None:
        statement: LiteralString = "update webhook_endpoints set types = %s::text[] where endpoint = %s"
        self._changes.append((statement, [text_array(event.types), event.endpoint]))

    @on(EndpointEnabled, "endpoint")
    def enabled(self, event: EndpointEnabled, stream: str, position: int) -> None:
        statement: LiteralString = (
            "update webhook_endpoints set enabled = true, failing_since = null where endpoint = %s"
        )
        self._changes.append((statement, [event.endpoint]))

    @on(EndpointDisabled, "endpoint")
    def disabled(self, event: EndpointDisabled, stream: str, position: int) -> None:
        self._changes.append(("update webhook_endpoints set enabled = false where endpoint = %s", [event.endpoint]))
        dropped: LiteralString = (
            "update deliveries set status = 'failed', next_at = null, problem = 'the webhook was disabled'"
            " where endpoint = %s and next_at is not null"
        )
        self._changes.append((dropped, [event.endpoint]))

    @on(EndpointRemoved, "endpoint")
    def removed(self, event: EndpointRemoved, stream: str, position: int) -> None:
        self._changes.append(("delete from webhook_endpoints where endpoint = %s", [event.endpoint]))
        self._changes.append(("delete from deliveries where endpoint = %s", [event.endpoint]))

    @on(OrgDeleted, "org")
    def org_deleted(self, event: OrgDeleted, stream: str, position: int) -> None:
        self._changes.append(("delete from webhook_endpoints where org = %s", [event.org]))
        self._changes.append(("delete from deliveries where org = %s", [event.org]))

    # Notices

    @on(LowBalanceNoticed, "org", "available", "threshold")
    def low_balance(self, event: LowBalanceNoticed, stream: str, position: int) -> None:
        data = {"available_inr": format_inr(event.available), "threshold_inr": format_inr(event.threshold)}
        self._notice("balance.low", event.org, data, at=event.at, position=position)

    @on(BudgetReached)
    def budget(self, event: BudgetReached, stream: str, position: int) -> None:
        data = {
            "id": event.scope,
            "name": clean(event.name),
            "month": f"{event.month // 100}-{event.month % 100:02}",
            "percent": event.percent,
            "used_inr": format_inr(event.used),
            "budget_inr": format_inr(event.budget),
        }
        self._notice("budget.reached", event.owner, data, at=event.at, position=position)
        told: LiteralString = (
            "insert into budgets_told values (%s, %s, %s)"
            " on conflict (scope, month) do update set percent = excluded.percent"
        )
        self._changes.append((told, [event.scope, event.month, event.percent]))

    @on(DocumentIssued, "org", "kind", "number", "payment", "refund", "tax")
    def document(self, event: DocumentIssued, stream: str, position: int) -> None:
        data = {
            "number": event.number,
            "kind": event.kind,
            "payment_id": event.payment,
            "refund_id": event.refund or None,
            "total_inr": format_inr(event.tax.total * NANOS_PER_PAISA),
        }
        self._notice("receipt.issued", event.org, data, at=event.at, position=position)

    @on(AlertBreached, "owner", "collection", "alert", "figure", "checks", "metric", "threshold")
    def breached(self, event: AlertBreached, stream: str, position: int) -> None:
        self._alert("alert.breached", event, position)

    @on(AlertRecovered, "owner", "collection", "alert", "figure", "checks", "metric", "threshold")
    def recovered(self, event: AlertRecovered, stream: str, position: int) -> None:
        self._alert("alert.recovered", event, position)

    def _alert(self, type: str, event: AlertBreached | AlertRecovered, position: int) -> None:
        parts = ALL_PPM if event.metric == "error_rate" else 1
        data = {
            "alert_id": event.alert,
            "collection": clean(event.collection),
            "metric": event.metric,
            "value": event.figure / parts,
            "threshold": event.threshold / parts,
            "checks": event.checks,
        }
        self._notice(type, event.owner, data, at=event.at, position=position, alert=event.alert)

    @on(SampleAsked, "owner", "endpoint")
    def sample(self, event: SampleAsked, stream: str, position: int) -> None:
        data = {"asked_at": to_iso(event.at)}
        self._notice(TEST_TYPE, event.owner, data, at=event.at, position=position, endpoint=event.endpoint)

    def _notice(
        self,
        type: str,
        org: str,
        data: Mapping[str, object],
        *,
        at: int,
        position: int,
        alert: str = "",
        endpoint: str = "",
    ) -> None:
        values = {"type": type, "org": org, "at": at, "position": position, "id": f"msg_{position:x}"}
        values |= {"data": json.dumps(data), "alert": alert, "endpoint": endpoint}
        self._changes.append((_NOTICE, values))

    # Deliveries

    @on(DeliveryTried, "endpoint", "delivery", "status", "problem", "again")
    def tried(self, event: DeliveryTried, stream: str, position: int) -> None:
        status = "pending" if event.again is not None else "failed" if event.problem else "delivered"
        statement: LiteralString = (
            "update deliveries set status = %s, attempts = attempts + 1, response_code = %s, problem = %s,"
            " tried_at = %s, next_at = %s where delivery = %s"
        )
        row = [status, event.status or None, clean(event.problem), event.at, event.again, event.delivery]
        self._changes.append((statement, row))
        since: LiteralString = (
            "update webhook_endpoints set failing_since = coalesce(failing_since, %s) where endpoint = %s"
        )
        well: LiteralString = "update webhook_endpoints set failing_since = null where endpoint = %s"
        failed = [event.at, event.endpoint]
        self._changes.append((since, failed) if event.problem else (well, [event.endpoint]))

    @on(RedeliveryAsked, "delivery")
    def asked_again(self, event: RedeliveryAsked, stream: str, position: int) -> None:
        statement: LiteralString = "update deliveries set status = 'pending', next_at = %s where delivery = %s"
        self._changes.append((statement, [event.at, event.delivery]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


PROJECTION = Projection("webhooks", 1, TABLES, Webhooks)


def due(
    connection: Connection, *, now: int, busy: Collection[str], done: Collection[str], limit: int
) -> list[dict[str, Any]]:
    """The next delivery of each endpoint that has one to be made now and is not among the `busy`, without those that
    the caller has `done` already; who has waited longest comes first: `delivery`, `endpoint`, `org`, `type`, `at`,
    `data`, `attempts`, and since when the endpoint takes nothing, `failing_since`."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select * from (
            select distinct on (d.endpoint) d.delivery, d.endpoint, d.org, d.type, d.at, d.data, d.attempts, d.next_at,
                e.failing_since
            from view_webhooks.deliveries d join view_webhooks.webhook_endpoints e using (endpoint)
            where d.next_at <= %(now)s and e.enabled and d.endpoint <> all(%(busy)s)
                and d.delivery <> all(%(done)s)
            order by d.endpoint, d.next_at, d.position
        ) next order by next_at limit %(limit)s
        """,
        {"now": now, "busy": list(busy), "done": list(done), "limit": limit},
    ).fetchall()


def deliveries_of(
    connection: Connection, org: str, endpoint: str, *, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """The deliveries to one endpoint of the org, newest first, of those that stand before the position `before`: the
    columns of the table."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        "select * from view_webhooks.deliveries where org = %s and endpoint = %s and position < %s"
        " order by position desc limit %s",
        [org, endpoint, 2**62 if before is None else before, limit],
    ).fetchall()


def has_delivery(connection: Connection, org: str, endpoint: str, delivery: str) -> bool:
    """Whether the endpoint of the org has this delivery. What a caller sent may have a NUL in it: then it has not."""
    if "\0" in delivery:
        return False
    found = connection.execute(
        "select from view_webhooks.deliveries where delivery = %s and endpoint = %s and org = %s",
        [delivery, endpoint, org],
    ).fetchone()
    return found is not None


def subscribers(connection: Connection, type: str) -> set[str]:
    """The orgs that have an endpoint which is told of this."""
    rows = connection.execute(
        "select distinct org from view_webhooks.webhook_endpoints where enabled and %s = any(types)", [type]
    )
    return {org for (org,) in rows}


def budgets_running_out(connection: Connection, *, now: int, percent: int) -> list[dict[str, Any]]:
    """The keys and workspaces that have used some `percent` of the budget of the month of `now`: `scope`, `org`,
    `name`, `used` and `budget` in nano-rupees, and the share that is `told`. Without those of which all is told."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select s.scope, s.org, s.name, b.used, s.budget, coalesce(t.percent, 0) as told
        from (
            select key as scope, org, name, monthly_budget as budget from view_keys.keys where revoked_at is null
            union all
            select workspace, org, name, monthly_budget from view_orgs.workspaces
        ) s
        join view_budgets.budgets b on b.scope = s.scope and b.month = %(month)s
        left join view_webhooks.budgets_told t on t.scope = s.scope and t.month = %(month)s
        where b.used::numeric * 100 >= s.budget::numeric * %(percent)s and coalesce(t.percent, 0) < 100
        order by s.scope
        """,
        {"month": ist_month(now), "percent": percent},
    ).fetchall()
