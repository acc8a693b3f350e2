"""What can be done with collections: make, change, delete, fork, star."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from domain.accounts.org import Org
from domain.accounts.person import Person, person_stream
from domain.catalog.catalog import Catalog
from domain.collections.collection import (
    Collection,
    Shelf,
    Star,
    collection_stream,
    make_slug,
    no_such_collection,
    shelf_stream,
    star_stream,
)
from domain.collections.events import (
    CollectionChanged,
    CollectionCreated,
    CollectionDeleted,
    CollectionShelved,
    CollectionStarred,
    CollectionUnshelved,
    CollectionUnstarred,
)
from domain.collections.text import clean_description, clean_name, clean_readme, refuse_keys
from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Conflict, Invalid, NotFound, TooMany, Unauthenticated
from domain.kernel.seals import Seals
from domain.kernel.store import Change, Decision, Store
from domain.routing.chains import STEPS_MAX, check_step, clear_chain, set_chain
from domain.routing.needs import OWN_ENDPOINT, Step

VERSIONS_MAX = 200
MADE_A_DAY_MAX = 200

FindOrg = Callable[[str], Org | None]
"""Any org that was ever made, deleted or not."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A new collection. Its `readme` is in clear, empty for none."""

    name: str
    model: str
    steps: tuple[Step, ...]
    description: str = ""
    readme: str = ""
    public: bool = False


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of a collection; what is left out stays."""

    name: str | UnsetType = UNSET
    steps: tuple[Step, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    readme: str | UnsetType = UNSET
    public: bool | UnsetType = UNSET


def create_collection(
    store: Store,
    seals: Seals,
    *,
    org: str,
    entropy: bytes,
    draft: Draft,
    catalog: Catalog,
    collections_max: int,
    at: int,
    by: str,
) -> str:
    """Puts a collection on record as version 1; answers its slug, which `SLUG_ENTROPY_BYTES` of `entropy` go into. A
    repeat with the same bytes changes nothing.

    Raises Invalid `invalid_request`, `looks_like_key` or `private_step`, NotFound `model_not_found`, Conflict
    `collection_limit` or `slug_taken`, TooMany `rate_limit_exceeded`.
    """
    created = CollectionCreated(
        owner=org,
        name=clean_name(draft.name),
        model=draft.model,
        steps=_check_steps(draft.steps, draft.model, catalog),
        description=clean_description(draft.description),
        readme=_seal(seals, org, clean_readme(draft.readme)),
        public=draft.public,
    )
    _check_publishable(created.steps, public=created.public)
    slug = make_slug(created.name, created.model, entropy)
    store.change(*_creation(slug, created, collections_max=collections_max, at=at), at=at, by=by)
    return slug


def change_collection(
    store: Store, seals: Seals, *, org: str, slug: str, wishes: Wishes, catalog: Catalog, at: int, by: str
) -> int | None:
    """Makes the next version; nothing, where nothing would be different. One that has had all its versions can still be
    made private.

    Raises NotFound for a collection that is not the org's, Conflict `version_limit`, and as `create_collection`.
    """
    name = wishes.name if wishes.name is UNSET else clean_name(wishes.name)
    description = wishes.description if wishes.description is UNSET else clean_description(wishes.description)
    readme = wishes.readme if wishes.readme is UNSET else clean_readme(wishes.readme)
    if readme is not UNSET:
        present = store.look(lambda read: read.fold(collection_stream(slug), Collection()))
        _require_own(present, org)
        readme = UNSET if readme == readme_of(seals, present) else _seal(seals, org, readme)

    def decide(state: Collection) -> Decision:
        _require_own(state, org)
        steps = wishes.steps if wishes.steps is UNSET else _check_steps(wishes.steps, state.model, catalog)
        wanted: dict[str, Any] = {
            "name": name,
            "steps": steps,
            "description": description,
            "readme": readme,
            "public": wishes.public,
        }
        different = {
            field: value for field, value in wanted.items() if value is not UNSET and value != getattr(state, field)
        }
        if not different:
            return []
        changed = CollectionChanged(owner=org, version=state.version + 1, **different)
        after = state.evolve(collection_stream(slug), changed)
        _check_publishable(after.steps, public=after.public)
        if after.version > VERSIONS_MAX and different != {"public": False}:
            raise Conflict(
                "version_limit", f"A collection has at most {VERSIONS_MAX} versions; fork it, and go on with the fork."
            )
        return [(collection_stream(slug), changed)]

    return store.change(Change(collection_stream(slug), Collection(), decide), at=at, by=by)


def delete_collection(store: Store, *, org: str, slug: str, at: int, by: str) -> int | None:
    """Deletes a collection of the org; forks of it stay. A repeat is harmless. Raises NotFound."""

    def decide(state: Collection) -> Decision:
        if state.owner != org:
            raise no_such_collection()
        return [(collection_stream(slug), CollectionDeleted(owner=org))] if state.exists else []

    def clear(shelf: Shelf) -> Decision:
        return [(shelf_stream(org), CollectionUnshelved(slug=slug))] if slug in shelf.slugs else []

    return store.change(
        Change(collection_stream(slug), Collection(), decide),
        Change(shelf_stream(org), Shelf(), clear),
        at=at,
        by=by,
    )


def fork_collection(
    store: Store,
    seals: Seals,
    *,
    org: str,
    source: str,
    entropy: bytes,
    org_of: FindOrg,
    collections_max: int,
    at: int,
    by: str,
    reuse: bool = False,
) -> str:
    """Makes a private snapshot of a collection that the org can see: what its author changes later changes nothing in
    it. Answers its slug; with `reuse` that of the newest fork of the same one that the org has, if there is any.
    Raises NotFound, and as `create_collection`."""
    original = look_at(store, org=org, slug=source, org_of=org_of)
    forked = CollectionCreated(
        owner=org,
        name=original.name,
        model=original.model,
        steps=original.steps,
        description=original.description,
        readme=_seal(seals, org, readme_of(seals, original)),
        forked_from=original.slug,
        forked_version=original.version,
    )
    slug = make_slug(forked.name, forked.model, entropy)
    changes = _creation(slug, forked, collections_max=collections_max, at=at, reuse=reuse)
    if store.change(*changes, at=at, by=by) is None and reuse:
        return store.look(lambda read: read.fold(shelf_stream(org), Shelf())).forks.get(source, slug)
    return slug


def look_at(store: Store, *, org: str, slug: str, org_of: FindOrg) -> Collection:
    """The collection as it is now, if it is the org's or public. Raises NotFound for all others alike."""
    found = store.look(lambda read: read.fold(collection_stream(slug), Collection()))
    _require_visible(found, org, org_of)
    return found


