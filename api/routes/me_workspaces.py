"""An org's workspaces: groups of keys under one budget."""

from typing import Any

from fastapi import APIRouter
from msgspec import UNSET

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.workspaces import (
    DeletedWorkspace,
    NewWorkspace,
    WorkspaceList,
    WorkspacePatch,
    WorkspaceRow,
    workspace_row,
)
from domain.accounts.service import create_workspace, delete_workspace, update_workspace
from projections import orgs

router = APIRouter(tags=["Workspaces"])


@router.get("/me/workspaces", response_model=WorkspaceList, responses=documented(*WHO))
def list_workspaces(caller: MemberActor, app: Services) -> object:
    """The org's workspaces in the order of their making; exactly one is the default."""
    figures = _figures(app, caller.org)
    live = app.directory.directory.orgs[caller.org].live_workspaces()
    return {"object": "list", "data": [workspace_row(each, figures.get(each.id)) for each in live]}


@router.post(
    "/me/workspaces",
    status_code=201,
    response_model=WorkspaceRow,
    responses=documented(*WHO, "invalid_request", "duplicate_workspace_name", "workspace_limit"),
)
def add_workspace(wanted: NewWorkspace, caller: AdminActor, app: Services) -> object:
    """Makes a workspace. Its monthly budget (India time) is never exceeded by its keys together."""
    workspace = app.new_id("ws")
    create_workspace(
        app.store,
        org=caller.org,
        workspace=workspace,
        name=wanted.name,
        monthly_budget=wanted.monthly_budget_inr,
        workspaces_max=app.settings.workspaces_max,
        at=app.clock(),
        by=caller.by,
    )
    return _row(app, caller.org, workspace)


@router.patch(
    "/me/workspaces/{id}",
    response_model=WorkspaceRow,
    responses=documented(*WHO, "invalid_request", "duplicate_workspace_name", "not_found"),
)
def change_workspace(id: str, wanted: WorkspacePatch, caller: AdminActor, app: Services) -> object:
    """Changes what is given; a budget of null lifts the limit."""
    given = wanted.model_fields_set
    update_workspace(
        app.store,
        org=caller.org,
        workspace=id,
        name=wanted.name if "name" in given else UNSET,
        monthly_budget=wanted.monthly_budget_inr if "monthly_budget_inr" in given else UNSET,
        at=app.clock(),
        by=caller.by,
    )
    return _row(app, caller.org, id)


@router.delete(
    "/me/workspaces/{id}", response_model=DeletedWorkspace, responses=documented(*WHO, "default_workspace", "not_found")
)
def remove_workspace(id: str, caller: AdminActor, app: Services) -> object:
    """Deletes a workspace; its keys move to the default one at once. What was spent in it stays on record."""
    delete_workspace(app.store, org=caller.org, workspace=id, at=app.clock(), by=caller.by)
    app.directory.catch_up()
    home = app.directory.directory.orgs[caller.org].default_workspace
    return {"id": id, "deleted": True, "keys_moved_to": home.id}


def _row(app: App, org: str, workspace: str) -> dict[str, Any]:
    app.directory.catch_up()
    return workspace_row(app.directory.directory.orgs[org].workspace(workspace), _figures(app, org).get(workspace))


def _figures(app: App, org: str) -> dict[str, dict[str, Any]]:
    with app.reading() as connection:
        return {row["id"]: row for row in orgs.workspaces_of(connection, org, now=app.clock())}
