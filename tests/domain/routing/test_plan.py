"""Plans: who is asked, in which order, and that no condition of a request can be planned around."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Model, Provider, Route
from domain.catalog.price import make_rates
from domain.kernel.errors import Invalid, NotFound
from domain.routing.eligibility import EXPLANATIONS, Reason
from domain.routing.health import NOTHING_OBSERVED, Health, circuit_name
from domain.routing.needs import Needs, Optimize, Step
from domain.routing.plan import ATTEMPTS_MAX, plan
from domain.routing.ranking import Figures, Standing, order_of
from domain.routing.replies import should_fail_over
from tests.domain.catalog.test_catalog import model


def route(provider: str, to: str, *, price: int = 100, **changes: Any) -> Route:
    priced = Route(
        provider=provider,
        model=to,
        upstream=to,
        residency="",
        rates=make_rates(provider=provider, model=to, priced_on="2026-11-01", input=price, output=price),
        context_length=1000,
        max_output_tokens=100,
    )
    return msgspec.structs.replace(priced, **changes)


def catalog(models: list[Model], routes: list[Route]) -> Catalog:
    ids = dict.fromkeys(route.provider for route in routes)
    providers = [Provider(id=id, name=id, base_url=f"https://{id}.example") for id in ids]
    return assemble(providers=providers, models=models, routes=routes)


CATALOG = catalog(
    [
        model("m"),
        model("fallback", openness="open"),
        model("closed", openness="proprietary"),
        model("vectors", modality="embedding"),
        model("unserved"),
    ],
    [
        route("dear", "m", price=300),
        route("home", "m", price=200, residency="IN"),
        route("cheap", "m", price=100, residency="US"),
        route("cheap", "fallback", price=50),
        route("home", "fallback", price=500, residency="IN"),
        route("cheap", "closed"),
        route("home", "vectors", residency="IN"),
    ],
)
ALL = frozenset({"dear", "home", "cheap"})


def needs(*steps: str | tuple[str, str], **conditions: Any) -> Needs:
    chain = tuple(
        Step(model=step) if isinstance(step, str) else Step(model=step[0], provider=step[1]) for step in steps
    )
    return Needs(steps=chain, **conditions)


def order(
    asked: Needs,
    offered: Catalog = CATALOG,
    configured: frozenset[str] = ALL,
    health: Health = NOTHING_OBSERVED,
) -> list[str]:
    return [f"{each.provider}/{each.model}" for each in plan(asked, offered, configured, health).attempts]


def reasons(asked: Needs, offered: Catalog = CATALOG, configured: frozenset[str] = ALL) -> dict[str, Any]:
    return {each.provider: each.excluded for each in plan(asked, offered, configured).candidates}


def test_routes_are_tried_cheapest_first() -> None:
    assert order(needs("m")) == ["cheap/m", "home/m", "dear/m"]


def test_equal_prices_keep_the_order_of_the_catalog() -> None:
    offered = catalog([model("m")], [route(each, "m") for each in ("b", "c", "a")])
    assert order(needs("m"), offered, frozenset("abc")) == ["b/m", "c/m", "a/m"]


@pytest.mark.parametrize("optimize", get_args(Optimize))
def test_every_way_to_optimize_ranks_unobserved_routes_by_price(optimize: str) -> None:
    assert order(needs("m", optimize=optimize)) == ["cheap/m", "home/m", "dear/m"]


def test_a_pin_binds_the_primary_and_not_its_fallbacks() -> None:
    assert order(needs(("m", "dear"), "fallback")) == ["dear/m", "cheap/fallback", "home/fallback"]


def test_a_pinned_fallback_is_that_provider_and_no_other() -> None:
    assert order(needs("m", ("fallback", "home")))[-1] == "home/fallback"
    assert "cheap/fallback" not in order(needs("m", ("fallback", "home")))


def test_india_only_binds_every_step_and_unknown_residency_is_abroad() -> None:
    assert order(needs("m", "fallback", india_only=True)) == ["home/m", "home/fallback"]
    assert reasons(needs("m", india_only=True)) == {
        "dear": ("residency",),
        "home": (),
        "cheap": ("residency",),
    }


def test_openness_binds_every_step() -> None:
    assert order(needs("fallback", "closed", open_weights=True)) == ["cheap/fallback", "home/fallback"]
    assert order(needs("m", "fallback", permissive=True)) == ["cheap/m", "home/m", "dear/m"]


def test_a_provider_without_a_key_is_passed_over() -> None:
    assert order(needs("m"), configured=frozenset({"dear"})) == ["dear/m"]
    assert reasons(needs("m"), configured=frozenset({"dear"}))["home"] == ("not_configured",)


def test_a_route_without_a_price_is_never_planned() -> None:
    offered = catalog([model("m")], [route("a", "m", rates=None), route("b", "m")])
    assert order(needs("m"), offered, frozenset("ab")) == ["b/m"]
    assert reasons(needs("m"), offered, frozenset("ab"))["a"] == ("no_price",)


def test_a_prompt_that_cannot_fit_is_not_sent() -> None:
    offered = catalog([model("m")], [route("a", "m"), route("b", "m", context_length=9000)])
    long = needs("m", input_tokens=4000, input_tokens_least=2000)
    assert order(long, offered, frozenset("ab")) == ["b/m"]
    assert order(needs("m", input_tokens=4000, input_tokens_least=900), offered, frozenset("ab")) == [
        "a/m",
        "b/m",
    ]


def test_a_prompt_that_might_leave_the_priced_range_is_not_sent() -> None:
    offered = catalog([model("m")], [route("a", "m", priced_to_tokens=500), route("b", "m")])
    assert order(needs("m", input_tokens=501), offered, frozenset("ab")) == ["b/m"]
    assert order(needs("m", input_tokens=500), offered, frozenset("ab")) == ["a/m", "b/m"]


def test_a_route_that_refuses_a_field_of_the_request_is_passed_over() -> None:
    offered = catalog([model("m")], [route("a", "m", refuses=frozenset({"logit_bias"})), route("b", "m")])
    assert order(needs("m", fields=frozenset({"logit_bias"})), offered, frozenset("ab")) == ["b/m"]
    assert order(needs("m", fields=frozenset({"top_p"})), offered, frozenset("ab")) == ["a/m", "b/m"]


def test_only_the_priced_service_tier_is_served() -> None:
    assert order(needs("m", service_tier="auto"))
    with pytest.raises(Invalid, match="service tier asked for"):
        plan(needs("m", service_tier="priority"), CATALOG, ALL)


def test_an_unknown_model_is_not_found_wherever_it_is_named() -> None:
    with pytest.raises(NotFound, match="GET /v1/models") as primary:
        plan(needs("nothing"), CATALOG, ALL)
    assert (primary.value.code, primary.value.param) == ("model_not_found", "model")
    with pytest.raises(NotFound) as fallback:
        plan(needs("m", "fallback", "nothing"), CATALOG, ALL)
    assert fallback.value.param == "fallbacks[1].model"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (needs("closed", india_only=True), "cheap is not resident in India"),
        (needs("closed", open_weights=True), "as open as asked for"),
        (needs("vectors"), "does not serve this kind of request"),
        (needs(("m", "elsewhere")), "'m' at 'elsewhere'"),
        (needs("unserved"), "no provider offers it"),
    ],
)
def test_without_a_route_the_refusal_says_why(asked: Needs, told: str) -> None:
    with pytest.raises(Invalid, match="No route can serve") as refusal:
        plan(asked, CATALOG, ALL)
    assert refusal.value.code == "no_route"
    assert told in refusal.value.message


def test_a_pinned_provider_that_cannot_serve_is_no_route() -> None:
    with pytest.raises(Invalid) as refusal:
        plan(needs(("m", "home")), CATALOG, ALL - {"home"})
    assert refusal.value.code == "no_route"
    assert "home has no key here" in refusal.value.message
    assert "cheap" not in refusal.value.message


def test_every_reason_can_be_put_in_words() -> None:
    assert set(get_args(Reason)) == set(EXPLANATIONS)


@pytest.mark.parametrize("status", [204, 302, 401, 402, 403, 404, 408, 425, 429, 500, 502, 503, 504, 529])
def test_another_route_is_tried_when_the_provider_is_at_fault(status: int) -> None:
    assert should_fail_over(status)


@pytest.mark.parametrize("status", [400, 405, 409, 413, 415, 422])
def test_no_other_route_is_tried_when_the_request_is_at_fault(status: int) -> None:
    assert not should_fail_over(status)


# How routes do


def standing(**given: Any) -> Standing:
    return Standing(**given)


def test_routes_are_ranked_inside_their_step_by_how_they_do() -> None:
    health = {
        "dear/m": standing(latency_micros=1_000),
        "home/m": standing(latency_micros=2_000),
        "cheap/m": standing(latency_micros=3_000),
        "home/fallback": standing(latency_micros=1),
        "cheap/fallback": standing(latency_micros=2),
    }
    asked = needs("m", "fallback", optimize="latency")
    assert order(asked, health=health) == ["dear/m", "home/m", "cheap/m", "home/fallback", "cheap/fallback"]
    assert order(needs("m"), health=health) == ["cheap/m", "home/m", "dear/m"]


@pytest.mark.parametrize("optimize", get_args(Optimize))
def test_a_route_whose_circuit_is_open_goes_last_in_its_step_and_is_not_dropped(optimize: str) -> None:
    health = {"cheap/m": standing(circuit="open", latency_micros=1, tokens_per_kilosecond=9)}
    asked = needs("m", "fallback", optimize=optimize)
    assert order(asked, health=health)[:3] == ["home/m", "dear/m", "cheap/m"]
    assert len(order(asked, health=health)) == 5


@pytest.mark.parametrize("circuit", ["open", "half_open"])
def test_a_pinned_provider_whose_circuit_is_open_is_no_route(circuit: str) -> None:
    health = {"home/m": standing(circuit=circuit)}
    with pytest.raises(Invalid, match="home has failed again and again") as refusal:
        plan(needs(("m", "home")), CATALOG, ALL, health)
    assert refusal.value.code == "no_route"
    assert order(needs(("m", "home"), "fallback"), health=health) == ["cheap/fallback", "home/fallback"]


def test_a_circuit_that_may_be_tried_ranks_as_if_it_were_closed() -> None:
    health = {"cheap/m": standing(circuit="probe")}
    planned = plan(needs("m"), CATALOG, ALL, health)
    assert [each.provider for each in planned.attempts] == ["cheap", "home", "dear"]
    assert planned.probes == {"cheap/m"}
    assert plan(needs(("m", "cheap")), CATALOG, ALL, health).probes == {"cheap/m"}


def test_the_receipt_has_the_figures_only_where_there_was_something_to_choose() -> None:
    assert plan(needs(("m", "home")), CATALOG, ALL).receipt == {}
    assert plan(needs("m"), CATALOG, ALL).receipt == {
        "dear/m": Figures(price=600),
        "home/m": Figures(price=400),
        "cheap/m": Figures(price=200),
    }
    tried = plan(needs(("m", "home")), CATALOG, ALL, {"home/m": standing(circuit="probe")})
    assert tried.receipt == {"home/m": Figures(price=400, circuit="probe")}


# Chains


def test_a_step_that_names_what_only_an_org_can_have_set_up_is_passed_over() -> None:
    asked = needs("m", "byoe:ours", "home/their-model", ("m", "byoe:ours"), "fallback")
    planned = plan(asked, CATALOG, ALL)
    assert [f"{each.provider}/{each.model}" for each in planned.attempts][3:] == ["cheap/fallback", "home/fallback"]
    absent = [each for each in planned.candidates if each.excluded == ("not_configured",)]
    assert [(each.step, each.provider, each.model) for each in absent] == [
        (1, "any", "byoe:ours"),
        (2, "home", "their-model"),
        (3, "byoe:ours", "m"),
    ]


def test_a_saved_step_whose_model_was_withdrawn_is_passed_over_but_a_slip_in_a_request_is_told() -> None:
    saved = Step(model="withdrawn", saved=True)
    asked = needs("m", "fallback")
    assert len(plan(msgspec.structs.replace(asked, steps=(asked.steps[0], saved)), CATALOG, ALL).attempts) == 3
    with pytest.raises(NotFound):
        plan(needs("m", "withdrawn"), CATALOG, ALL)


@pytest.mark.parametrize("primary", ["byoe:ours", "home/their-model"])
def test_a_primary_that_is_not_there_is_not_found(primary: str) -> None:
    with pytest.raises(NotFound) as refusal:
        plan(needs(primary, "m"), CATALOG, ALL)
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


_PROVIDERS = ["p0", "p1", "p2", "p3", "p4", "p5"]
_MODELS = ["m0", "m1", "m2", "m3"]


@st.composite
def offers(draw: st.DrawFn) -> Catalog:
    models = [model(id, openness=draw(st.sampled_from(["proprietary", "open", "permissive"]))) for id in _MODELS]
    pairs = draw(st.lists(st.tuples(st.sampled_from(_PROVIDERS), st.sampled_from(_MODELS)), unique=True, max_size=24))
    routes = []
    for provider, to in pairs:
        made = route(
            provider,
            to,
            price=draw(st.integers(1, 5)),
            residency=draw(st.sampled_from(["IN", "US", "", "in", "INDIA"])),
        )
        routes.append(made if draw(st.booleans()) else msgspec.structs.replace(made, rates=None))
    return catalog(models, routes)


_names = st.sampled_from(_MODELS)
_providers = st.none() | st.sampled_from([*_PROVIDERS, "byoe:ours"])
_own = st.sampled_from(["byoe:ours", "p0/their-model", "p5/m0"])
_steps = st.builds(Step, model=_names, provider=_providers, saved=st.booleans())
_later_steps = _steps | st.builds(Step, model=_own, provider=_providers) | st.just(Step(model="withdrawn", saved=True))
_needs = st.builds(
    Needs,
    steps=st.tuples(_steps, st.lists(_later_steps, max_size=10)).map(lambda steps: (steps[0], *steps[1])),
    optimize=st.sampled_from(get_args(Optimize)),
    india_only=st.booleans(),
    open_weights=st.booleans(),
    permissive=st.booleans(),
)
_standings = st.builds(
    Standing,
    latency_micros=st.none() | st.integers(1, 5_000),
    failures_ppm=st.none() | st.integers(0, 200_000),
    tokens_per_kilosecond=st.none() | st.integers(1, 5_000),
    circuit=st.sampled_from(["closed", "closed", "open", "half_open", "probe"]),
)
_health = st.dictionaries(st.tuples(st.sampled_from(_PROVIDERS), _names).map("/".join), _standings, max_size=24)


def is_slip(step: Step, offered: Catalog) -> bool:
    """A model that nobody has, and that is not spelled like an org's own."""
    endpoint = step.model.startswith("byoe:") or (step.provider or "").startswith("byoe:")
    own = endpoint or step.model.partition("/")[0] in offered.providers
    return step.model not in offered.models and not (step.saved or own)


