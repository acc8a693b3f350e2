"""Saved fallback chains: what may be saved, what is in force, and what they add to a request."""

import pytest

from domain.kernel.errors import Invalid, NotFound
from domain.routing.chains import STEPS_MAX, Chains, clear_chain, set_chain, with_chain
from domain.routing.events import ChainSet
from domain.routing.needs import Needs, Step
from domain.routing.plan import plan
from tests.domain.routing.test_plan import CATALOG
from tests.memory_store import MemoryStore

NOON = 1


class Org:
    def __init__(self) -> None:
        self.store = MemoryStore()

    def sets(self, model: str, *steps: Step) -> int | None:
        return set_chain(self.store, org="org_a", model=model, steps=steps, catalog=CATALOG, at=NOON, by="user:usr_a")

    def clears(self, model: str) -> int | None:
        return clear_chain(self.store, org="org_a", model=model, at=NOON, by="user:usr_a")

    @property
    def chains(self) -> Chains:
        return self.store.fold("routing:org_a", Chains())


def step(model: str, provider: str | None = None) -> Step:
    return Step(model=model, provider=provider)


def test_a_chain_is_kept_for_each_model_until_it_is_replaced_or_cleared() -> None:
    org = Org()
    org.sets("m", step("fallback"))
    org.sets("fallback", step("m", "home"))
    assert [each.model for each in org.chains.steps("m")] == ["fallback"]
    org.sets("m", step("closed"), step("fallback", "cheap"))
    assert org.chains.steps("m") == (
        Step(model="closed", saved=True),
        Step(model="fallback", provider="cheap", saved=True),
    )
    assert org.chains.chain("m").set_by == "user:usr_a"
    org.clears("m")
    assert org.chains.steps("m") == ()
    with pytest.raises(NotFound):
        org.chains.chain("m")
    assert org.chains.steps("fallback") != ()


def test_repeats_put_nothing_on_record() -> None:
    org = Org()
    assert org.sets("m", step("fallback")) is not None
    assert org.sets("m", step("fallback")) is None
    assert org.clears("m") is not None
    assert org.clears("m") is None
    assert org.store.names() == ["ChainSet", "ChainCleared"]


def test_steps_may_name_what_the_org_has_not_set_up_yet() -> None:
    org = Org()
    org.sets("m", step("byoe:ours"), step("home/their-model"), step("m", "byoe:ours"))
    [(_, event)] = org.store.facts
    assert isinstance(event, ChainSet)
    assert len(event.steps) == 3


@pytest.mark.parametrize("wrong", [step("nothing"), step("nobody/model"), step("")])
def test_a_step_that_could_never_be_taken_is_refused(wrong: Step) -> None:
    with pytest.raises((Invalid, NotFound)) as refusal:
        Org().sets("m", step("fallback"), wrong)
    assert refusal.value.param == "fallbacks[1]"


def test_a_chain_needs_a_known_model_known_providers_and_one_to_ten_steps() -> None:
    with pytest.raises(NotFound, match="nothing"):
        Org().sets("nothing", step("m"))
    with pytest.raises(Invalid, match="no provider 'nobody'"):
        Org().sets("m", step("fallback", "nobody"))
    with pytest.raises(Invalid, match="1 to 10"):
        Org().sets("m")
    with pytest.raises(Invalid, match="1 to 10"):
        Org().sets("m", *[step("fallback")] * (STEPS_MAX + 1))


def test_a_key_that_may_use_some_models_only_skips_the_steps_of_others() -> None:
    needs = Needs(steps=(step("m"),))
    chain = (step("fallback"), step("closed"))
    assert with_chain(needs, chain, models=None).steps == (step("m"), *chain)
    assert with_chain(needs, chain, models={"m", "closed"}).steps == (step("m"), step("closed"))
    assert with_chain(needs, chain, models={"m"}) is needs


def test_a_chain_may_pin_the_model_itself_for_calls_that_name_no_provider() -> None:
    org = Org()
    common = {"org": "org_a", "catalog": CATALOG, "at": NOON, "by": "user:usr_a"}
    set_chain(org.store, model="m", steps=[step("fallback")], provider="home", **common)
    led = with_chain(Needs(steps=(step("m"),)), org.chains.steps("m"), models={"m"})
    assert [(each.model, each.provider) for each in led.steps] == [("m", "home")]
    assert [each.provider for each in plan(led, CATALOG, {"home", "cheap"}).attempts] == ["home"]
    set_chain(org.store, model="m", steps=[], provider="home", **common)
    assert len(org.chains.steps("m")) == 1
    with pytest.raises(Invalid, match="1 to 10"):
        set_chain(org.store, model="m", steps=[step("fallback")] * STEPS_MAX, provider="home", **common)


def test_a_step_that_was_saved_before_may_name_what_is_gone() -> None:
    org = Org()
    gone = Step(model="was-there-once", saved=True)
    set_chain(org.store, org="org_a", model="m", steps=[gone], catalog=CATALOG, at=NOON, by="user:usr_a")
    assert org.chains.steps("m") == (gone,)
