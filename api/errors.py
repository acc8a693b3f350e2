"""The one table from refusals to HTTP, and the one envelope in which every error leaves the product."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OutOfCredit,
    Refusal,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UpstreamFailed,
)

TABLE: Mapping[type[Refusal], tuple[int, str]] = {
    Unauthenticated: (401, "authentication_error"),
    OutOfCredit: (402, "billing_error"),
    Forbidden: (403, "permission_error"),
    Invalid: (400, "invalid_request_error"),
    NotFound: (404, "invalid_request_error"),
    Conflict: (409, "invalid_request_error"),
    TooLarge: (413, "invalid_request_error"),
    Unprocessable: (422, "invalid_request_error"),
    TooMany: (429, "rate_limit_error"),
    UpstreamFailed: (502, "api_error"),
    Unavailable: (503, "api_error"),
}
INTERNAL = (500, "api_error")

CODES: Mapping[str, tuple[type[Refusal] | None, str]] = {
    "invalid_api_key": (Unauthenticated, "the key is missing, malformed, unknown, revoked, disabled or expired"),
    "no_session": (Unauthenticated, "a page or call under /me without a session or a full-scope key"),
    "insufficient_credits": (OutOfCredit, "the call's ceiling is more than what is available"),
    "max_cost_exceeded": (OutOfCredit, "the call's ceiling is more than max_cost_inr"),
    "forbidden_role": (Forbidden, "the role in the org does not allow it"),
    "csrf_failed": (Forbidden, "a change by a session without its x-br-csrf token, or from a page of another site"),
    "sign_in_invalid": (Invalid, "the sign-in was begun in another browser, took too long, or is over"),
    "sign_in_refused": (Forbidden, "the person said no, or what the identity provider said does not hold"),
    "sign_in_unavailable": (Unavailable, "the identity provider cannot be reached, or does not answer as it should"),
    "last_owner": (Conflict, "an org that has persons keeps an owner"),
    "member_limit": (Conflict, "the org has as many members and invitations as it may have"),
    "org_limit": (Invalid, "the person has founded as many teams as a person may"),
    "personal_org": (Invalid, "a personal org has one person, and stays with them"),
    "forbidden_scope": (Forbidden, "the key's scope or its list of models does not allow it"),
    "invalid_request": (Invalid, "a field is missing or wrong; `param` names it"),
    "unsupported_parameter": (Invalid, "a field that cannot be served"),
    "no_route": (Invalid, "no route fits the model and the constraints"),
    "duplicate_key_name": (Invalid, "an active key of the org has this name"),
    "key_limit": (Invalid, "the org has as many active keys as it may have, or the key as many ephemeral ones"),
    "trial_ceiling": (Invalid, "more than what is open to trial keys; the message says what that is"),
    "agent_limit": (Invalid, "the org has as many agents as it may have"),
    "endpoint_limit": (Invalid, "the org has as many endpoints as it may have"),
    "compliance_failed": (Unprocessable, "the endpoint did not pass the compliance test; `compliance` says where"),
    "identity_taken": (Conflict, "an agent has this identity already, of this org or of another"),
    "duplicate_workspace_name": (Invalid, "a workspace of the org has this name"),
    "workspace_limit": (Invalid, "the org has as many workspaces as it may have"),
    "default_workspace": (Invalid, "the default workspace cannot be deleted"),
    "looks_like_key": (Invalid, "a collection would hold what looks like a key"),
    "private_step": (Invalid, "a public collection would name an endpoint of the org's own"),
    "collection_limit": (Conflict, "the org has as many collections as it may have"),
    "version_limit": (Conflict, "the collection has as many versions as it may have"),
    "slug_taken": (Conflict, "another collection was given the same slug; try again"),
    "invalid_range": (Invalid, "from and to are no days, out of order, or more than 366 days apart"),
    "model_not_found": (NotFound, "the model is not in the catalog"),
    "not_found": (NotFound, "there is no such thing, or it is not yours"),
    "method_not_allowed": (None, "the path exists, but not with this method"),
    "idempotency_conflict": (Conflict, "the same Idempotency-Key was used before"),
    "invalid_amount": (Invalid, "the amount is too small or too large"),
    "webhook_limit": (Conflict, "the org has as many webhooks as it may have"),
    "webhook_disabled": (Conflict, "the webhook is off; nothing is sent to it until it is enabled"),
    "address_refused": (Invalid, "the URL is not https, has more than one reading, or leads where nothing is called"),
    "invalid_gstin": (Invalid, "the GSTIN has a slip, or belongs to another State than the address"),
    "refund_too_large": (Invalid, "less than that of the payment can be refunded"),
    "nothing_to_refund": (Conflict, "all of the payment is spent, refunded, or claimed by the payer's bank"),
    "too_many_orders": (Conflict, "the org has ordered too many top-ups within a day that it has not paid"),
    "too_many_refunds": (Conflict, "the payment was refunded too often within a day"),
    "refund_under_way": (Conflict, "another refund of the payment has not ended yet"),
    "payload_too_large": (TooLarge, "the body is over the limit"),
    "rate_limit_exceeded": (TooMany, "too many requests of a key, or wrong keys from an address, within a minute"),
    "daily_limit_reached": (TooMany, "the key's daily limit is reached; free again at midnight, India time"),
    "budget_exceeded": (TooMany, "the monthly budget of the key or workspace would be exceeded"),
    "all_routes_failed": (UpstreamFailed, "every route that could be asked failed"),
    "overloaded": (Unavailable, "the gateway has as many calls in flight as it can carry"),
    "ledger_unavailable": (Unavailable, "the ledger cannot be used now: nothing was called, nothing is charged"),
    "receipt_not_ready": (Unavailable, "the PDF is still to be made; the message says what it waits for"),
    "request_open": (Conflict, "the request has not ended yet"),
    "internal_error": (None, "a fault of ours"),
    "payment_refused": (Conflict, "the payment gateway refused; its reason is in the message"),
    "pdf_unavailable": (Unavailable, "PDFs cannot be made on this server yet; the message has the line to type"),
    "billing_address_required": (Invalid, "the org has no billing address with a State yet"),
    "invalid_signature": (Invalid, "the signature does not fit what was signed"),
    "promo_invalid": (Invalid, "the promo code is unknown, disabled, used up, or not valid now"),
    "promo_redeemed": (Conflict, "the org has used this promo code before"),
    "provider_not_configured": (Unavailable, "the operator has not set up what this needs"),
    "payments_unavailable": (Unavailable, "the payment gateway cannot be reached, or does not answer"),
    "provider_broke": (UpstreamFailed, "the provider broke off in the middle of an answer; nothing was charged"),
    "monitor_limit": (Conflict, "the org has as many collections monitored as it may have"),
    "alert_limit": (Conflict, "the collection has as many alerts as it may have"),
    "expired": (None, "the gateway died in the middle of the call; its credit went back"),
}
"""Every code of the contract: the family that it belongs to, and when it is given."""

OTHER_STATUS = {"method_not_allowed": (405, "invalid_request_error"), "internal_error": INTERNAL, "expired": INTERNAL}


def status_of(refusal: Refusal) -> int:
    return _row(refusal)[0]


def error_body(refusal: Refusal) -> bytes:
    """The envelope as JSON; all four fields are always there."""
    return envelope(_row(refusal)[1], refusal.code, refusal.message, refusal.param)


def retry_header(refusal: Refusal) -> bytes:
    """The header line that says when to come back, in whole seconds; empty where the refusal does not know."""
    return b"" if refusal.retry_after is None else b"retry-after: %d\r\n" % refusal.retry_after


def envelope(type: str, code: str, message: str, param: str | None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The error replies of a route for the OpenAPI document: one per status, with an example for each code. Where a key
    may be wrong, wrong ones may be too many."""
    replies: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys((*codes, "rate_limit_exceeded") if "invalid_api_key" in codes else codes):
        status, type = status_and_type(code)
        reply = replies.setdefault(
            status,
            {
                "description": "",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "examples": {}}},
            },
        )
        when = CODES[code][1]
        reply["description"] = "; ".join(filter(None, [reply["description"], f"`{code}`: {when}"]))
        error = {"message": f"{when[0].upper()}{when[1:]}.", "type": type, "param": None, "code": code}
        reply["content"]["application/json"]["examples"][code] = {"value": {"error": error}}
    return replies


def status_and_type(code: str) -> tuple[int, str]:
    """What a code of the contract is answered with; a code that is none is a fault of ours."""
    family = CODES.get(code, (None, ""))[0]
    return OTHER_STATUS.get(code, INTERNAL) if family is None else TABLE[family]


def _row(refusal: Refusal) -> tuple[int, str]:
    return next((TABLE[family] for family in type(refusal).__mro__ if family in TABLE), INTERNAL)