def star_collection(store: Store, *, person: str, org: str, slug: str, org_of: FindOrg, at: int) -> int | None:
    """Gives the star of a person, who looks at `org`, to a collection that they can see there. Everybody has one for
    each collection, whatever orgs they are in; a repeat is harmless. Raises NotFound, and Unauthenticated `no_session`
    for a person who is gone."""
    look_at(store, org=org, slug=slug, org_of=org_of)
    stream = star_stream(slug, person)

    def is_there(state: Person) -> Decision:
        if not state.exists:
            raise Unauthenticated("no_session", "This account is gone; sign in again.")
        return []

    def decide(star: Star) -> Decision:
        return [] if star.given else [(stream, CollectionStarred(slug=slug, person=person))]

    return store.change(
        Change(person_stream(person), Person(), is_there),
        Change(stream, Star(), decide),
        at=at,
        by=person_stream(person),
    )


def unstar_collection(store: Store, *, person: str, org: str, slug: str, org_of: FindOrg, at: int) -> int | None:
    """Takes the star of a person back, be the collection still to be seen or not; a repeat is harmless. Raises
    NotFound where there is neither a star nor a collection that they can see."""
    stream = star_stream(slug, person)
    if not store.look(lambda read: read.fold(stream, Star())).given:
        look_at(store, org=org, slug=slug, org_of=org_of)

    def decide(star: Star) -> Decision:
        return [(stream, CollectionUnstarred(slug=slug, person=person))] if star.given else []

    return store.change(Change(stream, Star(), decide), at=at, by=person_stream(person))


def readme_of(seals: Seals, collection: Collection) -> str:
    """In clear; empty where there is none, or none any more."""
    return (seals.open(collection.owner, collection.readme) or "") if collection.readme else ""


