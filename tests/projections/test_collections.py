"""The read model of collections: what the log says, wherever batches end, and who sees what in which order."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from domain.accounts.events import OrgDeleted, PersonErased
from domain.collections.events import CollectionStarred, CollectionUnstarred
from domain.collections.service import (
    Draft,
    Wishes,
    change_collection,
    create_collection,
    delete_collection,
    star_collection,
)
from domain.kernel.clock import SECOND
from domain.routing.needs import Step
from projections.collections import (
    PROJECTION,
    collection_of,
    collections_of,
    public_collections,
    starred_by,
    stars_of_others,
    versions_of,
)
from projections.runner import Runner
from tests.domain.collections.played import PERSONS, STEPS, Played
from tests.domain.routing.test_plan import CATALOG
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import append


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ends=st.lists(st.integers(1, 120), max_size=8))
def test_the_tables_say_what_the_log_says_wherever_batches_end(database_url: str, steps: list, ends: list[int]) -> None:
    world = Played().run(steps)
    with history_in(database_url, world.store.facts) as (cursor, before, head):
        stops = sorted({before, *(min(before + end, head) for end in ends), head})
        live = filled(cursor, [PROJECTION], "__live", stops=stops)
        assert sums_of(cursor, live) == sums_of(cursor, filled(cursor, [PROJECTION], "__again", stops=[before, head]))
        live.use(cursor)
        check(cursor.connection, world)


def check(connection: psycopg.Connection, world: Played) -> None:
    """Every row against the fold of the domain. The tables are on the search path."""
    gone = {event.org for _, event in world.store.facts if isinstance(event, OrgDeleted)}
    stars: set[tuple[str, str]] = set()
    for stream, event in world.store.facts:
        match event:
            case CollectionStarred():
                stars.add((event.slug, event.person))
            case CollectionUnstarred():
                stars.discard((event.slug, event.person))
            case PersonErased():
                stars = {star for star in stars if star[1] != stream.removeprefix("user:")}
            case _:
                pass
    cursor = connection.cursor(row_factory=dict_row)
    rows = {row["slug"]: row for row in cursor.execute("select * from collections")}
    assert set(rows) == set(world.slugs)
    for slug, row in rows.items():
        state = world.collection(slug)
        assert (row["name"], row["description"], row["readme"]) == (state.name, state.description, state.readme)
        assert [(step["model"], step["provider"]) for step in row["steps"]] == [
            (step.model, step.provider) for step in state.steps
        ]
        assert (row["public"], row["version"], row["org"]) == (state.public, state.version, state.owner)
        assert (row["forked_from"], row["forked_version"]) == (state.forked_from, state.forked_version)
        assert (row["deleted_at"] is None) == (state.exists and state.owner not in gone)
        assert row["stars"] == len([star for star in stars if star[0] == slug])
        versions = cursor.execute("select version from collection_versions where slug = %s order by 1", [slug])
        assert [each["version"] for each in versions] == [*range(1, state.version + 1)]


class Shown(Played):
    """Histories that are shown by the read model of a database."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._written = 0
        Runner(url).prepare()

    def has(self, name: str, *, org: str = "org_a", public: bool = True, **more: Any) -> str:
        self.at += SECOND
        draft = Draft(**{"name": name, "model": "m", "steps": (Step(model="m"),), "public": public} | more)
        return create_collection(self.store, self.seals, draft=draft, **self.made_by(org))

    def changes(self, slug: str, **wishes: Any) -> None:
        self.at += SECOND
        who = {"org": self.collection(slug).owner, "slug": slug, "at": self.at, "by": "test"}
        change_collection(self.store, self.seals, wishes=Wishes(**wishes), catalog=CATALOG, **who)

    def stars(self, slug: str, person: str) -> None:
        star_collection(self.store, person=person, org="org_c", slug=slug, org_of=self.org_of, at=self.at)

    @contextlib.contextmanager
    def read(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            append(connection, self.store.facts[self._written :])
            self._written = len(self.store.facts)
            Runner(self.url).step(connection)
            yield connection


@pytest.fixture
def world(database_url: str) -> Shown:
    return Shown(database_url)


def test_the_public_list_is_by_stars_then_newest_and_editing_brings_nobody_ahead(world: Shown) -> None:
    old, middle, new = world.has("Old"), world.has("Middle"), world.has("New")
    hidden, gone = world.has("Hidden", public=False), world.has("Gone")
    for person in PERSONS:
        world.stars(old, person)
    world.changes(middle, description="changed")
    world.changes(middle, public=False)
    world.changes(middle, public=True)
    delete_collection(world.store, org="org_a", slug=gone, at=world.at, by="test")
    with world.read() as connection:
        listed = public_collections(connection, terms=[], limit=10)
        assert [(row["slug"], row["stars"]) for row in listed] == [(old, 2), (new, 0), (middle, 0)]
        assert "readme" not in listed[0]
        assert [row["slug"] for row in public_collections(connection, terms=[], limit=1)] == [old]
        assert [row["slug"] for row in collections_of(connection, "org_a")] == [old, middle, new, hidden]
        found = collection_of(connection, gone)
        assert found is not None
        assert found["deleted"]
        assert collection_of(connection, "nothing") is None


def test_search_is_for_all_words_in_any_case_and_form(world: Shown) -> None:
    hindi = world.has("हिन्दी Helpdesk", description="100% resident_ly")
    other = world.has("Ｗｉｄｅ letters", steps=(Step(model="m"), Step(model="fallback")))
    with world.read() as connection:

        def found(*terms: str) -> list[str]:
            return [row["slug"] for row in public_collections(connection, terms=terms, limit=10)]

        assert found("HELPDESK", "हिन्दी") == [hindi]
        assert found("helpdesk", "letters") == []
        assert found("wide") == found("ＷＩＤＥ") == [other]
        assert found("100%") == found("t_l") == [hindi]
        assert found("%") == [hindi]
        assert found("\\") == found("'") == []
        assert found(hindi) == [hindi]


def test_others_see_the_versions_that_were_public(world: Shown) -> None:
    slug = world.has("Draft", public=False, description="not to be seen")
    world.changes(slug, description="ready")
    world.changes(slug, public=True)
    world.changes(slug, name="Better")
    world.changes(slug, public=False)
    world.changes(slug, public=True, description="again")
    with world.read() as connection:
        assert [each["version"] for each in versions_of(connection, slug, public_only=False)] == [6, 5, 4, 3, 2, 1]
        public = versions_of(connection, slug, public_only=True)
        assert [(each["version"], each["name"], each["description"]) for each in public] == [
            (6, "Better", "again"),
            (4, "Better", "ready"),
            (3, "Draft", "ready"),
        ]


def test_stars_of_the_erased_are_gone_and_collections_of_deleted_orgs_too(world: Shown) -> None:
    slug, theirs = world.has("Starred"), world.has("Theirs", org="org_b")
    for person in PERSONS:
        world.stars(slug, person)
    with world.read() as connection:
        assert stars_of_others(connection, slug, PERSONS[0]) == 1
        assert [row["slug"] for row in starred_by(connection, PERSONS[0])] == [slug]
        world.store.facts.append((f"user:{PERSONS[0]}", PersonErased(at=world.at)))
        world.store.facts.append(("org:org_b", OrgDeleted(at=world.at, org="org_b")))
    with world.read() as connection:
        assert starred_by(connection, PERSONS[0]) == []
        assert [(row["slug"], row["stars"]) for row in public_collections(connection, terms=[], limit=9)] == [(slug, 1)]
        gone = collection_of(connection, theirs)
        assert gone is not None
        assert (gone["deleted"], gone["public"]) == (True, True)
