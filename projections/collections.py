"""Collections: the public list by stars, each with its versions, and what an org has."""

from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec
from msgspec import UNSET, UnsetType
from psycopg.rows import dict_row

from domain.accounts.events import OrgDeleted, PersonErased
from domain.collections.collection import slug_of_stream
from domain.collections.events import (
    CollectionChanged,
    CollectionCreated,
    CollectionDeleted,
    CollectionStarred,
    CollectionUnstarred,
)
from domain.routing.needs import Step
from projections.base import Connection, Cursor, Fold, Projection, execute_all, on

ROWS_MAX = 200

# `readme` is sealed under the org. `published_at` is when a collection was public first: editing brings nobody ahead.
TABLES = """
create table collections (
    slug text collate "C" primary key,
    org text collate "C" not null,
    name text not null,
    description text not null,
    model text collate "C" not null,
    steps jsonb not null,
    readme text not null,
    public boolean not null,
    version bigint not null,
    stars bigint not null,
    forked_from text collate "C" not null,
    forked_version bigint not null,
    created_at bigint not null,
    changed_at bigint not null,
    published_at bigint,
    deleted_at bigint,
    words text generated always as (
        lower(normalize(name || ' ' || description || ' ' || model || ' ' || slug, nfkc))
    ) stored
);
create index collections_by_org on collections (org, created_at);
create index collections_public on collections (stars desc, published_at desc, slug)
    where public and deleted_at is null;
create table collection_versions (
    slug text collate "C" not null,
    version bigint not null,
    at bigint not null,
    name text not null,
    description text not null,
    steps jsonb not null,
    public boolean not null,
    primary key (slug, version)
);
create table collection_stars (
    slug text collate "C" not null,
    person text collate "C" not null,
    at bigint not null,
    primary key (slug, person)
);
create index collection_stars_by_person on collection_stars (person, at);
"""

_NEW: LiteralString = """
insert into collections values
    (%(slug)s, %(org)s, %(name)s, %(description)s, %(model)s, %(steps)s, %(readme)s, %(public)s, 1, 0,
    %(forked_from)s, %(forked_version)s, %(at)s, %(at)s, case when %(public)s then %(at)s::bigint end, null)
"""
_CHANGE: LiteralString = """
update collections set version = %(version)s, changed_at = %(at)s,
    name = coalesce(%(name)s, name), description = coalesce(%(description)s, description),
    steps = coalesce(%(steps)s::jsonb, steps), readme = coalesce(%(readme)s, readme),
    public = coalesce(%(public)s, public),
    published_at = coalesce(published_at, case when %(public)s then %(at)s::bigint end)
where slug = %(slug)s
"""
_VERSION: LiteralString = """
insert into collection_versions
select slug, version, changed_at, name, description, steps, public from collections where slug = %(slug)s
"""
_STAR: LiteralString = """
with starred as (
    insert into collection_stars values (%(slug)s, %(person)s, %(at)s) on conflict do nothing returning slug
)
update collections c set stars = stars + 1 from starred where c.slug = starred.slug
"""
_UNSTAR: LiteralString = """
with gone as (delete from collection_stars where person = %(person)s and slug = %(slug)s returning slug)
update collections c set stars = stars - 1 from gone where c.slug = gone.slug
"""
_UNSTAR_ALL: LiteralString = """
with gone as (delete from collection_stars where person = %(person)s returning slug)
update collections c set stars = stars - 1 from gone where c.slug = gone.slug
"""


class Collections(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, Any]] = []

    @on(CollectionCreated)
    def created(self, event: CollectionCreated, stream: str, position: int) -> None:
        fields = _fields(event, stream) | {"org": event.owner}
        self._changes += [(_NEW, fields), (_VERSION, fields)]

    @on(CollectionChanged)
    def changed(self, event: CollectionChanged, stream: str, position: int) -> None:
        fields = _fields(event, stream)
        self._changes += [(_CHANGE, fields), (_VERSION, fields)]

    @on(CollectionDeleted, "at")
    def deleted(self, event: CollectionDeleted, stream: str, position: int) -> None:
        statement: LiteralString = "update collections set deleted_at = %s where slug = %s"
        self._changes.append((statement, [event.at, slug_of_stream(stream)]))

    @on(OrgDeleted, "org")
    def org_deleted(self, event: OrgDeleted, stream: str, position: int) -> None:
        statement: LiteralString = "update collections set deleted_at = %s where org = %s and deleted_at is null"
        self._changes.append((statement, [event.at, event.org]))

    @on(CollectionStarred, "slug", "person")
    def starred(self, event: CollectionStarred, stream: str, position: int) -> None:
        self._changes.append((_STAR, {"slug": event.slug, "person": event.person, "at": event.at}))

    @on(CollectionUnstarred, "slug", "person")
    def unstarred(self, event: CollectionUnstarred, stream: str, position: int) -> None:
        self._changes.append((_UNSTAR, {"slug": event.slug, "person": event.person}))

    @on(PersonErased)
    def erased(self, event: PersonErased, stream: str, position: int) -> None:
        """Who signs up again after erasure may star again, so that what they starred before counts no longer."""
        self._changes.append((_UNSTAR_ALL, {"person": stream.removeprefix("user:")}))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


