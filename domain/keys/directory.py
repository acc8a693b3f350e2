"""Who may call, and by what: every org with its members, keys and workspaces, its chains and what it has brought, every
person with their sessions, and all ephemeral keys that live, folded from the log. A key is found by its digest at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Literal

from domain.accounts.events import PersonErased, Role
from domain.accounts.membership import Invitation
from domain.accounts.org import Org
from domain.accounts.person import Person, Session
from domain.byo.own import NOTHING_OWN, Own
from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.keys.ephemeral import EphemeralKey
from domain.keys.key import Key
from domain.keys.trial import trial_stream
from domain.routing.chains import Chains

CLOCKS_APART = 60 * SECOND
"""How long an ephemeral key is kept when it is over: whoever wrote the newest fact may have a clock that is ahead."""

NOBODY: frozenset[str] = frozenset()
NO_CHAINS = Chains()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request came from. `rpm_limit` per rolling minute; `expires` in microseconds since 1970; no limit is None;
    `models` None is all.

    `key_id` is the key whose limits and budgets its calls count against: its own, that of an agent, or the parent of an
    ephemeral key, which is the `child`. An ephemeral key with a limit a minute of its own has it as `child_rpm_limit`.
    `allowance` names a further allowance that each call is held against: that of an ephemeral key with a budget, or the
    one that all trial keys of an org share; `trial_rpm_limit` is theirs together."""

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
    tier: Literal["standard", "trial", "ephemeral", "agent"] = "standard"
    allowance: str = ""
    trial_rpm_limit: int | None = None
    child: str = ""
    child_rpm_limit: int | None = None

    @property
    def by(self) -> str:
        """The caller as events name it."""
        return f"key:{self.child or self.key_id}"


class Directory:
    """All orgs by id, all persons who have not been erased, and all callers whose key is neither revoked nor disabled,
    by digest, or for agents by identity.

    Readers in other threads may look things up while events come in: what they hold never changes, it is replaced.
    """

    def __init__(self) -> None:
        self.orgs: dict[str, Org] = {}
        self._callers: dict[bytes, Caller] = {}
        self._by_key: dict[str, Caller] = {}
        self._agents: dict[tuple[str, str], Caller] = {}
        self._ephemeral: dict[bytes, EphemeralKey] = {}
        self._ends: list[tuple[int, bytes]] = []  # of ephemeral keys, a heap
        self._children: dict[str, int] = {}  # how many of them each key has
        self._persons: dict[str, Person] = {}
        self._orgs_of: dict[str, frozenset[str]] = {}
        self._inviting: dict[str, frozenset[str]] = {}
        self._chains: dict[str, Chains] = {}
        self._own: dict[str, Own] = {}

    def find(self, digest: bytes) -> Caller | None:
        """The caller of that digest, be it expired or not."""
        caller = self._callers.get(digest)
        if caller is None and (child := self._ephemeral.get(digest)) is not None:
            parent = self._by_key.get(child.parent)
            return None if parent is None else _child_of(parent, child)
        return caller

    def find_agent(self, claims: Mapping[str, Any], names: Iterable[str]) -> Caller | None:
        """The agent whose identity is in a token's claims; the first of the named claims that is anyone's counts."""
        for name in names:
            subject = claims.get(name)
            if isinstance(subject, str) and (caller := self._agents.get((name, subject))) is not None:
                return caller
        return None

    def ephemeral(self, digest: bytes) -> EphemeralKey | None:
        """The ephemeral key itself, unless it has long expired."""
        return self._ephemeral.get(digest)

    def children(self, key: str) -> int:
        """How many ephemeral keys the key has at the moment, those that expired a moment ago included."""
        return self._children.get(key, 0)

    def chains(self, org: str) -> Chains:
        """The fallback chains that the org has saved."""
        return self._chains.get(org, NO_CHAINS)

    def own(self, org: str) -> Own | None:
        """The keys for providers and the endpoints that the org has brought; None for most orgs, which have none."""
        return self._own.get(org)

    def person(self, id: str) -> Person | None:
        """The person, unless there was never one or they are erased."""
        return self._persons.get(id)

    def session(self, person: str, session: str) -> Session | None:
        """The person's session unless it was ended, be it expired or not."""
        known = self._persons.get(person)
        return None if known is None else known.sessions.get(session)

    def orgs_of(self, person: str) -> list[Org]:
        """The orgs that the person is a member of, in the order of their making; the personal one is the first."""
        found = [self.orgs[org] for org in self._orgs_of.get(person, NOBODY)]
        return sorted(found, key=lambda org: (org.kind != "personal", org.created, org.id))

    def role_of(self, by: str, org: str) -> Role | None:
        """What `user:…` or `key:…` may do in the org at this moment; None for nothing."""
        known = self.orgs.get(org)
        return None if known is None or not known.exists else known.role_of(by)

    def invitations_to(self, email_digests: Iterable[str], *, at: int) -> list[tuple[Org, Invitation]]:
        """The open invitations to addresses of those digests, oldest first."""
        found = [
            (self.orgs[org], invitation)
            for digest in email_digests
            for org in self._inviting.get(digest, NOBODY)
            for invitation in self.orgs[org].open_invitations(at)
            if invitation.email_digest == digest
        ]
        return sorted(found, key=lambda each: each[1].invited)

    def evolve(self, stream: str, event: Event) -> "Directory":
        kind, _, id = stream.partition(":")
        self._forget_expired(event.at)
        if kind == "user":
            self._evolve_person(stream, id, event)
            return self
        if kind == "routing":
            self._chains[id] = self._chains.get(id, NO_CHAINS).evolve(stream, event)
            return self
        if kind in ("credential", "endpoint"):
            self._evolve_own(stream, event)
            return self
        if kind == "ephemeral":
            self._take_in(EphemeralKey().evolve(stream, event))
            return self
        if kind in ("org", "trial"):
            org_id = id
        elif kind in ("workspace", "key"):
            org_id = event.org  # type: ignore[attr-defined]  # every fact of these streams names its org
        else:
            return self
        before = self.orgs.get(org_id, Org())
        org = self.orgs[org_id] = before.evolve(stream, event)
        if kind == "key":
            self._refresh(org, before.keys.get(id), org.keys[id])
        if org.trial is not before.trial:
            for key in org.keys.values():
                if key.tier == "trial":
                    self._refresh(org, key, key)
        if org.members is not before.members:
            _move(self._orgs_of, org_id, before.members.keys(), org.members.keys())
        if org.invitations is not before.invitations:
            invited = ({each.email_digest for each in state.invitations.values()} for state in (before, org))
            _move(self._inviting, org_id, *invited)
        return self

    def _evolve_own(self, stream: str, event: Event) -> None:
        org: str = event.org  # type: ignore[attr-defined]  # every fact of these streams names its org
        own = self._own.get(org, NOTHING_OWN).evolve(stream, event)
        if own.keys or own.endpoints:
            self._own[org] = own
        else:
            self._own.pop(org, None)

    def _evolve_person(self, stream: str, id: str, event: Event) -> None:
        if isinstance(event, PersonErased):
            self._persons.pop(id, None)
        else:
            self._persons[id] = self._persons.get(id, Person()).evolve(stream, event)

    def _refresh(self, org: Org, before: Key | None, key: Key) -> None:
        """Makes the callers of a key anew: of its secret and those before it that may be good still, or of an agent."""
        opens = key.revoked is None and not key.disabled
        now = {digest: _caller(org, key, digest, until) for digest, until in _digests(key)} if opens else {}
        self._callers.update(now)
        for digest, _ in () if before is None else _digests(before):
            if digest not in now:
                self._callers.pop(digest, None)
        if opens:
            caller = self._by_key[key.id] = now.get(bytes.fromhex(key.digest)) or _caller(org, key, b"", None)
        else:
            self._by_key.pop(key.id, None)
        if key.tier != "agent":
            return
        identity = key.claim, key.subject
        if opens:
            self._agents[identity] = caller
        elif identity in self._agents and self._agents[identity].key_id == key.id:
            del self._agents[identity]

    def _take_in(self, child: EphemeralKey) -> None:
        self._ephemeral[child.digest] = child
        heappush(self._ends, (child.expires, child.digest))
        self._children[child.parent] = self._children.get(child.parent, 0) + 1

    def _forget_expired(self, at: int) -> None:
        """Ephemeral keys leave when the log has gone on past their end, so that there are never more than live at once.
        Whoever looks one up meanwhile minds its end."""
        while self._ends and self._ends[0][0] + CLOCKS_APART <= at:
            child = self._ephemeral.pop(heappop(self._ends)[1])
            self._children[child.parent] -= 1
            if not self._children[child.parent]:
                del self._children[child.parent]


