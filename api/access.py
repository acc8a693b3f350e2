"""Who may call what: the one table, by which every route is tested and of which the page `api/docs/access.md` is made.

A route is added here when it is added to the product. One that demands anything else than is said here fails the tests;
so does a page that is out of date, which `python -m api.access` makes anew.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

PAGE = Path(__file__).parent / "docs" / "access.md"

CALLERS: Mapping[str, str] = {
    "anonymous": "nobody: neither a session nor a key",
    "member": "a session of a member of the org",
    "admin": "a session of an admin of the org",
    "owner": "a session of an owner of the org",
    "other owner": "a session of an owner of another org, who was taken out of this one while looking at it",
    "inference key": "a key of scope `inference`",
    "trial key": "a key of an org on trial",
    "ephemeral key": "a key for minutes or hours that the owner's key minted",
    "agent": "a token of the configured issuer, of an agent of the org",
    "admin's key": "a key of scope `full` that an admin minted",
    "owner's key": "a key of scope `full` that an owner minted",
}

YES = ""
_SESSIONS = ("member", "admin", "owner", "other owner")
_BORROWED = ("trial key", "ephemeral key", "agent")
_FOR_MODELS = ("inference key", *_BORROWED)


def _all_but(refused: Mapping[str, Iterable[str]]) -> Mapping[str, str]:
    """What each caller is answered, if these codes are for these callers and the others are let in."""
    codes = {caller: code for code, callers in refused.items() for caller in callers}
    return {caller: codes.get(caller, YES) for caller in CALLERS}


DEMANDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "public": (
        "Open to all. A key that is shown must be good.",
        _all_but({}),
    ),
    "key": (
        "Any key that is neither revoked, disabled nor expired, or an agent's token.",
        _all_but({"invalid_api_key": ("anonymous", *_SESSIONS)}),
    ),
    "standard_key": (
        "A key that can have keys under it: none of a trial, no ephemeral one, no agent.",
        _all_but({"invalid_api_key": ("anonymous", *_SESSIONS), "forbidden_scope": _BORROWED}),
    ),
    "signed_in": (
        "A person in a session, whatever org they look at, or a key of full scope. They see and change what is theirs.",
        _all_but({"no_session": ("anonymous",), "forbidden_scope": _FOR_MODELS}),
    ),
    "person": (
        "A person in a session, whatever org they look at.",
        _all_but({"no_session": ("anonymous",), "forbidden_scope": (*_FOR_MODELS, "admin's key", "owner's key")}),
    ),
    "member": (
        "Whoever belongs to the org. To read, and to leave.",
        _all_but(
            {"no_session": ("anonymous",), "forbidden_scope": _FOR_MODELS, "forbidden_role": ("other owner",)},
        ),
    ),
    "admin": (
        "Who runs the org: keys, workspaces, people who are no owners.",
        _all_but(
            {
                "no_session": ("anonymous",),
                "forbidden_scope": _FOR_MODELS,
                "forbidden_role": ("member", "other owner"),
            }
        ),
    ),
    "owner": (
        "Whose org it is: money that moves, and whom its documents are made out to.",
        _all_but(
            {
                "no_session": ("anonymous",),
                "forbidden_scope": _FOR_MODELS,
                "forbidden_role": ("member", "admin", "other owner", "admin's key"),
            }
        ),
    ),
    "operator": (
        "Whoever runs the product, by its own token.",
        _all_but({"invalid_api_key": CALLERS}),
    ),
}
"""What a route can demand: in words, and what each caller is answered, `YES` or the code of the refusal."""

ROUTES: Mapping[str, str] = {
    "POST /auth/logout": "person",
    "GET /auth/{provider}": "public",
    "GET /auth/{provider}/callback": "public",
    "GET /docs/access": "public",
    "GET /docs/collections": "public",
    "GET /docs/monitoring": "public",
    "GET /docs/own-keys": "public",
    "GET /docs/verify-ledger": "public",
    "GET /docs/webhooks": "public",
    "GET /docs/verify_ledger.py": "public",
    "GET /health": "public",
    "GET /livez": "public",
    "DELETE /me": "person",
    "GET /me": "signed_in",
    "GET /me/activity": "member",
    "GET /me/activity/events": "member",
    "GET /me/agents": "member",
    "POST /me/agents": "admin",
    "DELETE /me/agents/{id}": "admin",
    "GET /me/audit": "admin",
    "GET /me/billing": "member",
    "GET /me/billing/address": "member",
    "PUT /me/billing/address": "owner",
    "GET /me/billing/documents/{number:path}": "member",
    "GET /me/billing/documents/{number:path}.html": "member",
    "GET /me/billing/ledger.jsonl": "member",
    "PUT /me/billing/low-balance": "admin",
    "GET /me/billing/payments": "member",
    "GET /me/billing/pin/{pin}": "member",
    "POST /me/billing/promo/check": "owner",
    "GET /me/billing/receipts": "member",
    "GET /me/billing/receipts/{payment_id}": "member",
    "GET /me/billing/receipts/{payment_id}.html": "member",
    "GET /me/billing/refunds": "member",
    "POST /me/billing/refunds": "owner",
    "GET /me/billing/refunds/{id}": "member",
    "GET /me/billing/statement": "member",
    "POST /me/billing/topup": "owner",
    "POST /me/billing/verify": "owner",
    "GET /me/collections": "member",
    "POST /me/collections": "admin",
    "POST /me/collections/import/{slug}": "admin",
    "DELETE /me/collections/{slug}/alerts/{alert}": "admin",
    "GET /me/collections/{slug}/alerts": "member",
    "GET /me/collections/{slug}/health": "member",
    "POST /me/collections/{slug}/alerts": "admin",
    "POST /me/collections/{slug}/check": "admin",
    "POST /me/collections/{slug}/monitor": "admin",
    "DELETE /me/collections/{slug}": "admin",
    "GET /me/collections/{slug}": "member",
    "PATCH /me/collections/{slug}": "admin",
    "POST /me/collections/{slug}/fork": "member",
    "DELETE /me/collections/{slug}/star": "person",
    "POST /me/collections/{slug}/star": "person",
    "GET /me/byok": "member",
    "DELETE /me/byok/{provider}": "admin",
    "PUT /me/byok/{provider}": "admin",
    "GET /me/byok/{provider}/models": "member",
    "POST /me/byok/{provider}/test": "admin",
    "GET /me/endpoints": "member",
    "POST /me/endpoints": "admin",
    "POST /me/endpoints/test": "admin",
    "DELETE /me/endpoints/{id}": "admin",
    "GET /me/export": "person",
    "GET /me/invitations": "person",
    "POST /me/invitations/{id}/accept": "person",
    "POST /me/invitations/{id}/decline": "person",
    "GET /me/keys": "member",
    "POST /me/keys": "admin",
    "DELETE /me/keys/{id}": "admin",
    "PATCH /me/keys/{id}": "admin",
    "POST /me/keys/{id}/rotate": "admin",
    "GET /me/members": "member",
    "POST /me/members": "admin",
    "DELETE /me/members/pending/{id}": "admin",
    "DELETE /me/members/{id}": "member",
    "PATCH /me/members/{id}": "admin",
    "GET /me/orgs": "signed_in",
    "POST /me/orgs": "person",
    "POST /me/orgs/switch": "person",
    "DELETE /me/orgs/{id}": "signed_in",
    "POST /me/requests/{id}/dispute": "admin",
    "GET /me/routing": "member",
    "DELETE /me/routing/{model:path}": "admin",
    "GET /me/routing/{model:path}": "member",
    "PUT /me/routing/{model:path}": "admin",
    "GET /me/sessions": "person",
    "DELETE /me/sessions/{id}": "person",
    "GET /me/usage": "member",
    "GET /me/usage/daily": "member",
    "GET /me/webhooks": "admin",
    "POST /me/webhooks": "admin",
    "DELETE /me/webhooks/{id}": "admin",
    "PATCH /me/webhooks/{id}": "admin",
    "GET /me/webhooks/{id}/deliveries": "admin",
    "POST /me/webhooks/{id}/deliveries/{delivery}/redeliver": "admin",
    "POST /me/webhooks/{id}/rotate": "admin",
    "POST /me/webhooks/{id}/test": "admin",
    "GET /me/workspaces": "member",
    "POST /me/workspaces": "admin",
    "DELETE /me/workspaces/{id}": "admin",
    "PATCH /me/workspaces/{id}": "admin",
    "GET /metrics": "operator",
    "GET /openapi.json": "public",
    "GET /readyz": "public",
    "GET /sign-in": "public",
    "GET /status": "public",
    "GET /status.json": "public",
    "GET /status.rss": "public",
    "POST /v1/chat/completions": "key",
    "GET /v1/collections": "public",
    "GET /v1/collections/{slug}": "public",
    "GET /v1/compare/models": "public",
    "POST /v1/embeddings": "key",
    "POST /v1/ephemeral_keys": "standard_key",
    "GET /v1/key": "key",
    "GET /v1/models": "public",
    "GET /v1/models/{id:path}": "public",
    "GET /v1/models/{id:path}/stats": "public",
    "GET /v1/pricing/compare": "public",
    "GET /v1/providers": "public",
    "POST /v1/quote": "key",
    "GET /v1/rankings": "public",
    "GET /v1/requests/{id}": "key",
    "GET /verify/{number:path}": "public",
    "POST /webhooks/razorpay": "public",
}
"""What each route demands, by method and path."""

NOTES: Mapping[str, str] = {
    "DELETE /me/orgs/{id}": "takes an owner of the org that is named; to all others it is not there",
    "DELETE /me/members/{id}": "everybody themself; others by an admin, owners by an owner",
    "PATCH /me/members/{id}": "owners are made and changed by owners",
    "POST /me/members": "owners are invited by owners",
    "DELETE /me/members/pending/{id}": "owners' invitations are withdrawn by owners",
}


def render() -> str:
    """The page, Markdown."""
    lines = [
        "# Who may call what",
        "",
        "Every route demands exactly one of the following of its callers; one that demands nothing cannot be built.",
        "Roles and sessions are looked up for each call: a changed role, a removed member, an ended session and a",
        "revoked key are in force on every gateway within a second.",
        "",
        "A key of full scope acts in its org with the role of whoever minted it, and never with more than that person",
        "has at the moment. A change by a session needs its `x-br-csrf` token, and must come from a page of this site:",
        "`csrf_failed` otherwise. What belongs to another org is `not_found`, whoever asks.",
        "",
        "## Callers",
        "",
        *[f"- **{caller}**: {what}" for caller, what in CALLERS.items()],
        "",
        "## Demands",
        "",
        *[f"- **{demand}**: {what}" for demand, (what, _) in DEMANDS.items()],
        "",
        _row("demand", *CALLERS),
        _row(*["---"] * (len(CALLERS) + 1)),
    ]
    for demand, (_, answers) in DEMANDS.items():
        lines.append(
            _row(f"**{demand}**", *[f"`{answers[caller]}`" if answers[caller] else "yes" for caller in CALLERS])
        )
    lines += ["", "## Routes", ""]
    for demand in DEMANDS:
        routes = sorted((route for route, said in ROUTES.items() if said == demand), key=_by_path)
        lines += [f"### {demand}", "", *[_line(route) for route in routes], ""]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _line(route: str) -> str:
    return f"- `{route}`" + (f": {NOTES[route]}" if route in NOTES else "")


def _by_path(route: str) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    return path, method


if __name__ == "__main__":
    PAGE.write_text(render())
