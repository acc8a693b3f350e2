"""A workspace as its facts make it: a group of an org's keys under one monthly budget."""

from dataclasses import dataclass, replace

from domain.accounts.events import (
    WorkspaceBudgetChanged,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceRenamed,
)
from domain.kernel.events import Event


@dataclass(frozen=True, slots=True)
class Workspace:
    """Budget in nano-rupees, None for no limit; moments in microseconds since 1970."""

    id: str
    org: str
    name: str
    default: bool
    created: int
    monthly_budget: int | None = None
    deleted: int | None = None

    def evolve(self, event: Event) -> "Workspace":
        match event:
            case WorkspaceRenamed():
                return replace(self, name=event.name)
            case WorkspaceBudgetChanged():
                return replace(self, monthly_budget=event.monthly_budget)
            case WorkspaceDeleted():
                return replace(self, deleted=event.at)
            case _:
                return self


def created_workspace(id: str, event: WorkspaceCreated) -> Workspace:
    return Workspace(
        id=id,
        org=event.org,
        name=event.name,
        default=event.default,
        created=event.at,
        monthly_budget=event.monthly_budget,
    )
