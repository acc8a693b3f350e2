"""Agents: programs that an identity provider vouches for. In place of a key they show a short-lived token of it.

An agent is a key without a secret: its limits, its budget and its end are those of any key. What it has instead is an
identity, the value of one claim of its tokens, which belongs to one living agent at a time, of whatever org.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.accounts.org import Org, check_limit, clean_name, require_org
from domain.accounts.roles import require_role
from domain.kernel.clock import SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, Unauthenticated
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.keys.events import IdentityTaken, KeyMinted
from domain.keys.key import Key, check_models

TOKEN_START = b"eyJ"
"""What every token (a JWT) begins with: its header is a JSON object."""
TOKEN_LENGTH_MAX = 8_192
AGENT_SCOPE = "models:invoke"
LEEWAY_SECONDS = 30
"""How far the clocks of an identity provider and ours may be apart."""
LIFE_SECONDS_MAX = 3_600
SUBJECT_LENGTH_MAX = 255


class AgentTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a new agent may do. Budget in nano-rupees a month; None is no limit; no `workspace` is the default one; no
    `models` is all."""

    name: str
    subject: str
    claim: str = "sub"
    workspace: str | None = None
    monthly_budget: int | None = None
    rpm_limit: int | None = None
    daily_limit: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose an identity is: the key of an agent, and its org. Empty while it was nobody's yet."""

    agent: str = ""
    holder: str = ""

    def evolve(self, stream: str, event: Event) -> "Identity":
        return Identity(event.agent, event.holder) if isinstance(event, IdentityTaken) else self


def identity_stream(claim: str, subject: str) -> str:
    """The stream of an identity. The identity itself stays in its org."""
    return "identity:" + hashlib.sha256(f"{claim}\0{subject}".encode()).hexdigest()


def register_agent(
    store: Store,
    *,
    org: str,
    key: str,
    terms: AgentTerms,
    claims: Collection[str],
    org_of: Callable[[str], Org | None],
    agents_max: int,
    at: int,
    by: str,
) -> int | None:
    """Records the agent, whose id is that of its key, and takes its identity for it.

    `claims` are those that the operator has tokens matched by; `org_of` gives an org as it is known at the moment: an
    identity is free again once its agent is known to be revoked. A repeat with the same id changes nothing.

    Raises Invalid `agent_limit`, `duplicate_key_name` or `invalid_request`, Conflict `identity_taken`, Forbidden
    `forbidden_role`, and NotFound where the org or workspace is unknown.
    """
    if terms.claim not in claims:
        raise Invalid("invalid_request", f"claim must be one of {', '.join(claims)}.", param="claim")
    if not 1 <= len(terms.subject) <= SUBJECT_LENGTH_MAX or not terms.subject.isprintable():
        raise Invalid(
            "invalid_request", f"value must be 1 to {SUBJECT_LENGTH_MAX} printable characters.", param="value"
        )

    def decide(state: Org) -> Decision:
        require_org(state)
        if key in state.keys:
            return []
        role = require_role(state.role_of(by), "admin")
        agents = state.live_agents()
        if len(agents) >= agents_max:
            raise Invalid("agent_limit", f"An org has at most {agents_max} agents; delete one you no longer need.")
        name = clean_name(terms.name)
        if any(agent.name == name for agent in agents):
            raise Invalid("duplicate_key_name", f"An agent is called {name!r} already.", param="name")
        workspace = state.default_workspace if terms.workspace is None else state.workspace(terms.workspace)
        minted = KeyMinted(
            org=org,
            workspace=workspace.id,
            name=name,
            prefix="",
            digest="",
            scope="inference",
            monthly_budget=check_limit(terms.monthly_budget, param="budget_inr"),
            rpm_limit=check_limit(terms.rpm_limit, param="rpm_limit", least=1),
            daily_limit=check_limit(terms.daily_limit, param="daily_limit"),
            models=check_models(terms.models),
            role=role,
            minter=state.person_behind(by),
            tier="agent",
            claim=terms.claim,
            subject=terms.subject,
        )
        return [(f"key:{key}", minted)]

    stream = identity_stream(terms.claim, terms.subject)

    def take(identity: Identity) -> Decision:
        if identity.agent == key:
            return []
        if identity.agent and not _is_revoked(org_of(identity.holder), identity.agent):
            raise Conflict("identity_taken", "This identity belongs to an agent already; delete that one first.")
        return [(stream, IdentityTaken(agent=key, holder=org))]

    taking = Change(stream, Identity(), take)
    return store.change(Change(f"org:{org}", Org(), decide), taking, at=at, by=by)


def agent_of(org: Org, id: str) -> Key:
    """The agent, be it deleted or not. Raises NotFound where the org never had it."""
    key = org.keys.get(id)
    if key is None or key.tier != "agent":
        raise NotFound("not_found", "No such agent; list yours with GET /me/agents.", param="id")
    return key


def check_claims(claims: Mapping[str, Any], *, issuer: str, audience: str, at: int) -> int:
    """What must hold of the claims of a token whose signature is good (RFC 7519, section 4.1), and that it may call
    models. Returns until when it is good, in microseconds since 1970. Raises Unauthenticated `invalid_api_key`."""
    now = at // SECOND
    expires = _seconds(claims, "exp")
    if claims.get("iss") != issuer:
        raise not_accepted("its issuer is another")
    if audience not in _words(claims.get("aud"), split=False):
        raise not_accepted("it is for another audience")
    if expires is None or expires + LEEWAY_SECONDS <= now:
        raise not_accepted("it has expired, or does not say when it does")
    if expires > now + LIFE_SECONDS_MAX + LEEWAY_SECONDS:
        raise not_accepted("it lives for more than an hour")
    for name in ("nbf", "iat"):
        if name in claims and ((moment := _seconds(claims, name)) is None or moment > now + LEEWAY_SECONDS):
            raise not_accepted("it is not valid yet")
    if AGENT_SCOPE not in [*_words(claims.get("scope")), *_words(claims.get("scp"))]:
        raise not_accepted(f"it lacks the scope {AGENT_SCOPE}")
    return (expires + LEEWAY_SECONDS) * SECOND


def not_accepted(why: str) -> Unauthenticated:
    return Unauthenticated("invalid_api_key", f"This token is not accepted: {why}. Send a fresh one of your issuer.")


def _is_revoked(org: Org | None, agent: str) -> bool:
    key = None if org is None else org.keys.get(agent)
    return key is not None and key.revoked is not None


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate, which may have a fraction; None for anything else."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        return None
    return int(value)


def _words(value: Any, *, split: bool = True) -> list[str]:
    """A claim that is a string, of words where it is to be split, or a list of strings."""
    if isinstance(value, str):
        return value.split() if split else [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
