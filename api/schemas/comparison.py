"""Routes side by side: what they cost, here and abroad, and how they did."""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from api.schemas.catalog import PricedRoute, per_mtok, priced_route
from api.schemas.times import show_day
from domain.catalog.catalog import Catalog
from domain.catalog.doubts import ListPrice
from domain.catalog.model import Model, Route
from domain.catalog.price import Fx
from domain.catalog.use_cases import USE_CASES, ranked

Stats = Mapping[str, Mapping[str, Any]]
"""How routes did, by `provider/model`; those that were not called are not in it."""


class ExchangeRate(BaseModel):
    inr_per_usd: float
    on: str = Field(description="The day it is of")
    margin: float = Field(description="On top of it where a route is priced in dollars; 0.05 is five per cent")


class ListPriceRow(BaseModel):
    inputUSDPerMtok: float
    outputUSDPerMtok: float | None
    inputINRPerMtok: float = Field(description="At the exchange rate, without the margin")
    outputINRPerMtok: float | None
    on: str


class PricingRow(BaseModel):
    id: str
    list_price: ListPriceRow | None = Field(
        description="Abroad: its maker's, or the middle one of those who serve it; null where it has none"
    )
    routes: list[PricedRoute]


class PricingComparison(BaseModel):
    object: str = "list"
    fx: ExchangeRate
    data: list[PricingRow]


class Performance(BaseModel):
    success_rate: float | None
    latency_p50_ms: int | None
    latency_p95_ms: int | None
    output_tokens_per_second: float | None


class RouteStatsRow(Performance):
    provider: str


class ModelStats(BaseModel):
    id: str
    window: str = "7d"
    as_of: str = Field(description="The last day of the window")
    routes: list[RouteStatsRow]


class TokenPrices(BaseModel):
    input: float | None
    output: float | None
    cached_input: float | None = None


class ComparedRoute(BaseModel):
    provider: str
    pricing_inr_per_mtok: TokenPrices = Field(description="Null where tokens are not what is paid for, or no price")
    inrPerMinute: float | None = None
    inrPerMchar: float | None = None
    perf: Performance = Field(description="In the last 7 days; null where nobody called it")


class ComparedModel(BaseModel):
    id: str
    routes: list[ComparedRoute]


class UseCaseRow(BaseModel):
    id: str
    name: str
    ranked: list[str] = Field(description="Ids of models, the first to be tried first")


class ModelComparison(BaseModel):
    object: str = "list"
    use_cases: list[UseCaseRow]
    data: list[ComparedModel]


def route_names(catalog: Catalog, models: Iterable[str]) -> list[str]:
    """All their routes, by which their stats are found."""
    return [_name(route) for model in models for route in catalog.routes_of(model)]


def pricing_comparison(
    models: Iterable[Model], catalog: Catalog, listed: Mapping[str, ListPrice], fx: Fx
) -> dict[str, Any]:
    data = [
        {
            "id": model.id,
            "list_price": _list_price(listed[model.id], fx) if model.id in listed else None,
            "routes": [priced_route(route) for route in catalog.routes_of(model.id)],
        }
        for model in models
    ]
    rate = {"inr_per_usd": float(fx.inr_per_usd), "on": fx.on.isoformat(), "margin": float(fx.margin)}
    return {"object": "list", "fx": rate, "data": data}


def model_stats(id: str, routes: Collection[Route], stats: Stats, *, as_of: int) -> dict[str, Any]:
    """`as_of` is the last day of the window, in days since 1970."""
    rows = [{"provider": route.provider, **_performance(route, stats)} for route in routes]
    return {"id": id, "window": "7d", "as_of": show_day(as_of), "routes": rows}


def model_comparison(catalog: Catalog, stats: Stats) -> dict[str, Any]:
    return {
        "object": "list",
        "use_cases": [{"id": id, "name": case.name, "ranked": ranked(case, catalog)} for id, case in USE_CASES.items()],
        "data": [
            {"id": model, "routes": [_compared(route, stats) for route in routes]}
            for model, routes in catalog.routes.items()
        ],
    }


def _compared(route: Route, stats: Stats) -> dict[str, Any]:
    priced = priced_route(route)
    other_units: dict[str, Any] = {name: priced[name] for name in ("inrPerMinute", "inrPerMchar") if name in priced}
    tokens = route.rates if not other_units else None
    prices = {
        "input": per_mtok(tokens.input if tokens else None),
        "output": per_mtok(tokens.output if tokens else None),
    }
    if "cachedInputINRPerMtok" in priced:
        prices["cached_input"] = priced["cachedInputINRPerMtok"]
    return {
        "provider": route.provider,
        "pricing_inr_per_mtok": prices,
        **other_units,
        "perf": _performance(route, stats),
    }


def _performance(route: Route, stats: Stats) -> dict[str, Any]:
    found = stats.get(_name(route), {})
    return {name: found.get(name) for name in Performance.model_fields}


def _list_price(listed: ListPrice, fx: Fx) -> dict[str, Any]:
    output = listed.output_usd or None
    return {
        "inputUSDPerMtok": float(listed.input_usd),
        "outputUSDPerMtok": None if output is None else float(output),
        "inputINRPerMtok": _inr(listed.input_usd, fx),
        "outputINRPerMtok": None if output is None else _inr(output, fx),
        "on": listed.on,
    }


def _inr(dollars: Decimal, fx: Fx) -> float:
    """To look at, to a tenth of a paisa; nothing is billed by it."""
    return float(round(dollars * fx.inr_per_usd, 3))


def _name(route: Route) -> str:
    return f"{route.provider}/{route.model}"
