"""An org with all it has configured, as its facts make it: one whole, so that rules across keys and workspaces hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain.accounts.events import OrgCreated, WorkspaceCreated
from domain.accounts.workspace import Workspace, created_workspace
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.keys.events import KeyMinted
from domain.keys.key import Key, minted_key

NAME_LENGTH_MAX = 80


@dataclass(frozen=True, slots=True)
class Org:
    """`id` is empty until the org is created. `email` is sealed. Keys and workspaces are in the order of their making,
    revoked and deleted ones included."""

    id: str = ""
    name: str = ""
    email: str = ""
    created: int = 0
    workspaces: Mapping[str, Workspace] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Org":
        kind, _, id = stream.partition(":")
        match event:
            case OrgCreated():
                return replace(self, id=id, name=event.name, email=event.email, created=event.at)
            case WorkspaceCreated():
                return replace(self, workspaces={**self.workspaces, id: created_workspace(id, event)})
            case KeyMinted():
                return replace(self, keys={**self.keys, id: minted_key(id, event)})
            case _ if kind == "workspace":
                return replace(self, workspaces={**self.workspaces, id: self.workspaces[id].evolve(event)})
            case _ if kind == "key":
                return replace(self, keys={**self.keys, id: self.keys[id].evolve(event)})
            case _:
                return self

    @property
    def default_workspace(self) -> Workspace:
        return next(workspace for workspace in self.workspaces.values() if workspace.default)

    def workspace(self, id: str) -> Workspace:
        """Raises NotFound where the org has no such workspace, or no longer."""
        workspace = self.workspaces.get(id)
        if workspace is None or workspace.deleted is not None:
            raise NotFound("not_found", "No such workspace; list yours with GET /me/workspaces.", param="id")
        return workspace

    def key(self, id: str) -> Key:
        """Raises NotFound where the org never had such a key."""
        key = self.keys.get(id)
        if key is None:
            raise NotFound("not_found", "No such key; list yours with GET /me/keys.", param="id")
        return key

    def active_keys(self, at: int) -> list[Key]:
        return [key for key in self.keys.values() if key.active(at)]

    def live_workspaces(self) -> list[Workspace]:
        return [workspace for workspace in self.workspaces.values() if workspace.deleted is None]


def require_org(org: Org) -> None:
    if not org.id:
        raise NotFound("not_found", "No such org.", param="org")


def clean_name(name: str) -> str:
    """The name without outer blanks. Raises Invalid if nothing or too much is left, or control characters are in it."""
    name = name.strip()
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise Invalid(
            "invalid_request",
            f"Give a name of 1 to {NAME_LENGTH_MAX} printable characters.",
            param="name",
        )
    return name


def check_limit(amount: int | None, *, param: str, least: int = 0) -> int | None:
    """The limit as given, None for no limit. Raises Invalid if it is below `least` or beyond what a bigint holds."""
    if amount is not None and not least <= amount < 2**62:
        raise Invalid("invalid_request", f"{param} must be at least {least}, or null for no limit.", param=param)
    return amount
