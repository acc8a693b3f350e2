"""A disputed request, as its org sees it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.money import Amount, show
from api.schemas.times import moment, moment_optional
from domain.ledger.dispute import Dispute


class NewDispute(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"reason": "The answer broke off in the middle of a sentence."}},
    )

    reason: str = Field(min_length=1, max_length=2_000, description="What went wrong, for whoever looks at it")


class DisputeRow(BaseModel):
    """`state` is `queued` for an operator, or `decided`. Then `outcome` is `given_back`, `stands` or `nothing_charged`,
    `why` says why, and `given_back_inr` is what came back."""

    request_id: str
    state: Literal["queued", "decided"]
    charged_inr: Amount
    outcome: str | None
    given_back_inr: Amount
    why: str | None
    disputed_at: str
    decided_at: str | None


def dispute_row(request: str, dispute: Dispute) -> dict[str, Any]:
    disputed, decided = dispute.disputed, dispute.decided
    assert disputed is not None, "it was disputed just now, or before"
    return {
        "request_id": request,
        "state": "queued" if decided is None else "decided",
        "charged_inr": show(disputed.cost),
        "outcome": decided and decided.outcome,
        "given_back_inr": show(decided.amount if decided else 0),
        "why": decided and decided.why,
        "disputed_at": moment(disputed.at),
        "decided_at": moment_optional(decided.at if decided else None),
    }