def _move(index: dict[str, frozenset[str]], org: str, before: Iterable[str], after: Iterable[str]) -> None:
    """Brings an index of orgs up to date: `org` is no longer under what is only in `before`, and is under the rest."""
    was, now = set(before), set(after)
    for name in now - was:
        index[name] = index.get(name, NOBODY) | {org}
    for name in was - now:
        index[name] = index[name] - {org}
        if not index[name]:
            del index[name]


def _digests(key: Key) -> list[tuple[bytes, int | None]]:
    """Every secret of the key that may be good still, with its end where it has one of its own."""
    present = [(bytes.fromhex(key.digest), None)] if key.digest else []
    return [*((bytes.fromhex(digest), until) for digest, until in key.former), *present]


def _caller(org: Org, key: Key, digest: bytes, until: int | None) -> Caller:
    tier = org.tier_of(key)
    ends = [end for end in (key.expires, until) if end is not None]
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
        expires=min(ends, default=None),
        models=frozenset(key.models) or None,
        tier=tier,
        allowance=trial_stream(org.id) if tier == "trial" else "",
        trial_rpm_limit=org.trial.rpm_limit if tier == "trial" else None,
    )


def _child_of(parent: Caller, child: EphemeralKey) -> Caller:
    """What an ephemeral key may at the moment: nothing that its parent may not."""
    models = parent.models
    if child.models:
        models = frozenset(child.models) if models is None else models.intersection(child.models)
    return replace(
        parent,
        scope="inference",
        prefix=child.prefix,
        digest=child.digest,
        expires=child.expires if parent.expires is None else min(child.expires, parent.expires),
        models=models,
        tier="ephemeral",
        allowance=child.id if child.budget is not None else "",
        child=child.id,
        child_rpm_limit=child.rpm_limit,
    )
