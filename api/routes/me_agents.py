"""An org's agents: programs that call with a token of an identity provider in place of a key."""

from typing import Any

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, AdminActor, MemberActor, Services
from api.errors import documented
from api.schemas.keys import AgentDeleted, AgentList, AgentRow, NewAgent, agent_row
from api.schemas.times import moment
from domain.accounts.org import Org
from domain.kernel.errors import Unavailable
from domain.keys.agents import AgentTerms, agent_of, register_agent
from domain.keys.service import revoke_key
from projections import keys

router = APIRouter(tags=["Agents"])


@router.get("/me/agents", response_model=AgentList, responses=documented(*WHO))
def list_agents(actor: MemberActor, app: Services) -> object:
    """All agents of the org in the order of their making, deleted ones included."""
    with app.reading() as connection:
        figures = {row["id"]: row for row in keys.keys_of(connection, actor.org, now=app.clock())}
    org = app.directory.directory.orgs[actor.org]
    agents = [key for key in org.keys.values() if key.tier == "agent"]
    return {"object": "list", "data": [agent_row(org, key, figures.get(key.id)) for key in agents]}


@router.post(
    "/me/agents",
    status_code=201,
    response_model=AgentRow,
    responses=documented(
        *WHO,
        "invalid_request",
        "duplicate_key_name",
        "agent_limit",
        "not_found",
        "identity_taken",
        "provider_not_configured",
    ),
)
def create_agent(wanted: NewAgent, actor: AdminActor, app: Services) -> object:
    """Registers an agent: whoever shows a token of the configured issuer in which the claim has this value calls models
    with these limits and this budget. An identity belongs to one agent at a time."""
    if app.agents is None:
        raise Unavailable("provider_not_configured", "Agents are not set up here; the operator sets BR_AGENT_ISSUER.")
    id = app.new_id("agt")
    register_agent(
        app.store,
        org=actor.org,
        key=id,
        terms=AgentTerms(
            name=wanted.name,
            subject=wanted.value,
            claim=wanted.claim,
            workspace=wanted.workspace_id,
            monthly_budget=wanted.budget_inr,
            rpm_limit=wanted.rpm_limit,
            daily_limit=wanted.daily_limit,
            models=tuple(wanted.models or ()),
        ),
        claims=app.settings.agent_claims,
        org_of=app.directory.directory.orgs.get,
        agents_max=app.settings.agents_max,
        at=app.clock(),
        by=actor.by,
    )
    app.directory.catch_up()
    return _row(app, app.directory.directory.orgs[actor.org], id)


@router.delete("/me/agents/{id}", response_model=AgentDeleted, responses=documented(*WHO, "not_found"))
def delete_agent(id: str, actor: AdminActor, app: Services) -> object:
    """Deletes the agent for good, within a second on every gateway; its identity is free again. Calls that it has in
    flight are finished. A repeat is harmless."""
    agent_of(app.directory.directory.orgs[actor.org], id)
    revoke_key(app.store, org=actor.org, key=id, reason="deleted", at=app.clock(), by=actor.by)
    app.directory.catch_up()
    deleted = app.directory.directory.orgs[actor.org].key(id).revoked
    assert deleted is not None, f"{id} was deleted a moment ago"
    return {"id": id, "deleted": True, "deleted_at": moment(deleted)}


def _row(app: App, org: Org, id: str) -> dict[str, Any]:
    with app.reading() as connection:
        figures = keys.key_row(connection, org.id, id, now=app.clock())
    return agent_row(org, org.key(id), figures)
