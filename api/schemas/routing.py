"""Saved fallback chains as callers write and read them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.times import moment
from domain.routing.chains import Chain
from domain.routing.needs import Step


class ChainStep(BaseModel):
    """A model of the catalog, one that the org's own key opens (`provider/model-id`), or an endpoint of its own
    (`byoe:<slug>`); `provider` pins it."""

    model_config = ConfigDict(extra="forbid")

    model: str
    provider: str | None = None


class NewChain(BaseModel):
    """1 to 10 steps that are tried in this order after the model itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"fallbacks": [{"model": "llama-3.3-70b"}, {"model": "gpt-5-mini"}]}},
    )

    fallbacks: list[ChainStep]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(Step(model=step.model, provider=step.provider) for step in self.fallbacks)


class ChainRow(BaseModel):
    object: str = "routing_chain"
    model: str
    provider: str | None = Field(description="Where the model itself is called, by an imported collection")
    fallbacks: list[ChainStep]
    updated_at: str
    updated_by: str


class ChainList(BaseModel):
    object: str = "list"
    data: list[ChainRow]


class ClearedChain(BaseModel):
    model: str
    deleted: bool = True


def chain_row(chain: Chain) -> dict[str, Any]:
    return {
        "object": "routing_chain",
        "model": chain.model,
        "provider": next((step.provider for step in chain.steps if step.leads), None),
        "fallbacks": [{"model": step.model, "provider": step.provider} for step in chain.steps if not step.leads],
        "updated_at": moment(chain.set_at),
        "updated_by": chain.set_by,
    }
