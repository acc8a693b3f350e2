"""Collections: what may be in one, who may do what with it, and that forks are snapshots."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from domain.accounts.events import OrgDeleted
from domain.collections.collection import Collection, Shelf, make_slug, read_slug, shelf_stream
from domain.collections.events import CollectionChanged, CollectionCreated, CollectionStarred, CollectionUnstarred
from domain.collections.service import (
    MADE_A_DAY_MAX,
    VERSIONS_MAX,
    Draft,
    Wishes,
    apply_collection,
    change_collection,
    create_collection,
    delete_collection,
    fork_collection,
    look_at,
    star_collection,
    unstar_collection,
)
from domain.kernel.clock import DAY
from domain.kernel.errors import Conflict, Invalid, NotFound, TooMany, Unauthenticated
from domain.routing.chains import STEPS_MAX, Chains, with_chain
from domain.routing.needs import Needs, Step
from tests.domain.collections.played import CHAINS, STEPS, Played, content
from tests.domain.routing.test_plan import CATALOG

M = Step(model="m")


@pytest.fixture
def world() -> Played:
    return Played()


def make(world: Played, org: str = "org_a", *, limit: int = 8, **draft: Any) -> str:
    given: dict[str, Any] = {"name": "Chain", "model": "m", "steps": (M,)} | draft
    who = world.made_by(org) | {"collections_max": limit}
    return create_collection(world.store, world.seals, draft=Draft(**given), **who)


def change(world: Played, slug: str, org: str = "org_a", **wishes: Any) -> int | None:
    who = {"org": org, "slug": slug, "at": world.at, "by": "test"}
    return change_collection(world.store, world.seals, wishes=Wishes(**wishes), catalog=CATALOG, **who)


def fork(world: Played, source: str, org: str = "org_b", *, reuse: bool = False) -> str:
    who = world.made_by(org) | {"source": source, "org_of": world.org_of, "reuse": reuse}
    who.pop("catalog")
    return fork_collection(world.store, world.seals, **who)


def star(world: Played, slug: str, *, org: str = "org_b", person: str = "usr_asha", back: bool = False) -> int | None:
    act = unstar_collection if back else star_collection
    return act(world.store, person=person, org=org, slug=slug, org_of=world.org_of, at=world.at)


@given(steps=STEPS)
def test_versions_count_by_one_and_nobody_else_ever_changes_a_fork(steps: list) -> None:
    world = Played().run(steps)
    versions: dict[str, int] = {}
    for stream, event in world.store.facts:
        if isinstance(event, CollectionCreated):
            assert stream not in versions
            versions[stream] = 1
        elif isinstance(event, CollectionChanged):
            assert event.version == versions[stream] + 1
            versions[stream] = event.version
    assert versions == {f"collection:{slug}": world.collection(slug).version for slug in world.slugs}
    assert len(set(world.slugs)) == len(world.slugs)
    for slug, snapshot in world.snapshots.items():
        assert content(world.seals, world.collection(slug)) == snapshot
    for slug in world.slugs:
        made = world.collection(slug)
        on = world.store.fold(shelf_stream(made.owner), Shelf()).slugs
        assert (slug in on) == made.exists


@given(steps=STEPS)
def test_a_person_has_one_star_for_each_collection(steps: list) -> None:
    given_now: set[tuple[str, str]] = set()
    for _, event in Played().run(steps).store.facts:
        if isinstance(event, CollectionStarred):
            assert (event.slug, event.person) not in given_now
            given_now.add((event.slug, event.person))
        elif isinstance(event, CollectionUnstarred):
            given_now.remove((event.slug, event.person))


@given(name=st.text(max_size=100), entropy=st.binary(min_size=5, max_size=5))
def test_a_slug_is_plain_and_of_any_name(name: str, entropy: bytes) -> None:
    slug = make_slug(name, "sarvam-105b", entropy)
    assert read_slug(slug) == slug
    assert len(slug) <= 49
    assert slug.isascii()


def test_a_slug_is_made_of_the_name_or_else_the_model() -> None:
    assert make_slug("Fast & cheap: Hindi!", "m", bytes(5)) == "fast-cheap-hindi-aaaaaaaa"
    assert make_slug("हिन्दी", "acme/steady-v1", bytes(5)) == "acme-steady-v1-aaaaaaaa"
    assert make_slug("Café", "m", b"\xff" * 5) == "cafe-77777777"
    for nonsense in ("", "A", "a b", "a--b", "-a", "a\0", "..", "x" * 60):
        with pytest.raises(NotFound):
            read_slug(nonsense)


def test_a_change_is_one_version_and_the_same_again_is_none(world: Played) -> None:
    slug = make(world, readme="# One")
    assert change(world, slug, name="Other", description="said", readme="# Two", steps=CHAINS[1]) is not None
    assert change(world, slug, name=" Other ", description="said", readme="# Two", steps=CHAINS[1]) is None
    assert change(world, slug) is None
    event = world.store.facts[-1][1]
    assert isinstance(event, CollectionChanged)
    assert (event.version, event.public, event.readme) == (2, UNSET, "org_a|# Two")
    assert change(world, slug, readme="") is not None
    assert world.collection(slug).readme == ""


def test_a_collection_has_one_to_ten_steps_that_begin_with_its_model(world: Played) -> None:
    for steps in ((), (M,) * (STEPS_MAX + 1), (Step(model="fallback"), M), (M, Step(model="m", provider="nobody"))):
        with pytest.raises(Invalid) as refusal:
            make(world, steps=steps)
        assert refusal.value.code == "invalid_request"
    for model, steps in (
        ("nothing", (M,)),
        ("m", (M, Step(model="nothing"))),
        ("cheap/own", (Step(model="cheap/own"),)),
    ):
        with pytest.raises(NotFound) as missing:
            make(world, model=model, steps=steps)
        assert missing.value.code == "model_not_found"
    slug = make(world, steps=(M,) * STEPS_MAX)
    with pytest.raises(Invalid, match="first step"):
        change(world, slug, steps=(Step(model="fallback"),))
    assert all(step.saved for step in world.collection(slug).steps)


def test_an_own_endpoint_stays_private_and_a_model_of_an_own_key_need_not(world: Played) -> None:
    for private in (Step(model="byoe:ours"), Step(model="m", provider="byoe:ours")):
        with pytest.raises(Invalid) as refusal:
            make(world, steps=(M, private), public=True)
        assert (refusal.value.code, refusal.value.param) == ("private_step", "steps[1]")
        slug = make(world, steps=(M, private))
        with pytest.raises(Invalid, match="endpoint of your own"):
            change(world, slug, public=True)
        assert change(world, slug, public=True, steps=(M,)) is not None
        with pytest.raises(Invalid, match="endpoint of your own"):
            change(world, slug, steps=(M, private))
    make(world, steps=(M, Step(model="cheap/theirs")), public=True)


def test_what_is_not_public_is_not_there_for_others(world: Played) -> None:
    slug = make(world)
    acts = (
        lambda: look_at(world.store, org="org_b", slug=slug, org_of=world.org_of),
        lambda: fork(world, slug),
        lambda: star(world, slug),
        lambda: star(world, slug, back=True),
        lambda: change(world, slug, org="org_b", name="mine"),
        lambda: change(world, slug, org="org_b", readme="mine"),
        lambda: delete_collection(world.store, org="org_b", slug=slug, at=world.at, by="test"),
    )
    before = len(world.store.facts)
    for act in acts:
        with pytest.raises(NotFound):
            act()
    change(world, slug, public=True)
    for act in acts[4:]:
        with pytest.raises(NotFound):
            act()
    assert len(world.store.facts) == before + 1
    assert fork(world, slug)
    assert star(world, slug) is not None
    change(world, slug, public=False)
    assert star(world, slug, back=True) is not None
    with pytest.raises(NotFound):
        star(world, slug)


def test_collections_of_an_org_that_is_gone_are_gone_and_their_forks_stay(world: Played) -> None:
    slug = make(world, public=True, readme="# Kept")
    theirs = fork(world, slug)
    world.store.facts.append(("org:org_a", OrgDeleted(at=world.at, org="org_a")))
    with pytest.raises(NotFound):
        fork(world, slug, "org_c")
    kept = look_at(world.store, org="org_b", slug=theirs, org_of=world.org_of)
    assert (kept.readme, kept.forked_from, kept.forked_version, kept.public) == ("org_b|# Kept", slug, 1, False)


def test_a_fork_is_taken_again_where_that_is_asked_for(world: Played) -> None:
    slug = make(world, public=True)
    first = fork(world, slug, reuse=True)
    assert fork(world, slug, reuse=True) == first
    second = fork(world, slug)
    assert second != first
    assert fork(world, slug, reuse=True) == second
    delete_collection(world.store, org="org_b", slug=second, at=world.at, by="test")
    assert fork(world, slug, reuse=True) not in (first, second)


def test_limits_hold_and_deletion_makes_room(world: Played) -> None:
    slug = make(world, limit=1)
    with pytest.raises(Conflict) as refusal:
        make(world, limit=1)
    assert refusal.value.code == "collection_limit"
    for _ in range(2):
        delete_collection(world.store, org="org_a", slug=slug, at=world.at, by="test")
    assert make(world, limit=1)
    with pytest.raises(NotFound):
        change(world, slug, name="again")


def test_an_org_makes_only_so_many_within_a_day(world: Played) -> None:
    for _ in range(MADE_A_DAY_MAX):
        slug = make(world)
        delete_collection(world.store, org="org_a", slug=slug, at=world.at, by="test")
    with pytest.raises(TooMany) as refusal:
        make(world)
    assert refusal.value.retry_after == DAY // 1_000_000 + 1
    world.at += DAY
    assert make(world)


def test_a_collection_has_only_so_many_versions(world: Played) -> None:
    slug = make(world, public=True)
    for number in range(2, VERSIONS_MAX + 1):
        change(world, slug, description=str(number))
    with pytest.raises(Conflict, match="fork it"):
        change(world, slug, description="one more")
    assert world.collection(slug).version == VERSIONS_MAX
    assert change(world, slug, public=False) is not None
    with pytest.raises(Conflict, match="fork it"):
        change(world, slug, public=True)


def test_a_slug_is_nobody_elses_and_never_given_again(world: Played) -> None:
    draft, common = Draft(name="Chain", model="m", steps=(M,)), world.made_by("org_a")
    slug = create_collection(world.store, world.seals, draft=draft, **common)
    assert create_collection(world.store, world.seals, draft=draft, **common) == slug
    assert world.store.names().count("CollectionCreated") == 1
    for org in ("org_b", "org_a"):
        with pytest.raises(Conflict) as refusal:
            create_collection(world.store, world.seals, draft=draft, **common | {"org": org})
        assert refusal.value.code == "slug_taken"
        delete_collection(world.store, org="org_a", slug=slug, at=world.at, by="test")


def test_a_star_takes_a_person_who_is_there(world: Played) -> None:
    slug = make(world, public=True)
    assert star(world, slug) is not None
    assert star(world, slug) is None
    assert star(world, slug, org="org_c") is None
    assert star(world, slug, back=True) is not None
    assert star(world, slug, back=True) is None
    with pytest.raises(Unauthenticated):
        star(world, slug, person="usr_nobody")


# Put into force


def applied(world: Played, *steps: Step) -> tuple[Step, ...]:
    """The steps of a call of the model by the org, after its chain was taken from a collection of these."""
    collection = Collection(model="m", steps=steps, version=1)
    apply_collection(world.store, collection, org="org_a", catalog=CATALOG, at=world.at, by="test")
    chain = world.store.fold("routing:org_a", Chains()).steps("m")
    return with_chain(Needs(steps=(M,)), chain, models=None).steps


def test_what_is_applied_is_what_calls_go_by(world: Played) -> None:
    fallback = Step(model="fallback", provider="cheap", saved=True)
    gone = Step(model="was-there-once", saved=True)
    assert applied(world, M, fallback, gone) == (M, fallback, gone)
    pinned = Step(model="m", provider="home", saved=True)
    led = applied(world, pinned, fallback)
    assert [(step.model, step.provider) for step in led] == [("m", "home"), ("fallback", "cheap")]
    assert [(step.model, step.provider) for step in applied(world, pinned)] == [("m", "home")]
    assert applied(world, M) == (M,)
    with pytest.raises(NotFound):
        apply_collection(
            world.store,
            Collection(model="was-there-once", steps=(gone, fallback)),
            org="org_a",
            catalog=CATALOG,
            at=world.at,
            by="test",
        )
