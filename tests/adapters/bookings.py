"""Facts of calls for tests of the ledger, with nothing in them but what the ledger looks at."""

from domain.catalog.price import Rates
from domain.inference.metering import Usage
from domain.ledger.events import CreditHeld, HoldReleased, RequestRefused, RequestSettled

ENDPOINT, MODEL = "/v1/chat/completions", "m"
RATES = Rates(id="p/m@2026-01-01", priced_on="2026-01-01", input=1, cached_input=1, cache_write=1, output=1)


def hold_of(
    *,
    org: str,
    key: str,
    workspace: str,
    amount: int,
    at: int,
    expires: int,
    model: str = MODEL,
    allowance: str = "",
) -> CreditHeld:
    return CreditHeld(
        at=at,
        by=f"key:{key}",
        org=org,
        key=key,
        workspace=workspace,
        amount=amount,
        expires=expires,
        endpoint=ENDPOINT,
        model=model,
        candidates=("p/m",),
        allowance=allowance,
    )


def settlement_of(held: CreditHeld, *, cost: int, at: int) -> RequestSettled:
    return RequestSettled(
        at=at,
        by=held.by,
        org=held.org,
        key=held.key,
        workspace=held.workspace,
        endpoint=ENDPOINT,
        model=MODEL,
        provider="p",
        residency="IN",
        held=held.amount,
        cost=cost,
        usage=Usage(output=cost),
        rates=RATES,
        attempts=(),
        first_byte_ms=1,
        duration_ms=2,
    )


def release_of(held: CreditHeld, *, at: int) -> HoldReleased:
    return HoldReleased(
        at=at,
        by=held.by,
        org=held.org,
        key=held.key,
        workspace=held.workspace,
        endpoint=ENDPOINT,
        model=MODEL,
        held=held.amount,
        code="all_routes_failed",
    )


def refusal_of(*, org: str, key: str, workspace: str, at: int) -> RequestRefused:
    return RequestRefused(
        at=at, by=f"key:{key}", org=org, key=key, workspace=workspace, endpoint=ENDPOINT, model=MODEL, code="no_route"
    )
