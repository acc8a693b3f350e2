"""Workspaces as callers write and read them."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from api.schemas.money import Amount, Rupees, show, show_optional
from api.schemas.times import moment
from domain.accounts.workspace import Workspace


class NewWorkspace(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "staging", "monthly_budget_inr": 200}}
    )

    name: str
    monthly_budget_inr: Rupees | None = None


class WorkspacePatch(BaseModel):
    """What to change; a budget of null lifts the limit, what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"monthly_budget_inr": 500}})

    name: str = ""
    monthly_budget_inr: Rupees | None = None


class WorkspaceRow(BaseModel):
    id: str
    name: str
    default: bool
    monthly_budget_inr: Amount | None
    spent_month_inr: Amount
    held_inr: Amount
    created_at: str


class WorkspaceList(BaseModel):
    object: str = "list"
    data: list[WorkspaceRow]


class DeletedWorkspace(BaseModel):
    id: str
    deleted: bool = True
    keys_moved_to: str


def workspace_row(workspace: Workspace, figures: dict[str, Any] | None) -> dict[str, Any]:
    """`figures` are the row of the workspace in the read model, which may not know it yet."""
    known = figures or {}
    return {
        "id": workspace.id,
        "name": workspace.name,
        "default": workspace.default,
        "monthly_budget_inr": show_optional(workspace.monthly_budget),
        "spent_month_inr": show(known.get("spent_month", 0)),
        "held_inr": show(known.get("held", 0)),
        "created_at": moment(workspace.created),
    }
