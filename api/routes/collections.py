"""Collections that anybody may look at."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from adapters.wiring import App
from api.caller import Services, public
from api.errors import documented
from api.schemas.collections import CollectionList, CollectionPage, collection_page, collection_row
from api.web.markdown import safe_html
from domain.collections.collection import no_such_collection, read_slug
from projections.collections import ROWS_MAX, collection_of, public_collections, versions_of

router = APIRouter(tags=["Collections"], dependencies=[Depends(public)])
TERMS_MAX = 8


@router.get(
    "/v1/collections",
    response_model=CollectionList,
    responses=documented("invalid_api_key", "invalid_request", "ledger_unavailable"),
)
def list_public_collections(
    app: Services,
    q: Annotated[str, Query(max_length=200, description="Words of the name, description, model or slug")] = "",
    limit: Annotated[int, Query(ge=1, le=ROWS_MAX)] = ROWS_MAX,
) -> object:
    """The public collections with the most stars, of those with as many the newest first. Each is a chain for one
    model: `POST /me/collections/import/{slug}` makes it yours."""
    terms = q.replace("\0", "").split()[:TERMS_MAX]
    with app.reading() as connection:
        rows = public_collections(connection, terms=terms, limit=limit)
    return {"object": "list", "data": [collection_row(row, own=False) for row in rows]}


@router.get(
    "/v1/collections/{slug}",
    response_model=CollectionPage,
    responses=documented("invalid_api_key", "not_found", "ledger_unavailable"),
)
def show_public_collection(slug: str, app: Services) -> object:
    """One public collection with its README, as Markdown and as HTML, and its versions."""
    return page_of(app, slug, org=None)


def page_of(app: App, slug: str, *, org: str | None) -> dict[str, Any]:
    """A collection of the org in full, or without one a public collection as all may see it. Raises NotFound."""
    own = org is not None
    with app.reading() as connection:
        row = collection_of(connection, read_slug(slug))
        if row is None or row["deleted"] or not (row["org"] == org if own else row["public"]):
            raise no_such_collection()
        versions = versions_of(connection, slug, public_only=not own)
    readme = (app.vault.open(row["org"], row["readme"]) or "") if row["readme"] else ""
    return collection_page(row, versions, readme=readme, html=safe_html(readme), own=own)
