"""An org's collections: named chains with versions, to be kept, published, forked, starred and put into force."""

from typing import Any

from fastapi import APIRouter

from adapters.wiring import App
from api.caller import WHO, Actor, AdminActor, MemberActor, PersonActor, Services
from api.errors import documented
from api.routes.collections import page_of
from api.schemas.collections import (
    CollectionList,
    CollectionPage,
    CollectionPatch,
    CollectionRow,
    DeletedCollection,
    Imported,
    NewCollection,
    Starred,
    changed_row,
    collection_row,
    show_steps,
    steps_of,
)
from domain.collections.collection import SLUG_ENTROPY_BYTES, Collection, read_slug
from domain.collections.service import (
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
from projections.collections import collection_of, collections_of, stars_of_others

router = APIRouter(tags=["Collections"])
WRITTEN = ("invalid_request", "looks_like_key", "private_step", "model_not_found")
MADE = ("collection_limit", "slug_taken", "rate_limit_exceeded")


@router.get("/me/collections", response_model=CollectionList, responses=documented(*WHO))
def list_collections(caller: MemberActor, app: Services) -> object:
    """All collections of the org in the order of their making. A change shows a moment after it is made."""
    with app.reading() as connection:
        rows = collections_of(connection, caller.org)
    return {"object": "list", "data": [collection_row(row, own=True) for row in rows]}


@router.post(
    "/me/collections", status_code=201, response_model=CollectionRow, responses=documented(*WHO, *WRITTEN, *MADE)
)
def add_collection(wanted: NewCollection, caller: AdminActor, app: Services) -> object:
    """Makes a collection, private unless said otherwise. Its slug is made of its name and eight random characters, and
    stays. What looks like a key is refused wherever it stands; a public collection cannot name an endpoint of your own.
    A step of `provider/model-id` works for whoever has saved a key of that provider, and is skipped for others."""
    slug = create_collection(
        app.store,
        app.vault,
        org=caller.org,
        entropy=app.entropy(SLUG_ENTROPY_BYTES),
        draft=Draft(
            name=wanted.name,
            model=wanted.model,
            steps=steps_of(wanted.steps),
            description=wanted.description,
            readme=wanted.readme_md,
            public=wanted.public,
        ),
        catalog=app.catalog,
        collections_max=app.settings.collections_max,
        at=app.clock(),
        by=caller.by,
    )
    return changed_row(_look(app, caller, slug), stars=0)


@router.get("/me/collections/{slug}", response_model=CollectionPage, responses=documented(*WHO, "not_found"))
def show_collection(slug: str, caller: MemberActor, app: Services) -> object:
    """One collection of the org with its README, as Markdown and as HTML, and all its versions."""
    return page_of(app, slug, org=caller.org)


@router.patch(
    "/me/collections/{slug}",
    response_model=CollectionRow,
    responses=documented(*WHO, *WRITTEN, "not_found", "version_limit"),
)
def revise_collection(slug: str, wanted: CollectionPatch, caller: AdminActor, app: Services) -> object:
    """Changes what is given, as one new version; nothing, where nothing is different. Forks of it and chains that were
    imported from it stay as they are."""
    given = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    if "steps" in given:
        given["steps"] = steps_of(wanted.steps)
    if "readme_md" in given:
        given["readme"] = given.pop("readme_md")
    change_collection(
        app.store,
        app.vault,
        org=caller.org,
        slug=read_slug(slug),
        wishes=Wishes(**given),
        catalog=app.catalog,
        at=app.clock(),
        by=caller.by,
    )
    with app.reading() as connection:
        row = collection_of(connection, slug)
    return changed_row(_look(app, caller, slug), stars=row["stars"] if row else 0)


@router.delete("/me/collections/{slug}", response_model=DeletedCollection, responses=documented(*WHO, "not_found"))
def remove_collection(slug: str, caller: AdminActor, app: Services) -> object:
    """Deletes a collection of the org. Forks of it and chains that were imported from it stay. A repeat is harmless."""
    delete_collection(app.store, org=caller.org, slug=read_slug(slug), at=app.clock(), by=caller.by)
    return {"slug": slug, "deleted": True}


@router.post(
    "/me/collections/{slug}/fork",
    status_code=201,
    response_model=CollectionRow,
    responses=documented(*WHO, *MADE, "not_found"),
)
def fork(slug: str, caller: MemberActor, app: Services) -> object:
    """Makes a private copy of a public collection, or of one of the org's own, as it is now: what its author changes
    later changes nothing in the copy."""
    made = _fork(app, caller, read_slug(slug), reuse=False)
    return changed_row(_look(app, caller, made), stars=0)


@router.post(
    "/me/collections/import/{slug}",
    response_model=Imported,
    response_model_exclude_unset=True,
    responses=documented(*WHO, *MADE, "not_found", "model_not_found"),
)
def import_collection(slug: str, caller: AdminActor, app: Services) -> object:
    """Makes a collection the org's saved chain for its model, in place of the one before, in force within a second. One
    of another org is forked first, or the fork that the org has of it is taken again, so that nobody else ever changes
    how you are routed. A step whose model, key or endpoint you do not have is skipped."""
    found = _look(app, caller, read_slug(slug))
    answer: dict[str, Any] = {}
    if found.owner != caller.org:
        answer["forked_as"] = _fork(app, caller, found.slug, reuse=True)
        found = _look(app, caller, answer["forked_as"])
    apply_collection(app.store, found, org=caller.org, catalog=app.catalog, at=app.clock(), by=caller.by)
    app.directory.catch_up()
    return {"ok": True, "model": found.model, "steps": show_steps(found.steps)} | answer


@router.post("/me/collections/{slug}/star", response_model=Starred, responses=documented(*WHO, "not_found"))
def star(slug: str, caller: PersonActor, app: Services) -> object:
    """Stars a public collection, or one of the org that the person looks at. A person has one star for each collection,
    whatever orgs they are in, and keys have none. A repeat is harmless."""
    return _set_star(app, caller, slug, starred=True)


@router.delete("/me/collections/{slug}/star", response_model=Starred, responses=documented(*WHO, "not_found"))
def unstar(slug: str, caller: PersonActor, app: Services) -> object:
    """Takes the person's star back. A repeat is harmless."""
    return _set_star(app, caller, slug, starred=False)


def _look(app: App, caller: Actor, slug: str) -> Collection:
    return look_at(app.store, org=caller.org, slug=slug, org_of=app.directory.directory.orgs.get)


def _fork(app: App, caller: Actor, source: str, *, reuse: bool) -> str:
    return fork_collection(
        app.store,
        app.vault,
        org=caller.org,
        source=source,
        entropy=app.entropy(SLUG_ENTROPY_BYTES),
        org_of=app.directory.directory.orgs.get,
        collections_max=app.settings.collections_max,
        at=app.clock(),
        by=caller.by,
        reuse=reuse,
    )


def _org_of(caller: Actor) -> str:
    """The org that the person looks at, unless they were taken out of it."""
    return caller.org if caller.role is not None else ""


def _set_star(app: App, caller: Actor, slug: str, *, starred: bool) -> dict[str, Any]:
    """Tells how many stars there are with that just given or taken back, which the read model may not have yet."""
    change = star_collection if starred else unstar_collection
    change(
        app.store,
        person=caller.person,
        org=_org_of(caller),
        slug=read_slug(slug),
        org_of=app.directory.directory.orgs.get,
        at=app.clock(),
    )
    with app.reading() as connection:
        others = stars_of_others(connection, slug, caller.person)
    return {"slug": slug, "starred": starred, "stars": others + starred}
