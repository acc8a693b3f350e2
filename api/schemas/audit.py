"""The audit trail as it crosses the edge: rows, and the same for spreadsheets."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Field

from api.schemas.money import show_optional
from api.schemas.times import moment, moment_optional

_MONEY = {"monthly_budget": "monthly_budget_inr", "threshold": "threshold_inr"}
_MOMENTS = {"expires": "expires_at", "old_until": "old_until"}
COLUMNS = ("id", "at", "actor", "actor_name", "address", "agent", "action", "thing", "before", "after")


class AuditRow(BaseModel):
    id: str = Field(description="The change's place in the log")
    at: str
    actor: str = Field(description="`user:…`, `key:…`, `operator` or `worker:…`")
    actor_name: str | None = Field(description="Of the person or key; null for others, and for persons who are erased")
    address: str | None = Field(description="Where the call came from; null for what was not called for over HTTP")
    agent: str | None = Field(description="What the calling program said of itself")
    action: str = Field(description="What happened, such as `key_minted` or `role_changed`")
    thing: str = Field(description="What it happened to: `key:…`, `workspace:…`, `member:…`, `invitation:…`, a setting")
    before: dict[str, Any] | None = Field(description="The fields of `after` as they were; null for something new")
    after: dict[str, Any]


class AuditTrail(BaseModel):
    object: str = "list"
    data: list[AuditRow] = Field(description="Newest first")
    next_before: str | None


def show_fields(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Amounts in rupees and moments in ISO 8601; all else as it is."""
    if fields is None:
        return None
    shown: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _MONEY and "metric" not in fields:  # an alert's threshold is no money
            shown[_MONEY[name]] = show_optional(value)
        elif name in _MOMENTS:
            shown[_MOMENTS[name]] = moment_optional(value)
        else:
            shown[name] = value
    return shown


def audit_row(row: Mapping[str, Any], **opened: Any) -> dict[str, Any]:
    """`opened` are the fields that were sealed, and the actor's name."""
    plain = {name: row[name] for name in ("actor", "action", "thing")}
    return {"id": str(row["id"]), "at": moment(row["at"]), **plain, **opened}


def audit_csv(rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
    """The rows as lines, `before` and `after` as JSON. What people chose themselves is no formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
