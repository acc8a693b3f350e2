"""Records in the log what the files of the catalog say, so that history knows every price that was ever in force."""

from domain.catalog.catalog import Catalog
from domain.catalog.events import CATALOG_STREAM, CatalogRecord, differences, leaping_prices, stream_of
from domain.kernel.errors import Conflict
from domain.kernel.store import Change, Decision, Store


def record_catalog(store: Store, catalog: Catalog, *, leaps_accepted: bool = False, at: int, by: str) -> int | None:
    """Appends what has changed since the last time; answers the position of the last fact, None where all is recorded.

    Raises Conflict `price_leaped` when a price moved tenfold or more, unless `leaps_accepted`: that is more often a
    slip of the pen than a price, and money would follow it.
    """

    def decide(record: CatalogRecord) -> Decision:
        leaped = leaping_prices(record, catalog)
        if leaped and not leaps_accepted:
            named = ", ".join(f"{new.id} (was {old.id})" for old, new in leaped)
            raise Conflict(
                "price_leaped",
                f"These prices moved tenfold or more: {named}. If that is right, run"
                " `bharatrouter migrate --accept-prices`.",
            )
        return [(stream_of(event), event) for event in differences(record, catalog)]

    return store.change(Change(CATALOG_STREAM, CatalogRecord(), decide), at=at, by=by)
