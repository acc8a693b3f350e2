"""What can be done with orgs and workspaces. Each function decides on the org as a whole and appends once. Workspaces
take an admin of it at that very moment (Forbidden `forbidden_role`).
"""

from msgspec import UNSET, UnsetType

from domain.accounts.events import (
    OrgCreated,
    WorkspaceBudgetChanged,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRenamed,
)
from domain.accounts.org import Org, check_limit, clean_name, require_org
from domain.accounts.roles import require_role
from domain.kernel.errors import Invalid
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import KeyMoved


def create_org(store: Store, *, org: str, workspace: str, name: str, sealed_email: str, at: int, by: str) -> int | None:
    """Makes the org and its default workspace. A repeat with the same id changes nothing."""

    def decide(state: Org) -> Decision:
        if state.id:
            return []
        return [
            (f"org:{org}", OrgCreated(name=clean_name(name), email=sealed_email)),
            (f"workspace:{workspace}", WorkspaceCreated(org=org, name="Default", default=True)),
        ]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def create_workspace(
    store: Store,
    *,
    org: str,
    workspace: str,
    name: str,
    monthly_budget: int | None,
    workspaces_max: int,
    at: int,
    by: str,
) -> int | None:
    """`monthly_budget` in nano-rupees, None for no limit. A repeat with the same id changes nothing.

    Raises Invalid `workspace_limit`, `duplicate_workspace_name` or `invalid_request`, NotFound for an unknown org.
    """

    def decide(state: Org) -> Decision:
        require_org(state)
        require_role(state.role_of(by), "admin")
        if workspace in state.workspaces:
            return []
        if len(state.live_workspaces()) >= workspaces_max:
            raise Invalid(
                "workspace_limit", f"An org has at most {workspaces_max} workspaces; delete one you no longer need."
            )
        created = WorkspaceCreated(
            org=org,
            name=_free_name(state, name, apart_from=workspace),
            monthly_budget=check_limit(monthly_budget, param="monthly_budget_inr"),
        )
        return [(f"workspace:{workspace}", created)]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def update_workspace(
    store: Store,
    *,
    org: str,
    workspace: str,
    name: str | UnsetType = UNSET,
    monthly_budget: int | UnsetType | None = UNSET,
    at: int,
    by: str,
) -> int | None:
    """Changes what is given; a budget of None lifts the limit. A budget below what is used already only refuses more.

    Raises NotFound, Invalid `duplicate_workspace_name` or `invalid_request`.
    """

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        now = state.workspace(workspace)
        facts: list[Event] = []
        if name is not UNSET and (new_name := _free_name(state, name, apart_from=workspace)) != now.name:
            facts.append(WorkspaceRenamed(org=org, name=new_name))
        if monthly_budget is not UNSET and monthly_budget != now.monthly_budget:
            budget = check_limit(monthly_budget, param="monthly_budget_inr")
            facts.append(WorkspaceBudgetChanged(org=org, monthly_budget=budget))
        return [(f"workspace:{workspace}", fact) for fact in facts]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def delete_workspace(store: Store, *, org: str, workspace: str, at: int, by: str) -> int | None:
    """Deletes it and moves its keys to the default workspace, in one transaction.

    Raises NotFound, and Invalid `default_workspace` for the default one.
    """

    def decide(state: Org) -> Decision:
        require_role(state.role_of(by), "admin")
        if state.workspace(workspace).default:
            raise Invalid("default_workspace", "The default workspace cannot be deleted; delete another one.")
        home = state.default_workspace.id
        moved = [
            (f"key:{key.id}", KeyMoved(org=org, workspace=home))
            for key in state.keys.values()
            if key.workspace == workspace and key.revoked is None
        ]
        return [*moved, (f"workspace:{workspace}", WorkspaceDeleted(org=org))]

    return store.change(Change(f"org:{org}", Org(), decide), at=at, by=by)


def _free_name(state: Org, name: str, *, apart_from: str) -> str:
    name = clean_name(name)
    if any(other.name == name and other.id != apart_from for other in state.live_workspaces()):
        raise Invalid(
            "duplicate_workspace_name", f"A workspace called {name!r} exists; choose another name.", param="name"
        )
    return name
