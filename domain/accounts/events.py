"""The facts of orgs and their workspaces. Streams: `org:<id>`, `workspace:<id>`."""

from domain.kernel.events import Event, fact


@fact("accounts.org_created.v1")
class OrgCreated(Event, frozen=True, kw_only=True):
    """`email` is sealed with the org's own key, so that erasing the key erases the address and keeps the books."""

    name: str
    email: str = ""


@fact("accounts.workspace_created.v1")
class WorkspaceCreated(Event, frozen=True, kw_only=True):
    """`monthly_budget` in nano-rupees, None for no limit; every org has exactly one `default` workspace."""

    org: str
    name: str
    default: bool = False
    monthly_budget: int | None = None


@fact("accounts.workspace_renamed.v1")
class WorkspaceRenamed(Event, frozen=True, kw_only=True):
    org: str
    name: str


@fact("accounts.workspace_budget_changed.v1")
class WorkspaceBudgetChanged(Event, frozen=True, kw_only=True):
    org: str
    monthly_budget: int | None = None


@fact("accounts.workspace_deleted.v1")
class WorkspaceDeleted(Event, frozen=True, kw_only=True):
    """Its keys move to the org's default workspace by `KeyMoved` events of the same transaction."""

    org: str
