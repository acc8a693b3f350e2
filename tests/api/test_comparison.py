"""Prices, routes and models side by side, as anybody may see them."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.settings import Settings
from adapters.wiring import App, build
from domain.catalog.use_cases import USE_CASES
from domain.kernel.clock import DAY, day_to_date, ist_day
from tests.api.client import Client, served
from tests.given import PEPPER, Minted

NOTHING = {
    "success_rate": None,
    "latency_p50_ms": None,
    "latency_p95_ms": None,
    "output_tokens_per_second": None,
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> App:
    """Its exchange rate is its own; never connected."""
    settings = Settings(home=tmp_path, fx_inr_per_usd=Decimal("80.5"), fx_margin=Decimal("0.1"))
    return build(settings, database_url="postgresql://nowhere", pepper=b"p")


def test_prices_stand_beside_the_list_price_abroad(elsewhere: App) -> None:
    shown = Client(elsewhere)("GET", "/v1/pricing/compare?model=gpt-5").json()
    settings = elsewhere.settings
    assert shown["fx"] == {"inr_per_usd": 80.5, "on": settings.fx_date.isoformat(), "margin": 0.1}
    (row,) = shown["data"]
    assert row["id"] == "gpt-5"
    assert row["list_price"] == {
        "inputUSDPerMtok": 1.25,
        "outputUSDPerMtok": 10,
        "inputINRPerMtok": 100.625,
        "outputINRPerMtok": 805,
        "on": "2026-11-23",
    }
    openai = next(route for route in row["routes"] if route["provider"] == "openai")
    assert openai["inputINRPerMtok"] == pytest.approx(1.25 * 80.5 * 1.1, abs=0.001)


def test_prices_are_those_of_the_catalogs_other_rows(client: Client) -> None:
    rows = {row["id"]: row for row in client("GET", "/v1/pricing/compare").json()["data"]}
    listed = client("GET", "/v1/models").json()["data"]
    assert set(rows) == {row["id"] for row in listed}
    for row in listed:
        without_health = [{name: route[name] for name in route if name != "health"} for route in row["routes"]]
        assert rows[row["id"]]["routes"] == without_health
    assert rows["bge-m3"]["list_price"]["outputUSDPerMtok"] is None
    assert rows["bge-m3"]["list_price"]["outputINRPerMtok"] is None
    assert rows["whisper-large-v3"]["list_price"] is None
    assert client.code("GET", "/v1/pricing/compare?model=none") == (404, "model_not_found")


def test_a_list_of_prices_that_cannot_be_read_keeps_nothing_from_working(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "list_prices.toml").write_text('[models]\ngpt-5 = { input = "dear", on = "2026-11-23" }\n')
    settings = Settings(home=tmp_path, catalog_dir=own)
    shown = Client(build(settings, database_url="postgresql://nowhere", pepper=b"p"))
    assert shown("GET", "/v1/pricing/compare?model=gpt-5").json()["data"][0]["list_price"]["inputUSDPerMtok"] == 1.25


def test_stats_are_those_of_the_calls_of_each_route(client: Client, key: Minted) -> None:
    now = client.services.clock()
    served(client, key, "req_1")
    served(client, key, "req_2", at=now - 8 * DAY)
    shown = client("GET", "/v1/models/sarvam-105b/stats").json()
    assert shown.pop("routes") == [
        {
            "provider": "sarvam",
            "success_rate": 1.0,
            "latency_p50_ms": 100,
            "latency_p95_ms": 100,
            "output_tokens_per_second": 25.1,
        }
    ]
    assert shown == {"id": "sarvam-105b", "window": "7d", "as_of": day_to_date(ist_day(now)).isoformat()}
    unused = client("GET", "/v1/models/gpt-5/stats").json()["routes"]
    assert unused == [{"provider": route.provider, **NOTHING} for route in client.services.catalog.routes_of("gpt-5")]
    assert client.code("GET", "/v1/models/none/such/stats") == (404, "model_not_found")


def test_models_are_compared_by_price_and_by_how_they_did(client: Client, key: Minted) -> None:
    served(client, key, "req_1")
    shown = client("GET", "/v1/compare/models").json()
    models: dict[str, Any] = {row["id"]: row["routes"] for row in shown["data"]}
    assert list(models) == list(client.services.catalog.models)
    (sarvam,) = models["sarvam-105b"]
    priced = client("GET", "/v1/models/sarvam-105b").json()["routes"][0]
    assert sarvam["pricing_inr_per_mtok"] == {
        "input": priced["inputINRPerMtok"],
        "output": priced["outputINRPerMtok"],
        "cached_input": priced["cachedInputINRPerMtok"],
    }
    stats = client("GET", "/v1/models/sarvam-105b/stats").json()["routes"][0]
    assert {"provider": "sarvam", **sarvam["perf"]} == stats
    assert sarvam["perf"]["success_rate"] == 1
    assert models["krutrim-2"] == [
        {"provider": "krutrim", "pricing_inr_per_mtok": {"input": None, "output": None}, "perf": NOTHING}
    ]
    (whisper,) = models["whisper-large-v3"]
    assert whisper["pricing_inr_per_mtok"] == {"input": None, "output": None}
    assert whisper["inrPerMinute"] > 0


def test_every_use_has_models_that_are_fit_for_it(client: Client) -> None:
    shown = client("GET", "/v1/compare/models").json()["use_cases"]
    assert [row["id"] for row in shown] == [
        "coding_agent",
        "chat",
        "bulk_extraction",
        "rag",
        "indic",
        "vision",
        "voice",
    ]
    catalog = client.services.catalog
    for row in shown:
        case = USE_CASES[row["id"]]
        assert row["ranked"] == list(dict.fromkeys(case.models)), "a model that is not on offer, or twice"
        for model in (catalog.models[id] for id in row["ranked"]):
            assert model.modality in case.modalities, (row["id"], model.id)
            assert set(case.capabilities) <= set(model.capabilities), (row["id"], model.id)


def test_a_bad_key_is_refused_and_without_read_models_nothing_is_made_up(client: Client) -> None:
    bad = "br-" + "x" * 33
    for path in ("/v1/pricing/compare", "/v1/compare/models", "/v1/models/gpt-5/stats"):
        assert client.code("GET", path, bad) == (401, "invalid_api_key")
        assert client("GET", path).status_code == 200
    unprepared = build(client.services.settings, database_url=client.services.database_url, pepper=PEPPER)
    with unprepared.reading() as connection:
        connection.execute("alter schema view_route_stats rename to view_route_stats__gone")
    try:
        for path in ("/v1/compare/models", "/v1/models/gpt-5/stats"):
            assert client.code("GET", path) == (503, "ledger_unavailable")
    finally:
        with unprepared.reading() as connection:
            connection.execute("alter schema view_route_stats__gone rename to view_route_stats")
        unprepared.close()