def apply_collection(
    store: Store, collection: Collection, *, org: str, catalog: Catalog, at: int, by: str
) -> int | None:
    """Makes the collection the saved chain of the org for its model, in place of the one before: the first step is the
    model itself, pinned if the step is, the others are its fallbacks. One that names what is not there is skipped.

    Raises NotFound `model_not_found` where the model itself is no longer offered.
    """
    first, *others = collection.steps
    if first.provider is None and not others:
        return clear_chain(store, org=org, model=collection.model, at=at, by=by)
    return set_chain(
        store,
        org=org,
        model=collection.model,
        steps=others,
        provider=first.provider,
        catalog=catalog,
        at=at,
        by=by,
    )


def _seal(seals: Seals, org: str, readme: str) -> str:
    return seals.seal(org, readme) if readme else ""


def _creation(
    slug: str, created: CollectionCreated, *, collections_max: int, at: int, reuse: bool = False
) -> tuple[Change[Shelf], Change[Collection]]:
    """The changes that a creation is: a place on the shelf of its org, and the collection. Nothing comes of either
    where a fork is reused."""
    shelf_of = shelf_stream(created.owner)
    reused = False

    def shelve(shelf: Shelf) -> Decision:
        nonlocal reused
        reused = reuse and created.forked_from in shelf.forks
        if reused or slug in shelf.slugs:
            return []
        if len(shelf.slugs) >= collections_max:
            raise Conflict(
                "collection_limit", f"An org has at most {collections_max} collections; delete one you no longer need."
            )
        recent = [moment for moment in shelf.made if moment > at - DAY]
        if len(recent) >= MADE_A_DAY_MAX:
            raise TooMany(
                "rate_limit_exceeded",
                f"An org makes at most {MADE_A_DAY_MAX} collections within a day.",
                retry_after=(recent[0] + DAY - at) // SECOND + 1,
            )
        return [(shelf_of, CollectionShelved(slug=slug, forked_from=created.forked_from))]

    def create(state: Collection) -> Decision:
        if reused:
            return []
        if state.slug and not (state.exists and state.owner == created.owner):
            raise Conflict("slug_taken", "Another collection was given this slug; try again.")
        return [] if state.slug else [(collection_stream(slug), created)]

    return Change(shelf_of, Shelf(), shelve), Change(collection_stream(slug), Collection(), create)


def _check_steps(steps: Sequence[Step], model: str, catalog: Catalog) -> tuple[Step, ...]:
    """As they are kept: what they name may be gone one day. Raises Invalid, NotFound `model_not_found`."""
    if model not in catalog.models:
        raise NotFound(
            "model_not_found", f"There is no model '{model}'. GET /v1/models lists those there are.", param="model"
        )
    if not 1 <= len(steps) <= STEPS_MAX:
        raise Invalid("invalid_request", f"A collection has 1 to {STEPS_MAX} steps.", param="steps")
    for index, step in enumerate(steps):
        for name in filter(None, (step.model, step.provider)):
            refuse_keys(name, param=f"steps[{index}]")
        check_step(step, catalog, param=f"steps[{index}]")
    if steps[0].model != model:
        raise Invalid("invalid_request", f"The first step is the collection's own model, '{model}'.", param="steps[0]")
    return tuple(Step(model=step.model, provider=step.provider, saved=True) for step in steps)


def _check_publishable(steps: Sequence[Step], *, public: bool) -> None:
    """An org's own endpoint is nothing to others, and its name nobody's business."""
    for index, step in enumerate(steps):
        if public and (step.model.startswith(OWN_ENDPOINT) or (step.provider or "").startswith(OWN_ENDPOINT)):
            raise Invalid(
                "private_step",
                "This step names an endpoint of your own, which others cannot call; take it out, or keep the collection"
                " private.",
                param=f"steps[{index}]",
            )


def _require_own(state: Collection, org: str) -> None:
    if not state.exists or state.owner != org:
        raise no_such_collection()


def _require_visible(state: Collection, org: str, org_of: FindOrg) -> None:
    owner = org_of(state.owner)
    if not state.exists or owner is None or not owner.exists or not (state.public or state.owner == org):
        raise no_such_collection()
