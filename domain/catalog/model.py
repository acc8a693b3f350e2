"""Providers, models, and the routes between them, as plain data."""

from typing import Literal

import msgspec

from domain.catalog.price import Rates
from domain.inference.metering import UsageSemantics

INDIA = "IN"
OWN_ENDPOINT = "byoe:"
"""What the name of an org's own endpoint begins with."""
OWN_KEY = "own:"
"""What the name of a route begins with that is called on an org's own key."""

Modality = Literal["chat", "embedding", "transcription", "speech"]
Openness = Literal["proprietary", "open", "permissive"]
WireName = Literal["openai", "anthropic", "gemini", "cohere", "bedrock"]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Whom we call, and what is peculiar about it.

    `base_url` may hold names of variables, as `{BR_AZURE_RESOURCE}`, for what differs from account to account.
    `residency` is an ISO 3166 country, empty where unknown, which counts as abroad. `auth` is `bearer`,
    `header:<name>` or `none`; `key_env` names the variable that holds the platform's key, empty where the
    platform has none. `headers` go with every call. `paths` are where the wire's own paths do not hold: by
    `chat`, `stream`, `embeddings` or `models`, with `{model}` for the provider's name of the model.
    `output_limit_field` is the request field that caps output there.
    """

    id: str
    name: str
    base_url: str
    residency: str = ""
    auth: str = "none"
    key_env: str = ""
    headers: dict[str, str] = {}
    wire: WireName = "openai"
    paths: dict[str, str] = {}
    usage: UsageSemantics = UsageSemantics()
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    @property
    def keyless(self) -> bool:
        return self.auth == "none"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller names. `created` is when it was listed, in Unix seconds; token limits are the widest of
    any route.
    """

    id: str
    name: str
    created: int
    owned_by: str
    modality: Modality
    context_length: int
    max_output_tokens: int
    openness: Openness
    capabilities: tuple[str, ...] = ()
    reasoning: bool = False


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one provider, under the provider's own name for it.

    `rates` is None where we have no price: such a route serves only a caller's own key. `priced_to_tokens`
    is the longest input that the rates hold for, 0 for any. `refuses` are request fields that the provider
    rejects, `takes` the only ones that its wire can say, None where it says all of OpenAI's.

    `owner` is the org on whose own key or endpoint it is called, free of charge; empty where it is called on the
    platform's. What the platform would ask for is `listed` then, None where it has no price. `given`: the key came with
    the request.
    """

    provider: str
    model: str
    upstream: str
    residency: str
    rates: Rates | None
    context_length: int
    max_output_tokens: int
    priced_to_tokens: int = 0
    refuses: frozenset[str] = frozenset()
    takes: frozenset[str] | None = None
    owner: str = ""
    listed: Rates | None = None
    given: bool = False

    @property
    def name(self) -> str:
        """As receipts have it: `provider/model`, and `own:provider/model` on an org's own key."""
        own = self.owner and not self.provider.startswith(OWN_ENDPOINT)
        return f"{OWN_KEY}{self.provider}/{self.model}" if own else f"{self.provider}/{self.model}"

    @property
    def byok_only(self) -> bool:
        return self.rates is None


def key_source(route: str) -> Literal["platform", "own"]:
    """Whose key or endpoint a route of that name is called on."""
    return "own" if route.startswith((OWN_KEY, OWN_ENDPOINT)) else "platform"