def _fields(event: CollectionCreated | CollectionChanged, stream: str) -> dict[str, Any]:
    """As parameters of a statement; None for what did not change."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    steps: tuple[Step, ...] | UnsetType = event.steps
    if steps is not UNSET:
        fields["steps"] = msgspec.json.encode(
            [{"model": step.model, "provider": step.provider} for step in steps]
        ).decode()
    return {name: None if value is UNSET else value for name, value in fields.items()} | {
        "slug": slug_of_stream(stream)
    }


PROJECTION = Projection("collections", 1, TABLES, Collections)

_ROW: LiteralString = """
select slug, org, name, description, model, steps, public, version, stars, created_at, changed_at, published_at,
    deleted_at is not null as deleted, nullif(forked_from, '') as forked_from,
    nullif(forked_version, 0) as forked_version, coalesce((
        select s.public and s.deleted_at is null from view_collections.collections s where s.slug = c.forked_from
    ), false) as source_public
from view_collections.collections c
"""
_ROW_WITH_README: LiteralString = _ROW.replace("deleted_at is not null", "readme, deleted_at is not null")


def collection_of(connection: Connection, slug: str) -> dict[str, Any] | None:
    """The collection, be it public or not and deleted or not: `slug`, by which its facts are named too; `org` that has
    it; `name`, `description`, `model`; `steps`, each with `model` and `provider` or None; `readme`, sealed under the
    org; `public`, `version`, `stars`; `forked_from` and `forked_version`, None unless it is a fork, and
    `source_public`: whether what it was forked from can be seen by all; `created_at`, `changed_at` and `published_at`
    in microseconds; `deleted`. None where there never was one (as far as is known)."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(_ROW_WITH_README + "where slug = %s", [slug]).fetchone()


def public_collections(connection: Connection, *, terms: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """At most `limit` (and `ROWS_MAX`) public collections, as `collection_of` has them without `readme`: by stars, then
    the newest first. Each of the `terms` is in its name, description, model or slug, whatever the case of letters."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        _ROW
        + """
        where public and deleted_at is null
            and (select coalesce(bool_and(strpos(words, lower(normalize(term, nfkc))) > 0), true)
                from unnest(%s::text[]) term)
        order by stars desc, published_at desc, slug limit %s
        """,
        [list(terms), min(limit, ROWS_MAX)],
    ).fetchall()


def collections_of(connection: Connection, org: str) -> list[dict[str, Any]]:
    """What the org has, as `collection_of` has it without `readme`, in the order of making."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(_ROW + "where org = %s and deleted_at is null order by created_at, slug", [org]).fetchall()


def versions_of(connection: Connection, slug: str, *, public_only: bool) -> list[dict[str, Any]]:
    """`version`, `at` in microseconds, `name`, `description`, `steps` and `public` of each, the newest first;
    with `public_only` those that were in force while the collection was public."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        "select version, at, name, description, steps, public from view_collections.collection_versions"
        " where slug = %s and (public or not %s) order by version desc",
        [slug, public_only],
    ).fetchall()


def stars_of_others(connection: Connection, slug: str, person: str) -> int:
    """How many persons but this one have starred the collection."""
    row = connection.execute(
        "select count(*) from view_collections.collection_stars where slug = %s and person <> %s", [slug, person]
    ).fetchone()
    assert row is not None
    return int(row[0])


def starred_by(connection: Connection, person: str) -> list[dict[str, Any]]:
    """`slug` and `at` in microseconds of each collection that the person has starred, oldest first."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        "select slug, at from view_collections.collection_stars where person = %s order by at, slug", [person]
    ).fetchall()
