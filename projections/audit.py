"""The audit trail: one row for each change of who may do what in an org, of keys, limits and settings.

A row has what the change made so; what was before is what the earlier rows about the same thing say, and is looked up
when the row is read.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from psycopg.rows import dict_row

from domain.accounts.events import (
    Acted,
    InvitationAccepted,
    InvitationDeclined,
    InvitationWithdrawn,
    MemberAdded,
    MemberInvited,
    MemberRemoved,
    OrgCreated,
    OrgDeleted,
    RoleChanged,
    WorkspaceBudgetChanged,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRenamed,
)
from domain.byo.events import OwnEndpointAdded, OwnEndpointRemoved, OwnKeyRemoved, OwnKeySaved
from domain.collections.events import CollectionChanged, CollectionCreated, CollectionDeleted
from domain.kernel.events import Event
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
    TrialBegan,
    TrialEnded,
)
from domain.monitoring.events import AlertRemoved, AlertSet, MonitoringStarted, MonitoringStopped
from domain.payments.events import BillingAddressSet, LowBalanceSet
from domain.routing.events import ChainCleared, ChainSet
from domain.webhooks.events import (
    EndpointAdded,
    EndpointChanged,
    EndpointDisabled,
    EndpointEnabled,
    EndpointRemoved,
    SecretRotated,
)
from projections.base import Connection, Cursor, Fold, Projection, on

ROWS_MAX = 200

# `id` is the fact's position in the log. Texts that are sealed stay so.
TABLES = """
create table audit (
    id bigint primary key,
    at bigint not null,
    org text collate "C" not null,
    actor text collate "C" not null,
    action text collate "C" not null,
    thing text collate "C" not null,
    after jsonb not null
);
create index audit_by_org on audit (org, id);
create index audit_by_thing on audit (org, thing, id);
create table origins (
    id bigint primary key,
    at bigint not null,
    facts bigint not null,
    subject text collate "C" not null,
    address text not null,
    agent text not null
);
create index origins_by_subject on origins (subject, id);
"""

_ITSELF = ""
_INVITATION = "invitation:{invitation}"
_MEMBER = "member:{person}"
_CHAIN = "chain:{model}"
_OWN_KEY = "byok:{provider}"
_WEBHOOK = "webhook:{endpoint}"
_MONITORING = "monitoring:{collection}"
_ALERT = "alert:{alert}"
AUDITED: Mapping[type[Event], tuple[str, Mapping[str, Any]]] = {
    OrgCreated: (_ITSELF, {"status": "active"}),
    OrgDeleted: (_ITSELF, {"status": "deleted"}),
    MemberAdded: (_MEMBER, {}),
    RoleChanged: (_MEMBER, {}),
    MemberRemoved: (_MEMBER, {"role": None}),
    MemberInvited: (_INVITATION, {"status": "open"}),
    InvitationAccepted: (_INVITATION, {"status": "accepted"}),
    InvitationDeclined: (_INVITATION, {"status": "declined"}),
    InvitationWithdrawn: (_INVITATION, {"status": "withdrawn"}),
    WorkspaceCreated: (_ITSELF, {"status": "active"}),
    WorkspaceRenamed: (_ITSELF, {}),
    WorkspaceBudgetChanged: (_ITSELF, {}),
    WorkspaceDeleted: (_ITSELF, {"status": "deleted"}),
    KeyMinted: (_ITSELF, {"status": "active"}),
    KeyRenamed: (_ITSELF, {}),
    KeyLimitsChanged: (_ITSELF, {}),
    KeyModelsChanged: (_ITSELF, {}),
    KeyDisabled: (_ITSELF, {"status": "disabled"}),
    KeyEnabled: (_ITSELF, {"status": "active"}),
    KeyMoved: (_ITSELF, {}),
    KeyRotated: (_ITSELF, {}),
    KeyRevoked: (_ITSELF, {"status": "revoked"}),
    TrialBegan: (_ITSELF, {"status": "running"}),
    TrialEnded: (_ITSELF, {"status": "over"}),
    BillingAddressSet: ("billing_address", {}),
    LowBalanceSet: ("low_balance", {}),
    ChainSet: (_CHAIN, {}),
    ChainCleared: (_CHAIN, {"steps": []}),
    OwnKeySaved: (_OWN_KEY, {"status": "saved"}),
    OwnKeyRemoved: (_OWN_KEY, {"status": "removed"}),
    OwnEndpointAdded: (_ITSELF, {"status": "active"}),
    OwnEndpointRemoved: (_ITSELF, {"status": "deleted"}),
    CollectionCreated: (_ITSELF, {"status": "active", "version": 1}),
    CollectionChanged: (_ITSELF, {}),
    CollectionDeleted: (_ITSELF, {"status": "deleted"}),
    EndpointAdded: (_WEBHOOK, {"status": "active"}),
    EndpointChanged: (_WEBHOOK, {}),
    SecretRotated: (_WEBHOOK, {}),
    EndpointEnabled: (_WEBHOOK, {"status": "active"}),
    EndpointDisabled: (_WEBHOOK, {"status": "disabled"}),
    EndpointRemoved: (_WEBHOOK, {"status": "deleted"}),
    MonitoringStarted: (_MONITORING, {"status": "active"}),
    MonitoringStopped: (_MONITORING, {"status": "stopped"}),
    AlertSet: (_ALERT, {"status": "active"}),
    AlertRemoved: (_ALERT, {"status": "deleted"}),
}
"""Each fact of the trail: the thing that it is about, named by its fields unless it is its stream; and what it makes so
beside what its fields say."""

_ENVELOPE = frozenset({"at", "by", "cause", "org", "owner"})
_SECRETS = frozenset({"digest", "old_digest", "email_digest", "sealed", "discovered", "secret"})
_LONG = frozenset({"readme"})


def _taking_all(method: Any) -> Any:
    for event in AUDITED:
        method = on(event)(method)
    return method


class Audit(Fold):
    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._origins: list[tuple[Any, ...]] = []

    @_taking_all
    def changed(self, event: Any, stream: str, position: int) -> None:
        template, made_so = AUDITED[type(event)]
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _ENVELOPE}
        named = {name for name in fields if f"{{{name}}}" in template}
        left_out = named | _SECRETS | _LONG
        after = {name: value for name, value in fields.items() if name not in left_out and value is not UNSET}
        after |= made_so
        action = event.NAME.split(".")[1]
        org = stream.removeprefix("org:") if stream.startswith("org:") else getattr(event, "org", "") or event.owner
        text = msgspec.json.encode(after).decode().replace("\\u0000", "")
        self._rows.append((position, event.at, org, event.by, action, template.format_map(fields) or stream, text))

    @on(Acted)
    def acted(self, event: Acted, stream: str, position: int) -> None:
        self._origins.append((position, event.at, event.facts, event.subject, event.address, event.agent))

    def flush(self, cursor: Cursor) -> None:
        if self._rows:
            cursor.executemany("insert into audit values (%s, %s, %s, %s, %s, %s, %s)", self._rows)
        if self._origins:
            cursor.executemany("insert into origins values (%s, %s, %s, %s, %s, %s)", self._origins)


PROJECTION = Projection("audit", 2, TABLES, Audit)


def audit_of(connection: Connection, org: str, *, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The org's changes, newest first, at most `limit` (and `ROWS_MAX`); the next page is what comes `before` the `id`
    of the last row.

    Each row has the columns of the table but `org`; `before`, with the fields of `after` as they were, None where the
    thing was not there; `subject`, `address` and `agent` of the call that made the change, the latter two sealed under
    the first, None where it came otherwise; and `knew`: whether the actor is or was a member of the org.
    """
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        """
        select a.id, a.at, a.actor, a.action, a.thing, a.after, p.before, o.subject, o.address, o.agent,
            exists(
                select from view_audit.audit m
                where m.org = a.org and m.thing = 'member:' || substr(a.actor, 6) and a.actor like 'user:%%'
            ) as knew
        from view_audit.audit a
        left join lateral (
            select jsonb_object_agg(f.name, (
                select e.after -> f.name from view_audit.audit e
                where e.org = a.org and e.thing = a.thing and e.id < a.id and e.after ? f.name
                order by e.id desc limit 1
            )) as before
            from jsonb_object_keys(a.after) f (name)
            where exists(select from view_audit.audit e where e.org = a.org and e.thing = a.thing and e.id < a.id)
        ) p on true
        left join lateral (
            select * from view_audit.origins o where o.id > a.id order by o.id limit 1
        ) o on o.id - o.facts <= a.id
        where a.org = %(org)s and (%(before)s::bigint is null or a.id < %(before)s)
        order by a.id desc limit %(limit)s
        """,
        {"org": org, "before": before, "limit": min(limit, ROWS_MAX)},
    ).fetchall()


def origins_of(connection: Connection, subject: str, *, limit: int) -> list[dict[str, Any]]:
    """`at`, `address` and `agent` of the newest changes made by a person (`user:…`), both sealed under them."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        "select at, address, agent from view_audit.origins where subject = %s order by id desc limit %s",
        [subject, limit],
    ).fetchall()
