"""Who changed what in an org: access, keys, limits, roles, invitations, settings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from adapters.wiring import App
from api.caller import WHO, AdminActor, Services
from api.errors import documented
from api.schemas.audit import AuditTrail, audit_csv, audit_row, show_fields
from domain.accounts.person import person_stream
from domain.kernel.errors import Invalid
from domain.payments.billing import books_subject
from projections.audit import ROWS_MAX, audit_of

router = APIRouter(tags=["Orgs"])


@router.get(
    "/me/audit",
    response_model=AuditTrail,
    responses={
        200: {"description": "A page, or with `format=csv` the whole trail", "content": {"text/csv": {}}},
        **documented(*WHO, "invalid_request"),
    },
)
def list_changes(
    actor: AdminActor,
    app: Services,
    limit: Annotated[int, Query(ge=1, le=ROWS_MAX)] = 50,
    before: Annotated[str | None, Query(description="`next_before` of the page before")] = None,
    format: Annotated[Literal["json", "csv"], Query(description="`csv` is all of the trail at once")] = "json",
) -> object:
    """Every change of the org's people, invitations, keys, agents, limits, workspaces, fallback chains, collections,
    webhooks and settings, newest first: who made it, from where, and what was before. It shows a moment after it is in
    force."""
    last = None if before is None else _place(before)
    if format == "csv":
        headers = {"content-disposition": 'attachment; filename="audit.csv"', "cache-control": "no-store"}
        return StreamingResponse(_csv(app, actor.org, last), media_type="text/csv", headers=headers)
    with app.reading() as connection:
        rows = audit_of(connection, actor.org, limit=limit, before=last)
    return {
        "object": "list",
        "data": _opened(app, actor.org, rows),
        "next_before": str(rows[-1]["id"]) if len(rows) == limit else None,
    }


def _csv(app: App, org: str, before: int | None) -> Iterator[str]:
    """Page by page, so that a long trail needs no more memory than a short one."""
    header = True
    while True:
        with app.reading() as connection:
            rows = audit_of(connection, org, limit=ROWS_MAX, before=before)
        yield audit_csv(_opened(app, org, rows), header=header)
        if len(rows) < ROWS_MAX:
            return
        header, before = False, rows[-1]["id"]


def _opened(app: App, org: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names: dict[str, str | None] = {}
    for row in rows:
        if row["actor"] not in names:
            names[row["actor"]] = _name(app, org, row)
    return [
        audit_row(
            row,
            actor_name=names[row["actor"]],
            address=None if row["subject"] is None else app.vault.open(row["subject"], row["address"]),
            agent=None if row["subject"] is None else app.vault.open(row["subject"], row["agent"]),
            before=show_fields(_unsealed(app, org, row["before"])),
            after=show_fields(_unsealed(app, org, row["after"])),
        )
        for row in rows
    ]


def _name(app: App, org: str, row: Mapping[str, Any]) -> str | None:
    """Of a person who is or was a member, or of a key."""
    kind, _, id = row["actor"].partition(":")
    directory = app.directory.directory
    if kind == "key":
        key = directory.orgs[org].keys.get(id)
        return None if key is None else key.name
    person = directory.person(id) if kind == "user" and row["knew"] else None
    return None if person is None else app.vault.open(person_stream(id), person.name)


def _unsealed(app: App, org: str, fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """With the texts in clear that the log has sealed; null for what is erased."""
    if fields is None:
        return None
    opened = dict(fields)
    for name in ("email", "url"):
        if opened.get(name):
            opened[name] = app.vault.open(org, opened[name])
    if opened.get("buyer"):
        buyer = app.vault.open(books_subject(org), opened["buyer"])
        opened["buyer"] = None if buyer is None else json.loads(buyer)
    return opened


def _place(before: str) -> int:
    if not before.isascii() or not before.isdigit() or len(before) > 18:
        raise Invalid("invalid_request", "before must be the next_before of another page.", param="before")
    return int(before)
