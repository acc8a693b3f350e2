"""Who may call: every org with its keys and workspaces, folded from the log and found by a key's digest at once."""

from dataclasses import dataclass

from domain.accounts.org import Org
from domain.kernel.events import Event
from domain.keys.key import Key


@dataclass(frozen=True, slots=True)
class Caller:
    """The key that a request came with. `rpm_limit` per rolling minute; `expires` in microseconds since 1970; no limit
    is None; `models` None is all."""

    org: str
    key_id: str
    workspace: str
    scope: str
    name: str
    prefix: str
    digest: bytes
    rpm_limit: int | None
    daily_limit: int | None
    expires: int | None
    models: frozenset[str] | None


class Directory:
    """All orgs by id, and all callers whose key is neither revoked nor disabled, by digest.

    Readers in other threads may look things up while events come in: what they hold never changes, it is replaced.
    """

    def __init__(self) -> None:
        self.orgs: dict[str, Org] = {}
        self._callers: dict[bytes, Caller] = {}

    def find(self, digest: bytes) -> Caller | None:
        """The caller of that digest, be it expired or not."""
        return self._callers.get(digest)

    def evolve(self, stream: str, event: Event) -> "Directory":
        kind, _, id = stream.partition(":")
        if kind == "org":
            org_id = id
        elif kind in ("workspace", "key"):
            org_id = event.org  # type: ignore[attr-defined]  # every fact of these streams names its org
        else:
            return self
        org = self.orgs.get(org_id, Org()).evolve(stream, event)
        self.orgs[org_id] = org
        if kind == "key":
            self._refresh(org.keys[id])
        return self

    def _refresh(self, key: Key) -> None:
        digest = bytes.fromhex(key.digest)
        if key.revoked is None and not key.disabled:
            self._callers[digest] = _caller(key, digest)
        else:
            self._callers.pop(digest, None)


def _caller(key: Key, digest: bytes) -> Caller:
    return Caller(
        org=key.org,
        key_id=key.id,
        workspace=key.workspace,
        scope=key.scope,
        name=key.name,
        prefix=key.prefix,
        digest=digest,
        rpm_limit=key.rpm_limit,
        daily_limit=key.daily_limit,
        expires=key.expires,
        models=frozenset(key.models) or None,
    )
