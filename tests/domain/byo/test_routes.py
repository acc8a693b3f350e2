"""Plans of orgs with keys and endpoints of their own, and that nobody else's plan is changed by them."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.byo.own import Own, OwnEndpoint, OwnKey
from domain.byo.routes import FREE, models_of, with_given_key, with_own
from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Provider, Route, key_source
from domain.kernel.errors import Invalid, NotFound
from domain.routing.health import NOTHING_OBSERVED, Health, circuit_name
from domain.routing.needs import Needs, Optimize, Step
from domain.routing.plan import ATTEMPTS_MAX, Plan, own_alone, plan
from domain.routing.ranking import Figures, Standing, order_of
from tests.domain.catalog.test_catalog import model
from tests.domain.routing.test_plan import needs, route

ORG = "org_a"


def key(provider: str, *, always_use: bool = False, discovered: tuple[str, ...] = ()) -> OwnKey:
    return OwnKey(
        provider=provider,
        host=f"{provider}.example",
        sealed="s",
        mask="…",
        label="",
        always_use=always_use,
        verified=True,
        discovered=discovered,
        saved_at=1,
        checked_at=1,
    )


def endpoint(slug: str, to: str = "m", *, residency: str = "") -> OwnEndpoint:
    return OwnEndpoint(
        id=f"end_{slug}",
        slug=slug,
        name=slug,
        model=to,
        base_url=f"https://{slug}.example/v1",
        upstream=f"their-{to}",
        residency=residency,
        sealed="",
        mask="",
        added_at=1,
    )


def own(*keys: OwnKey, endpoints: tuple[OwnEndpoint, ...] = ()) -> Own:
    return Own({each.provider: each for each in keys}, {each.slug: each for each in endpoints})


def offered(routes: list[Route], *, keyless: tuple[str, ...] = ()) -> Catalog:
    models = dict.fromkeys(each.model for each in routes)
    providers = [
        Provider(
            id=id,
            name=id,
            base_url=f"https://{id}.example",
            auth="none" if id in keyless else "bearer",
            residency=next(each.residency for each in routes if each.provider == id),
        )
        for id in dict.fromkeys(each.provider for each in routes)
    ]
    return assemble(providers=providers, models=[model(id) for id in models], routes=routes)


CATALOG = offered(
    [
        route("dear", "m", price=300),
        route("home", "m", price=200, residency="IN"),
        route("cheap", "m", price=100, residency="US"),
        route("cheap", "fallback", price=50, residency="US", upstream="cheap-name"),
        route("home", "unpriced", residency="IN", rates=None),
        route("free", "m", price=400),
    ],
    keyless=("free",),
)
ALL = frozenset({"dear", "home", "cheap", "free"})


def planned(
    asked: Needs,
    brought: Own,
    *,
    catalog: Catalog = CATALOG,
    configured: frozenset[str] = ALL,
    health: Health = NOTHING_OBSERVED,
) -> Plan:
    theirs, steps = with_own(catalog, brought, ORG, asked.steps)
    return plan(msgspec.structs.replace(asked, steps=steps), theirs, configured, health)


def order(asked: Needs, brought: Own, **more: Any) -> list[str]:
    return [each.name for each in planned(asked, brought, **more).attempts]


PLATFORM = ["cheap/m", "home/m", "dear/m", "free/m"]


def test_the_orgs_key_goes_first_and_the_platforms_after_it() -> None:
    assert order(needs("m"), own(key("dear"))) == ["own:dear/m", *PLATFORM]
    assert order(needs("m"), own(key("dear"), key("home"))) == ["own:home/m", "own:dear/m", *PLATFORM]
    assert order(needs(("m", "dear")), own(key("dear"))) == ["own:dear/m", "dear/m"]


def test_with_always_use_the_platforms_key_is_never_used_there() -> None:
    assert order(needs("m"), own(key("cheap", always_use=True))) == ["own:cheap/m", "home/m", "dear/m", "free/m"]
    assert order(needs(("m", "cheap")), own(key("cheap", always_use=True))) == ["own:cheap/m"]


def test_a_provider_that_the_platform_has_no_key_or_price_for_serves_on_the_orgs() -> None:
    assert order(needs("m"), own(key("dear")), configured=frozenset()) == ["own:dear/m"]
    assert order(needs("unpriced"), own(key("home"))) == ["own:home/unpriced"]
    with pytest.raises(Invalid, match="only with your own key"):
        planned(needs("unpriced"), own())


def test_what_the_org_brought_costs_nothing_and_keeps_the_residency_of_its_provider() -> None:
    first, *_ = planned(needs("m"), own(key("home"))).attempts
    assert (first.rates, first.residency, first.owner) == (FREE, "IN", ORG)
    assert (FREE.input, FREE.cached_input, FREE.cache_write, FREE.output, FREE.per_request) == (0, 0, 0, 0, 0)
    assert order(needs("m", india_only=True), own(key("cheap"), key("home"))) == ["own:home/m", "home/m"]


def test_a_model_that_the_provider_lists_is_called_by_the_providers_name_on_the_orgs_key_alone() -> None:
    brought = own(key("cheap", discovered=("new-one", "cheap-name", "text-embed-3")))
    (new,) = planned(needs("cheap/new-one"), brought).attempts
    assert (new.provider, new.upstream, new.model, new.rates) == ("cheap", "new-one", "new-one", FREE)
    (known,) = planned(needs("cheap/cheap-name"), brought).attempts
    assert (known.name, known.upstream) == ("own:cheap/fallback", "cheap-name")
    assert order(needs("cheap/m"), brought) == ["own:cheap/m"]
    assert order(needs("cheap/text-embed-3", modality="embedding"), brought) == ["own:cheap/text-embed-3"]
    assert models_of(brought.keys["cheap"], CATALOG) == ["cheap-name", "fallback", "m", "new-one", "text-embed-3"]
    for missing in ("cheap/unheard-of", "home/new-one", "dear/m"):
        with pytest.raises(NotFound):
            planned(needs(missing), brought)


def test_what_no_catalog_knows_counts_as_closed() -> None:
    brought = own(key("cheap", discovered=("new-one",)), endpoints=(endpoint("box", "what"), endpoint("mine", "m")))
    for step in ("cheap/new-one", "byoe:box"):
        with pytest.raises(Invalid, match="as open as asked for"):
            planned(needs(step, open_weights=True), brought)
    assert order(needs("byoe:mine", permissive=True), brought) == ["byoe:mine/m"]


def test_an_endpoint_is_named_as_a_model_or_as_the_provider_of_its_model() -> None:
    brought = own(endpoints=(endpoint("box", "their-own"),))
    assert order(needs("byoe:box"), brought) == ["byoe:box/their-own"]
    assert order(needs(("their-own", "byoe:box")), brought) == ["byoe:box/their-own"]
    assert order(needs("m", ("their-own", "byoe:box")), brought) == [*PLATFORM, "byoe:box/their-own"]
    assert order(needs("m", ("fallback", "byoe:box")), brought) == PLATFORM
    with pytest.raises(NotFound):
        planned(needs("byoe:gone"), brought)


def test_an_endpoint_is_where_its_org_says_it_is() -> None:
    brought = own(endpoints=(endpoint("pune", residency="IN"), endpoint("ohio", residency="US"), endpoint("nowhere")))
    asked = needs("m", "byoe:ohio", "byoe:nowhere", "byoe:pune", india_only=True)
    assert order(asked, brought) == ["home/m", "byoe:pune/m"]


def test_chains_mix_what_is_the_platforms_and_the_orgs_in_the_order_of_their_steps() -> None:
    brought = own(key("cheap", discovered=("new-one",)), endpoints=(endpoint("box"),))
    asked = needs(("m", "home"), "byoe:box", "byoe:gone", "cheap/new-one", "dear/none", "fallback")
    assert order(asked, brought) == [
        "home/m",
        "byoe:box/m",
        "own:cheap/new-one",
        "own:cheap/fallback",
        "cheap/fallback",
    ]


def test_circuits_are_the_orgs_own() -> None:
    brought = own(key("dear"), endpoints=(endpoint("box"),))
    open_for_us: Health = {f"{ORG}:dear/m": Standing(circuit="open")}
    assert order(needs("m"), brought, health=open_for_us) == [*PLATFORM, "own:dear/m"]
    assert order(needs("m"), brought, health={"org_b:dear/m": Standing(circuit="open")})[0] == "own:dear/m"
    assert order(needs("m"), brought, health={"dear/m": Standing(circuit="open")}) == [
        "own:dear/m",
        "cheap/m",
        "home/m",
        "free/m",
        "dear/m",
    ]
    (to_box,) = planned(needs("byoe:box"), brought).attempts
    assert circuit_name(to_box) == f"{ORG}:byoe:box/m"


def test_names_of_routes_say_on_whose_key_they_are_called() -> None:
    brought = own(key("dear"), endpoints=(endpoint("box"),))
    named = {each.name: each.owner for each in planned(needs("m", "byoe:box"), brought).attempts}
    assert {name: key_source(name) == "own" for name in named} == {name: bool(owner) for name, owner in named.items()}


def test_without_money_what_is_the_orgs_own_is_left() -> None:
    chosen = planned(needs("m", "fallback"), own(key("dear"), key("cheap")))
    left = own_alone(chosen)
    assert left is not None
    assert [each.name for each in left.attempts] == ["own:cheap/m", "own:dear/m", "own:cheap/fallback"]
    assert order_of("price", left.receipt) == [each.name for each in left.attempts]
    assert {each.provider for each in left.candidates if each.excluded == ("no_credit",)} == {*ALL}
    assert own_alone(left) is None
    assert own_alone(planned(needs("m"), own())) is None


# A key that comes with the request


def given_order(asked: Needs) -> list[str]:
    theirs, steps = with_given_key(CATALOG, ORG, asked.steps)
    return [each.name for each in plan(msgspec.structs.replace(asked, steps=steps), theirs, ALL).attempts]


def test_a_given_key_is_for_the_pinned_provider_and_no_other_step_finds_it() -> None:
    assert given_order(needs(("m", "dear"))) == ["own:dear/m"]
    assert given_order(needs("dear/m")) == ["own:dear/m"]
    assert given_order(needs(("m", "dear"), "m")) == ["own:dear/m", *PLATFORM]
    theirs, steps = with_given_key(CATALOG, ORG, needs(("m", "dear"), "m").steps)
    chosen = plan(Needs(steps=steps), theirs, ALL)
    assert [each.name for each in chosen.attempts if each.given] == ["own:dear/m"]


def test_without_a_pin_the_routes_are_ranked_by_list_price_and_nothing_follows() -> None:
    assert given_order(needs("m", "fallback")) == ["own:cheap/m", "own:home/m", "own:dear/m"]


def test_who_takes_no_key_is_given_none() -> None:
    with pytest.raises(Invalid) as refusal:
        given_order(needs(("m", "free")))
    assert refusal.value.code == "no_route"


# Whatever there is


_PROVIDERS = ["p0", "p1", "p2", "p3"]
_MODELS = ["m0", "m1", "m2"]
_SLUGS = ["box", "pune"]


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    pairs = draw(
        st.lists(st.tuples(st.sampled_from(_PROVIDERS), st.sampled_from(_MODELS)), unique=True, min_size=1, max_size=12)
    )
    residency = {id: draw(st.sampled_from(["IN", "US", ""])) for id in _PROVIDERS}
    return offered(
        [route(id, to, price=draw(st.integers(1, 5)), residency=residency[id]) for id, to in dict.fromkeys(pairs)]
    )


_keys = st.lists(
    st.builds(
        key,
        st.sampled_from(_PROVIDERS),
        always_use=st.booleans(),
        discovered=st.sampled_from([(), ("new",), ("new", "m0")]),
    ),
    max_size=4,
)
_endpoints = st.lists(
    st.builds(
        endpoint, st.sampled_from(_SLUGS), st.sampled_from(["m0", "own"]), residency=st.sampled_from(["IN", "US", ""])
    ),
    max_size=2,
).map(tuple)
_owns = st.builds(lambda keys, endpoints: own(*keys, endpoints=endpoints), _keys, _endpoints)
_step = st.builds(
    Step,
    model=st.sampled_from([*_MODELS, "p0/new", "p1/m0", "p2/new", "byoe:box", "byoe:pune", "own"]),
    provider=st.none() | st.sampled_from([*_PROVIDERS, "byoe:box"]),
    saved=st.just(True),
)
_primary = st.builds(Step, model=st.sampled_from(_MODELS), provider=st.none() | st.sampled_from(_PROVIDERS))
_needs = st.builds(
    Needs,
    steps=st.tuples(_primary, st.lists(_step, max_size=5)).map(lambda steps: (steps[0], *steps[1])),
    optimize=st.sampled_from(get_args(Optimize)),
    india_only=st.booleans(),
    open_weights=st.booleans(),
)
_standings = st.builds(
    Standing,
    latency_micros=st.none() | st.integers(1, 5_000),
    failures_ppm=st.none() | st.integers(0, 200_000),
    circuit=st.sampled_from(["closed", "open", "half_open", "probe"]),
)
_routes = st.tuples(st.sampled_from(["", f"{ORG}:", "org_b:"]), st.sampled_from(_PROVIDERS), st.sampled_from(_MODELS))
_health = st.dictionaries(_routes.map(lambda each: f"{each[0]}{each[1]}/{each[2]}"), _standings, max_size=12)
_configured = st.frozensets(st.sampled_from(_PROVIDERS))


def either(asked: Needs, catalog: Catalog, configured: frozenset[str], health: Health) -> Plan | str:
    try:
        return plan(asked, catalog, configured, health)
    except (Invalid, NotFound) as refusal:
        return refusal.message


@given(catalogs(), _owns, _needs, _configured, _health)
def test_whatever_an_org_brings_its_plans_keep_every_condition(
    catalog: Catalog, brought: Own, asked: Needs, configured: frozenset[str], health: Health
) -> None:
    theirs, steps = with_own(catalog, brought, ORG, asked.steps)
    chosen = either(msgspec.structs.replace(asked, steps=steps), theirs, configured, health)
    if isinstance(chosen, str):
        return
    names = [each.name for each in chosen.attempts]
    assert len(set(names)) == len(names) <= ATTEMPTS_MAX
    for each in chosen.attempts:
        assert each.residency == "IN" or not asked.india_only
        assert (each.rates == FREE) == (each.owner == ORG)
        assert each.owner in ("", ORG)
        if each.owner == "":
            assert each.provider in configured
            always = each.provider in brought.keys and brought.keys[each.provider].always_use
            assert not always, "the platform's key is never used where the org's always is"
        else:
            known = each.provider in brought.keys or each.provider.removeprefix("byoe:") in brought.endpoints
            assert known, "nothing that the org did not bring"
    kept = msgspec.json.decode(msgspec.json.encode(chosen.receipt), type=dict[str, Figures])
    assert order_of(asked.optimize, kept)[:ATTEMPTS_MAX] == names or (not kept and len(names) == 1)
    for name, figures in chosen.observed.items():
        siblings = [other for other, each in chosen.observed.items() if each.step == figures.step and each.own]
        if not figures.own and not figures.avoided:
            before = [other for other in siblings if not chosen.observed[other].avoided]
            assert all(names.index(other) < names.index(name) for other in before if {other, name} <= {*names})


@given(catalogs(), _owns, _needs, _configured, _health)
def test_what_one_org_brings_changes_nothing_for_an_org_that_brings_nothing(
    catalog: Catalog, brought: Own, asked: Needs, configured: frozenset[str], health: Health
) -> None:
    before = either(asked, catalog, configured, health)
    with_own(catalog, brought, ORG, asked.steps)
    assert either(asked, catalog, configured, health) == before
    theirs, steps = with_own(catalog, Own(), "org_b", asked.steps)
    assert theirs is catalog
    assert steps == asked.steps
    only_ours = {name: each for name, each in health.items() if ":" not in name}
    assert either(asked, catalog, configured, only_ours) == before, "circuits of orgs count for them alone"


@given(catalogs(), _needs, _configured)
def test_a_given_key_reaches_the_routes_of_the_primary_alone(
    catalog: Catalog, asked: Needs, configured: frozenset[str]
) -> None:
    theirs, steps = with_given_key(catalog, ORG, asked.steps)
    chosen = either(msgspec.structs.replace(asked, steps=steps), theirs, configured, NOTHING_OBSERVED)
    if isinstance(chosen, str):
        return
    primary = asked.steps[0]
    for each in chosen.attempts:
        assert each.given == (each.owner == ORG)
        if each.given:
            assert each.model == primary.model
            assert primary.provider in (None, each.provider)
    if primary.provider is None:
        assert all(each.given for each in chosen.attempts)
