"""The facts of collections. Streams: `collection:<slug>`, `shelf:<org>` and `star:<slug>/<person>`.

They name the org that has a collection as `owner`: they are no part of the history that every change of an org reads.
"""

from msgspec import UNSET, UnsetType

from domain.kernel.events import Event, fact
from domain.routing.needs import Step


@fact("collections.collection_created.v1")
class CollectionCreated(Event, frozen=True, kw_only=True):
    """Version 1. `readme` is sealed under the owner. A fork has the slug and the version that it is a snapshot of."""

    owner: str
    name: str
    model: str
    steps: tuple[Step, ...]
    description: str = ""
    readme: str = ""
    public: bool = False
    forked_from: str = ""
    forked_version: int = 0


@fact("collections.collection_changed.v1")
class CollectionChanged(Event, frozen=True, kw_only=True):
    """The next `version`, with what is different in it."""

    owner: str
    version: int
    name: str | UnsetType = UNSET
    steps: tuple[Step, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    readme: str | UnsetType = UNSET
    public: bool | UnsetType = UNSET


@fact("collections.collection_deleted.v1")
class CollectionDeleted(Event, frozen=True, kw_only=True):
    """It is there no more, and its slug is never given again; forks of it stay as they are."""

    owner: str


@fact("collections.collection_shelved.v1")
class CollectionShelved(Event, frozen=True, kw_only=True):
    """The org of the shelf has one collection more: what its limits count, and forks are found again by."""

    slug: str
    forked_from: str = ""


@fact("collections.collection_unshelved.v1")
class CollectionUnshelved(Event, frozen=True, kw_only=True):
    slug: str


@fact("collections.collection_starred.v1")
class CollectionStarred(Event, frozen=True, kw_only=True):
    slug: str
    person: str


@fact("collections.collection_unstarred.v1")
class CollectionUnstarred(Event, frozen=True, kw_only=True):
    slug: str
    person: str
