"""The fallback chains that an org has saved, one for each model: setting and clearing them, and what they add to a
request."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from domain.catalog.catalog import Catalog
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.routing.events import ChainCleared, ChainSet
from domain.routing.needs import OWN_ENDPOINT, Needs, Step
from domain.routing.plan import names_own

STEPS_MAX = 10
NAME_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Chain:
    """`set_at` in microseconds since 1970; `set_by` is the actor."""

    model: str
    steps: tuple[Step, ...]
    set_at: int
    set_by: str


@dataclass(frozen=True, slots=True)
class Chains:
    """The chains of one org by model, in the order in which the models got their first."""

    by_model: Mapping[str, Chain] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Chains":
        match event:
            case ChainSet(model=model):
                return Chains({**self.by_model, model: Chain(model, event.steps, event.at, event.by)})
            case ChainCleared(model=cleared):
                return Chains({model: chain for model, chain in self.by_model.items() if model != cleared})
            case _:
                return self

    def steps(self, model: str) -> tuple[Step, ...]:
        """What comes after a primary of this model, or with a first step that leads also in its place; nothing where no
        chain is saved."""
        chain = self.by_model.get(model)
        return () if chain is None else chain.steps

    def chain(self, model: str) -> Chain:
        """Raises NotFound where none is saved."""
        chain = self.by_model.get(model)
        if chain is None:
            raise NotFound(
                "not_found", f"No chain is saved for '{model}'; PUT /me/routing/{model} saves one.", param="model"
            )
        return chain


def set_chain(
    store: Store,
    *,
    org: str,
    model: str,
    steps: Sequence[Step],
    catalog: Catalog,
    at: int,
    by: str,
    provider: str | None = None,
) -> int | None:
    """Saves the chain in place of the one before it; the same again changes nothing. A `provider` pins the model itself
    for calls that name none.

    Raises NotFound `model_not_found` and Invalid `invalid_request` for a step that could never be taken, unless it was
    saved before. A key or endpoint of the org need not be there: a step that lacks it is skipped until it is.
    """
    check_step(Step(model=model), catalog, param="model")
    lead = () if provider is None else (Step(model=model, provider=provider, saved=True, leads=True),)
    if not 1 <= len(lead) + len(steps) <= STEPS_MAX:
        raise Invalid(
            "invalid_request", f"'fallbacks' takes 1 to {STEPS_MAX} steps; DELETE clears a chain.", param="fallbacks"
        )
    for index, step in enumerate(steps):
        if not step.saved:
            check_step(step, catalog, param=f"fallbacks[{index}]")
    saved = (*lead, *[Step(model=step.model, provider=step.provider, saved=True) for step in steps])

    def decide(state: Chains) -> Decision:
        now = state.by_model.get(model)
        if now is not None and now.steps == saved:
            return []
        return [(f"routing:{org}", ChainSet(org=org, model=model, steps=saved))]

    return store.change(Change(f"routing:{org}", Chains(), decide), at=at, by=by)


def clear_chain(store: Store, *, org: str, model: str, at: int, by: str) -> int | None:
    """Forgets the chain of this model; harmless where there is none."""

    def decide(state: Chains) -> Decision:
        return [(f"routing:{org}", ChainCleared(org=org, model=model))] if model in state.by_model else []

    return store.change(Change(f"routing:{org}", Chains(), decide), at=at, by=by)


def with_chain(needs: Needs, chain: Sequence[Step], *, models: Collection[str] | None) -> Needs:
    """The needs with the saved steps behind the primary, or in its place where the first of them leads; `models` are
    those that the calling key may use, None for all.

    A step that the key may not use is left out: the key was allowed less than its org on purpose.
    """
    steps = [step for step in chain if models is None or step.model in models]
    if not steps:
        return needs
    before = () if steps[0].leads else needs.steps
    return msgspec.structs.replace(needs, steps=(*before, *steps))


def check_step(step: Step, catalog: Catalog, *, param: str) -> None:
    """Raises NotFound `model_not_found` and Invalid `invalid_request` for a step that could never be taken."""
    for name in (step.model, step.provider):
        if name is not None and not (0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable()):
            raise Invalid(
                "invalid_request", f"'{param}' must name 1 to {NAME_CHARACTERS_MAX} printable characters.", param=param
            )
    if step.model not in catalog.models and not names_own(step, catalog):
        raise NotFound(
            "model_not_found", f"There is no model '{step.model}'. GET /v1/models lists those there are.", param=param
        )
    provider = step.provider
    if provider is not None and provider not in catalog.providers and not provider.startswith(OWN_ENDPOINT):
        raise Invalid(
            "invalid_request",
            f"There is no provider '{provider}'. GET /v1/providers lists those there are.",
            param=param,
        )
