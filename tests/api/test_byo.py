"""Own keys and endpoints through the API, tried at a simulated provider over HTTP; what is saved, and what is never
shown."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapters.http import HttpPool
from adapters.own_calls import OwnCalls
from adapters.settings import Settings
from adapters.wiring import App
from domain.byo.own import host_of
from domain.byo.routes import with_own
from domain.inference.ports import UpstreamFault
from domain.keys.service import KeyTerms
from domain.routing.needs import Step
from tests.api.client import Client, minted, started
from tests.given import Minted, given_org
from tests.simulated_providers import Simulated

SECRET = "sk-own-0123456789-abcd"
OTHER_SECRET = "sk-own-9876543210-efgh"
PROVIDERS = ["openai", "anthropic", "gemini", "azure", "cohere", "bedrock", "sarvam", "perplexity"]


@pytest.fixture
def settings(tmp_path: Path, providers: Simulated) -> Settings:
    return Settings(home=tmp_path, simulator_url=providers.url, egress_allowed=("127.0.0.1",), egress_http=True)


@pytest.fixture
def stranger(client: Client) -> Minted:
    given_org(client.services.store, "org_b", at=client.services.clock())
    return minted(client, "org_b", KeyTerms(name="theirs"))


def box(providers: Simulated, host: str = "box", **more: Any) -> dict[str, Any]:
    wanted = {"name": "GPU box", "model": "our-llama", "base_url": f"{providers.url}/{host}/v1"}
    return wanted | {"upstream_model": "llama", "key": SECRET, "residency": "IN"} | more


# Keys


def test_a_key_is_tried_saved_and_shown_masked(client: Client, key: Minted, providers: Simulated) -> None:
    providers.take_keys("openai", SECRET)
    reply = client("PUT", "/me/byok/openai", key.secret, {"key": SECRET, "label": "ours", "always_use": True})
    assert reply.status_code == 200, reply.text
    row = reply.json()
    assert (row["provider"], row["mask"], row["label"]) == ("openai", "…abcd", "ours")
    assert (row["always_use"], row["verified"], row["models_discovered"]) == (True, True, 3)
    assert client("GET", "/me/byok", key.secret).json() == {"object": "list", "data": [row]}
    models = client("GET", "/me/byok/openai/models", key.secret).json()["data"]
    listed = {each["id"] for each in models}
    assert {"openai/demo-chat", "openai/gpt-5"} <= listed
    gone = client("DELETE", "/me/byok/openai", key.secret)
    assert (gone.status_code, gone.json()) == (200, {"provider": "openai", "deleted": True})
    assert client.code("DELETE", "/me/byok/openai", key.secret) == (404, "not_found")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_wire_tells_a_good_key_from_a_wrong_one(
    client: Client, key: Minted, providers: Simulated, provider: str
) -> None:
    providers.take_keys(provider, SECRET)
    path = f"/me/byok/{provider}"
    assert client.code("PUT", path, key.secret, {"key": OTHER_SECRET}) == (400, "invalid_request")
    assert client("GET", "/me/byok", key.secret).json()["data"] == []
    saved = client("PUT", path, key.secret, {"key": SECRET})
    assert (saved.status_code, saved.json()["verified"]) == (200, True), saved.text
    shown = providers.requests()[-1]["headers"]
    auth = client.services.catalog.providers[provider].auth
    name = "authorization" if auth == "bearer" else auth.removeprefix("header:").lower()
    assert shown[name].endswith("abcd")


def test_a_key_that_the_provider_cannot_judge_is_saved_unverified_and_tested_again_later(
    client: Client, key: Minted, providers: Simulated
) -> None:
    providers.play("err503", provider="sarvam")
    saved = client("PUT", "/me/byok/sarvam", key.secret, {"key": SECRET}).json()
    assert (saved["verified"], saved["models_discovered"]) == (False, 0)
    untold = client("POST", "/me/byok/sarvam/test", key.secret).json()
    assert (untold["ok"], untold["verified"]) == (False, False)
    providers.play("2c", provider="sarvam")
    tested = client("POST", "/me/byok/sarvam/test", key.secret).json()
    assert (tested["ok"], tested["verified"], tested["models_discovered"]) == (True, True, 3)
    providers.take_keys("sarvam", OTHER_SECRET)
    tested = client("POST", "/me/byok/sarvam/test", key.secret).json()
    assert (tested["ok"], tested["verified"]) == (False, False)
    assert client("GET", "/me/byok", key.secret).json()["data"][0]["verified"] is False


def test_slips_are_told_and_repeat_no_key(client: Client, key: Minted) -> None:
    assert client.code("PUT", "/me/byok/nobody", key.secret, {"key": SECRET}) == (404, "not_found")
    for body in (
        {},
        {"key": ""},
        {"key": "two words"},
        {"key": SECRET, "more": 1},
        {"key": SECRET, "label": "x" * 101},
    ):
        reply = client("PUT", "/me/byok/openai", key.secret, body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request"), reply.text
        assert SECRET not in reply.text
    assert client.code("POST", "/me/byok/openai/test", key.secret) == (404, "not_found")
    assert client.code("GET", "/me/byok/openai/models", key.secret) == (404, "not_found")


def test_another_org_sees_and_touches_nothing(
    client: Client, key: Minted, stranger: Minted, providers: Simulated
) -> None:
    assert client("PUT", "/me/byok/openai", key.secret, {"key": SECRET}).status_code == 200
    made = client("POST", "/me/endpoints", key.secret, box(providers)).json()["endpoint"]
    assert client("GET", "/me/byok", stranger.secret).json()["data"] == []
    assert client("GET", "/me/endpoints", stranger.secret).json()["data"] == []
    assert client.code("GET", "/me/byok/openai/models", stranger.secret) == (404, "not_found")
    assert client.code("POST", "/me/byok/openai/test", stranger.secret) == (404, "not_found")
    assert client.code("DELETE", "/me/byok/openai", stranger.secret) == (404, "not_found")
    assert client.code("DELETE", f"/me/endpoints/{made['id']}", stranger.secret) == (404, "not_found")
    assert len(client("GET", "/me/endpoints", key.secret).json()["data"]) == 1


def test_a_key_is_in_force_in_another_process_within_a_second(client: Client, key: Minted, settings: Settings) -> None:
    with started(settings, client.services.database_url) as there:
        for method, body, known in (("PUT", {"key": SECRET}, True), ("DELETE", None, False)):
            assert client(method, "/me/byok/openai", key.secret, body).status_code == 200
            acknowledged = time.monotonic()
            while (there.directory.directory.own("org_a") is not None) != known:
                time.sleep(0.01)
                assert time.monotonic() - acknowledged < 1


# Endpoints


def test_an_endpoint_that_passes_is_saved_with_the_report(client: Client, key: Minted, providers: Simulated) -> None:
    reply = client("POST", "/me/endpoints", key.secret, box(providers))
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert made["ok"] is True
    assert made["compliance"]["pass"] is True
    assert [check["name"] for check in made["compliance"]["checks"]] == ["chat", "stream", "bad_model", "time"]
    row = made["endpoint"]
    assert (row["slug"], row["provider_ref"], row["model"]) == ("gpu-box", "byoe:gpu-box", "our-llama")
    assert (row["residency"], row["residency_source"], row["key_mask"]) == ("IN", "declared", "…abcd")
    assert client("GET", "/me/endpoints", key.secret).json() == {"object": "list", "data": [row]}
    again = client("POST", "/me/endpoints", key.secret, box(providers, key=None)).json()["endpoint"]
    assert (again["slug"], again["key_mask"]) == ("gpu-box-2", None)
    assert client("DELETE", f"/me/endpoints/{row['id']}", key.secret).json() == {"id": row["id"], "deleted": True}
    assert client.code("DELETE", f"/me/endpoints/{row['id']}", key.secret) == (404, "not_found")


@pytest.mark.parametrize(
    ("upstream", "failing"),
    [
        ("sim-nousage", ["chat"]),
        ("sim-nodone", ["stream"]),
        ("sim-nostream", ["stream"]),
        ("sim-err401", ["chat", "stream"]),
        ("sim-null", ["chat", "stream"]),
        ("sim-reset", ["chat", "stream"]),
    ],
)
def test_an_endpoint_that_fails_is_not_saved_and_the_report_says_where(
    client: Client, key: Minted, providers: Simulated, upstream: str, failing: list[str]
) -> None:
    reply = _ask(client, key, box(providers, upstream_model=upstream))
    assert reply.status_code == 422
    told = reply.json()
    assert told["error"]["code"] == "compliance_failed"
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["compliance"]["pass"] is False
    assert [check["name"] for check in told["compliance"]["checks"] if not check["pass"]] == failing
    assert client("GET", "/me/endpoints", key.secret).json()["data"] == []
    tested = client("POST", "/me/endpoints/test", key.secret, _to_test(box(providers, upstream_model=upstream)))
    assert (tested.status_code, tested.json()["ok"]) == (200, False)


def test_an_endpoint_that_serves_any_model_fails(client: Client, key: Minted, providers: Simulated) -> None:
    providers.play("2c", provider="servile", model="no-such-model-of-bharatrouter")
    told = _ask(client, key, box(providers, "servile")).json()
    assert [check["name"] for check in told["compliance"]["checks"] if not check["pass"]] == ["bad_model"]


def test_a_test_saves_nothing(client: Client, key: Minted, providers: Simulated) -> None:
    tested = client("POST", "/me/endpoints/test", key.secret, _to_test(box(providers)))
    assert (tested.status_code, tested.json()["ok"]) == (200, True)
    assert client("GET", "/me/endpoints", key.secret).json()["data"] == []


def test_addresses_that_are_not_called_are_refused_before_anything_is_sent(
    database_url: str, tmp_path: Path, providers: Simulated
) -> None:
    with started(Settings(home=tmp_path), database_url) as services:
        client = Client(services)
        given_org(services.store, "org_a", at=services.clock())
        key = minted(client, "org_a", KeyTerms(name="first"))
        before = len(providers.requests())
        port = providers.url.rpartition(":")[2]
        for base_url in (
            providers.url,
            f"https://127.0.0.1:{port}/v1",
            f"https://localhost:{port}/v1",
            "https://169.254.169.254/v1",
            "https://user:pass@llm.example.com/v1",
            "https://[::ffff:127.0.0.1]/v1",
        ):
            for path, wanted in (("", box(providers)), ("/test", _to_test(box(providers)))):
                reply = client("POST", f"/me/endpoints{path}", key.secret, wanted | {"base_url": base_url})
                assert (reply.status_code, reply.json()["error"]["code"]) == (400, "address_refused"), base_url
        assert len(providers.requests()) == before


# What is kept


def test_no_key_is_in_the_log_the_read_models_replies_or_lines(
    client: Client, key: Minted, providers: Simulated, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [
        client("PUT", "/me/byok/openai", key.secret, {"key": SECRET}),
        client("POST", "/me/byok/openai/test", key.secret),
        client("POST", "/me/endpoints", key.secret, box(providers, key=OTHER_SECRET)),
        client("GET", "/me/byok", key.secret),
        client("GET", "/me/endpoints", key.secret),
    ]
    client.project()
    replies.append(client("GET", "/me/audit", key.secret))
    assert {"key_saved", "endpoint_added"} <= {row["action"] for row in replies[-1].json()["data"]}
    told = (
        caplog.text + "".join(reply.text for reply in replies) + repr(client.services.directory.directory.own("org_a"))
    )
    with psycopg.connect(client.services.database_url) as connection:
        rows = connection.execute("select convert_from(state, 'utf8') from events").fetchall()
        told += json.dumps([row[0] for row in rows])
        told += str(connection.execute("select * from view_audit.audit").fetchall())
    for secret in (SECRET, OTHER_SECRET):
        assert secret not in told
        assert secret[3:-4] not in told


def test_a_seal_that_was_moved_opens_for_nobody(
    client: Client, key: Minted, stranger: Minted, providers: Simulated
) -> None:
    app = client.services
    client("PUT", "/me/byok/openai", key.secret, {"key": SECRET})
    client("PUT", "/me/byok/openai", stranger.secret, {"key": OTHER_SECRET})
    ours = _own_key(app, "org_a").sealed
    assert app.vault.open("org_a", ours, bound_to=host_of(providers.url)) == SECRET
    for org, host in (("org_b", host_of(providers.url)), ("org_a", "api.openai.com"), ("org_a", "")):
        with pytest.raises(ValueError, match="not sealed"):
            app.vault.open(org, ours, bound_to=host)


def test_a_provider_that_moved_to_another_host_is_not_shown_the_key(
    client: Client, key: Minted, providers: Simulated
) -> None:
    app = client.services
    client("PUT", "/me/byok/openai", key.secret, {"key": SECRET})
    own = app.directory.directory.own("org_a")
    assert own is not None
    catalog, _ = with_own(app.catalog, own, "org_a", [Step(model="openai/gpt-5")])
    (route,) = catalog.routes_of("openai/gpt-5")
    elsewhere = providers.url.replace("127.0.0.1", "localhost")
    before = len(providers.requests())
    for simulator_url, answers in ((providers.url, True), (elsewhere, False)):

        async def call(url: str = simulator_url) -> int:
            pool = HttpPool(connect_seconds=5, idle_seconds=5)
            calls = OwnCalls(
                pool,
                catalog=lambda: app.catalog,
                own=app.directory.directory.own,
                open_seal=lambda org, sealed, host: app.vault.open(org, sealed, bound_to=host),
                resolve=app.egress.resolve,
                environment={},
                simulator_url=url,
            )
            try:
                body = b'{"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]}'
                reply = await calls.call(route, "chat", body, streamed=False, first_byte_seconds=5)
                await reply.read(1 << 20)
                return reply.status
            finally:
                await pool.close()

        if answers:
            assert asyncio.run(call()) == 200
        else:
            with pytest.raises(UpstreamFault, match="save it again"):
                asyncio.run(call())
    assert len(providers.requests()) == before + 1


def _own_key(app: App, org: str) -> Any:
    own = app.directory.directory.own(org)
    assert own is not None
    return own.key("openai")


def _ask(client: Client, key: Minted, wanted: dict[str, Any]) -> Any:
    """The reply to a wish for an endpoint, which has more beside its error than others have."""
    return client("POST", "/me/endpoints", key.secret, wanted, beside={"ok", "compliance"})


def _to_test(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: wanted[name] for name in ("base_url", "upstream_model", "key")}
