"""A collection as its facts make it, and the shelf of an org, which knows all it has."""

import base64
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec import UNSET

from domain.collections.events import (
    CollectionChanged,
    CollectionCreated,
    CollectionDeleted,
    CollectionShelved,
    CollectionStarred,
    CollectionUnshelved,
    CollectionUnstarred,
)
from domain.kernel.clock import DAY
from domain.kernel.errors import NotFound
from domain.kernel.events import Event
from domain.routing.needs import Step

SLUG_WORDS_MAX = 40
SLUG_ENTROPY_BYTES = 5

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SLUG_LENGTH_MAX = SLUG_WORDS_MAX + 1 + SLUG_ENTROPY_BYTES * 8 // 5


@dataclass(frozen=True, slots=True)
class Collection:
    """`slug` is empty until it is created. `readme` is sealed under the `owner`, the org that has it. The first of the
    `steps` is its model itself. `version` counts its changes from 1."""

    slug: str = ""
    owner: str = ""
    name: str = ""
    model: str = ""
    steps: tuple[Step, ...] = ()
    description: str = ""
    readme: str = ""
    public: bool = False
    version: int = 0
    forked_from: str = ""
    forked_version: int = 0
    created: int = 0
    changed: int = 0
    deleted: int | None = None

    def evolve(self, stream: str, event: Event) -> "Collection":
        match event:
            case CollectionCreated():
                return Collection(
                    slug=slug_of_stream(stream),
                    owner=event.owner,
                    name=event.name,
                    model=event.model,
                    steps=event.steps,
                    description=event.description,
                    readme=event.readme,
                    public=event.public,
                    version=1,
                    forked_from=event.forked_from,
                    forked_version=event.forked_version,
                    created=event.at,
                    changed=event.at,
                )
            case CollectionChanged():
                return replace(
                    self,
                    name=self.name if event.name is UNSET else event.name,
                    steps=self.steps if event.steps is UNSET else event.steps,
                    description=self.description if event.description is UNSET else event.description,
                    readme=self.readme if event.readme is UNSET else event.readme,
                    public=self.public if event.public is UNSET else event.public,
                    version=event.version,
                    changed=event.at,
                )
            case CollectionDeleted():
                return replace(self, deleted=event.at)
            case _:
                return self

    @property
    def exists(self) -> bool:
        return bool(self.slug) and self.deleted is None


@dataclass(frozen=True, slots=True)
class Shelf:
    """What an org has. `slugs` are of the collections that are; `forks` the newest of these by what each was forked
    from; `made` the moments of the creations of the last day, in microseconds since 1970."""

    slugs: frozenset[str] = frozenset()
    forks: Mapping[str, str] = field(default_factory=dict)
    made: tuple[int, ...] = ()

    def evolve(self, stream: str, event: Event) -> "Shelf":
        match event:
            case CollectionShelved(slug=slug, forked_from=source):
                return Shelf(
                    self.slugs | {slug},
                    {**self.forks, source: slug} if source else self.forks,
                    (*[at for at in self.made if at > event.at - DAY], event.at),
                )
            case CollectionUnshelved(slug=gone):
                forks = {source: slug for source, slug in self.forks.items() if slug != gone}
                return replace(self, slugs=self.slugs - {gone}, forks=forks)
            case _:
                return self


@dataclass(frozen=True, slots=True)
class Star:
    """Whether a person has starred a collection."""

    given: bool = False

    def evolve(self, _: str, event: Event) -> "Star":
        match event:
            case CollectionStarred():
                return Star(True)
            case CollectionUnstarred():
                return Star(False)
            case _:
                return self


def collection_stream(slug: str) -> str:
    return f"collection:{slug}"


def slug_of_stream(stream: str) -> str:
    return stream.removeprefix("collection:")


def shelf_stream(org: str) -> str:
    return f"shelf:{org}"


def star_stream(slug: str, person: str) -> str:
    """A stream for each star: a collection that many star at once makes none of them wait."""
    return f"star:{slug}/{person}"


def make_slug(name: str, model: str, entropy: bytes) -> str:
    """A name for addresses: what Latin letters and digits the name has, or else the model, then 8 random ones.

    The random part, of `SLUG_ENTROPY_BYTES` bytes, leaves no slug that somebody could take before others, or find by
    trying. It stays when the collection is renamed.
    """
    words = _words(name) or _words(model) or "collection"
    return f"{words}-{base64.b32encode(entropy).decode().lower()}"


def read_slug(text: str) -> str:
    """The slug, if it can be one. Raises NotFound otherwise."""
    if len(text) > _SLUG_LENGTH_MAX or not _SLUG.fullmatch(text):
        raise no_such_collection()
    return text


def no_such_collection() -> NotFound:
    return NotFound(
        "not_found",
        "No such collection; GET /v1/collections lists the public ones, GET /me/collections yours.",
        param="slug",
    )


def _words(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_WORDS_MAX].strip("-")
