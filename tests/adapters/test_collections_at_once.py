"""Collections that are made and changed at the same moment, on a real PostgreSQL: slugs, limits and versions hold."""

from typing import Any

from adapters.eventstore import EventStore
from adapters.log import LogReader
from domain.accounts.org import Org
from domain.collections.collection import Collection, Shelf, collection_stream, shelf_stream
from domain.collections.events import CollectionCreated, CollectionStarred
from domain.collections.service import (
    Draft,
    Wishes,
    change_collection,
    create_collection,
    fork_collection,
    star_collection,
)
from domain.kernel.store import fold_recorded
from domain.routing.needs import Step
from tests.at_once import answered_at_once, at_once
from tests.domain.routing.test_plan import CATALOG
from tests.fakes import PlainSeals
from tests.given import NOON, given_org, given_person

DRAFT = Draft(name="Chain", model="m", steps=(Step(model="m"),), public=True)
SEALS = PlainSeals()
ENTROPY = b"slugs"


def make(store: EventStore, org: str, entropy: bytes = ENTROPY, *, limit: int = 100) -> str:
    who: dict[str, Any] = {"org": org, "at": NOON, "by": "test"}
    return create_collection(store, SEALS, entropy=entropy, draft=DRAFT, catalog=CATALOG, collections_max=limit, **who)


def test_a_slug_that_many_want_at_once_becomes_ones(stores: list[EventStore], log: LogReader) -> None:
    answers = answered_at_once(*[lambda store=store, n=n: make(store, f"org_{n}") for n, store in enumerate(stores)])
    assert answers.count("slug_taken") == 5
    [slug] = set(answers) - {"slug_taken"}
    facts = log.stream(collection_stream(slug))
    assert [type(fact.event) for fact in facts] == [CollectionCreated]
    winner = answers.index(slug)
    for number in range(6):
        shelf = fold_recorded(Shelf(), log.stream(shelf_stream(f"org_{number}")))
        assert shelf.slugs == ({slug} if number == winner else set())


def test_no_more_come_in_at_once_than_the_limit_lets(stores: list[EventStore], log: LogReader) -> None:
    entropies = [bytes([number] * 5) for number in range(6)]
    answers = answered_at_once(
        *[lambda s=s, e=e: make(s, "org_a", e, limit=4) for s, e in zip(stores, entropies, strict=True)]
    )
    assert answers.count("collection_limit") == 2
    assert len(fold_recorded(Shelf(), log.stream(shelf_stream("org_a"))).slugs) == 4


def test_imports_at_once_share_one_fork(stores: list[EventStore], log: LogReader) -> None:
    given_org(stores[0], "org_a", inr=0)
    slug = make(stores[0], "org_a")

    def imported(store: EventStore, number: int) -> str:
        return fork_collection(
            store,
            SEALS,
            org="org_b",
            source=slug,
            entropy=bytes([number] * 5),
            org_of=lambda org: fold_recorded(Org(), log.stream(f"org:{org}")),
            collections_max=100,
            at=NOON,
            by="test",
            reuse=True,
        )

    answers = at_once(*[lambda s=s, n=n: imported(s, n) for n, s in enumerate(stores)])
    assert len(set(answers)) == 1
    shelf = fold_recorded(Shelf(), log.stream(shelf_stream("org_b")))
    assert (shelf.slugs, shelf.forks) == ({answers[0]}, {slug: answers[0]})


def test_changes_at_once_are_versions_without_a_gap(stores: list[EventStore], log: LogReader) -> None:
    slug = make(stores[0], "org_a")

    def renamed(store: EventStore, number: int) -> object:
        who: dict[str, Any] = {"org": "org_a", "slug": slug, "at": NOON, "by": "test"}
        return change_collection(store, SEALS, wishes=Wishes(name=f"Name {number}"), catalog=CATALOG, **who)

    answers = at_once(*[lambda s=s, n=n: renamed(s, n) for n, s in enumerate(stores)])
    assert all(isinstance(answer, int) for answer in answers)
    versions = [getattr(fact.event, "version", 1) for fact in log.stream(collection_stream(slug))]
    assert versions == [1, 2, 3, 4, 5, 6, 7]
    assert fold_recorded(Collection(), log.stream(collection_stream(slug))).version == 7


def test_a_star_that_is_given_in_many_windows_is_one(stores: list[EventStore], log: LogReader) -> None:
    given_org(stores[0], "org_a", inr=0)
    person = given_person(stores[0], "asha").person
    slug = make(stores[0], "org_a")
    owner = fold_recorded(Org(), log.stream("org:org_a"))
    at_once(
        *[
            lambda s=s: star_collection(s, person=person, org="", slug=slug, org_of=lambda _: owner, at=NOON)
            for s in stores
        ]
    )
    facts = log.after(0, limit=1_000)
    assert [name for _, _, _, name, _ in facts].count(CollectionStarred.NAME) == 1