@given(offers(), _needs, st.frozensets(st.sampled_from(_PROVIDERS)), _health)
def test_no_plan_breaks_a_condition_on_any_step(
    offered: Catalog, asked: Needs, configured: frozenset[str], health: Health
) -> None:
    def is_open(each: Route) -> bool:
        return health.get(circuit_name(each), Standing()).circuit in ("open", "half_open")

    allowed = {
        (each.provider, each.model)
        for step in asked.steps
        for each in offered.routes_of(step.model)
        if step.provider in (None, each.provider)
        and each.provider in configured
        and each.rates is not None
        and (each.residency == "IN" or not asked.india_only)
        and (offered.models[each.model].openness != "proprietary" or not asked.open_weights)
        and (offered.models[each.model].openness == "permissive" or not asked.permissive)
        and not (step.provider and is_open(each))
    }
    if any(is_slip(step, offered) for step in asked.steps):
        with pytest.raises(NotFound):
            plan(asked, offered, configured, health)
        return
    if not allowed:
        with pytest.raises(Invalid, match="No route can serve"):
            plan(asked, offered, configured, health)
        return
    planned = plan(asked, offered, configured, health)
    keys = [(each.provider, each.model) for each in planned.attempts]
    assert len(set(keys)) == len(keys) == min(len(allowed), ATTEMPTS_MAX)
    assert set(keys) <= allowed
    assert all(each.residency == "IN" for each in planned.attempts) or not asked.india_only


@given(offers(), _needs, _health)
def test_the_same_inputs_give_the_same_plan_and_so_does_its_receipt(
    offered: Catalog, asked: Needs, health: Health
) -> None:
    try:
        planned = plan(asked, offered, frozenset(_PROVIDERS), health)
    except (Invalid, NotFound):
        return
    assert plan(asked, offered, frozenset(_PROVIDERS), dict(reversed([*health.items()]))) == planned
    kept = msgspec.json.decode(msgspec.json.encode(planned.receipt), type=dict[str, Figures])
    attempted = [circuit_name(each) for each in planned.attempts]
    assert order_of(asked.optimize, kept)[:ATTEMPTS_MAX] == attempted or (not kept and len(attempted) == 1)
