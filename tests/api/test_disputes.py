"""An org objects to what a request cost: what the record decides, what an operator decides, and only once."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from adapters.ledger import LedgerWriter
from api.cli import main
from domain.inference.metering import Usage
from domain.kernel.clock import SECOND
from domain.kernel.events import Event
from domain.keys.service import KeyTerms
from domain.ledger.events import Attempt, CreditHeld, HoldReleased, RequestSettled
from tests.api.client import Client, minted
from tests.domain.ledger.test_dispute import SETTLED
from tests.given import PEPPER, Minted, given_org

REASON = {"reason": "The answer broke off."}
COUNTED = msgspec.structs.replace(SETTLED, usage=Usage(input=10, output=10, source="counted"))
BROKE = msgspec.structs.replace(SETTLED, attempts=(Attempt(route="p/m", end="cut"),))


def record(client: Client, key: Minted, request: str, end: RequestSettled | HoldReleased | None) -> None:
    """Puts a request with that ending on record through the ledger; None leaves it running."""
    at = client.services.clock()
    who: dict[str, Any] = {"org": key.org, "key": key.key, "workspace": key.workspace, "at": at}
    hold = CreditHeld(**who, endpoint="chat", model="m", amount=1_000, expires=at + 900 * SECOND, candidates=("p/m",))

    async def write() -> None:
        writer = LedgerWriter(client.services.database_url, clock=client.services.clock)
        await writer.start()
        assert await writer.hold(request, hold) is None
        if end is not None:
            assert await writer.end(request, msgspec.structs.replace(end, **who)) is None
        await writer.close()

    asyncio.run(write())


def available(client: Client) -> int:
    return client.services.available("org_a")


@pytest.mark.parametrize(
    ("end", "outcome", "given_back"),
    [
        (SETTLED, "stands", 0),
        (BROKE, "given_back", 100),
        (msgspec.structs.replace(SETTLED, cost=0), "nothing_charged", 0),
    ],
)
def test_what_the_record_decides_is_in_the_reply(
    client: Client, key: Minted, end: RequestSettled, outcome: str, given_back: int
) -> None:
    record(client, key, "req_1", end)
    before = available(client)
    reply = client("POST", "/me/requests/req_1/dispute", key.secret, REASON)
    assert reply.status_code == 200
    told = reply.json()
    assert (told["request_id"], told["state"], told["outcome"]) == ("req_1", "decided", outcome)
    assert told["why"]
    assert told["decided_at"] == told["disputed_at"]
    assert available(client) == before + given_back
    assert client("POST", "/me/requests/req_1/dispute", key.secret, {"reason": "again"}).json() == told
    assert available(client) == before + given_back


def test_what_an_operator_must_see_is_queued_for_him(
    client: Client, key: Minted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(client, key, "req_1", COUNTED)
    before = available(client)
    queued = client("POST", "/me/requests/req_1/dispute", key.secret, REASON).json()
    assert (queued["state"], queued["outcome"], queued["charged_inr"]) == ("queued", None, "0.0000001")
    client.project()

    monkeypatch.setenv("DATABASE_URL", client.services.database_url)
    monkeypatch.setenv("BHARATROUTER_HOME", str(client.services.settings.home))
    monkeypatch.setenv("BR_KEY_PEPPER", PEPPER.decode())

    def cli(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    [waiting] = cli("dispute", "list")["disputes"]
    assert (waiting["request"], waiting["reason"], waiting["outcome"]) == ("req_1", REASON["reason"], None)
    why = "The count was wrong."
    decided = cli("dispute", "decide", "req_1", "give-back", "--why", why)
    assert (decided["outcome"], decided["amount_inr"]) == ("given_back", "0.0000001")
    assert cli("dispute", "decide", "req_1", "stands", "--why", "no")["outcome"] == "given_back"
    client.project()
    assert cli("dispute", "list")["disputes"] == []
    assert len(cli("dispute", "list", "--all")["disputes"]) == 1
    told = client("POST", "/me/requests/req_1/dispute", key.secret, REASON).json()
    assert (told["state"], told["outcome"], told["why"], told["given_back_inr"]) == (
        "decided", "given_back", why, "0.0000001",
    )  # fmt: skip
    assert available(client) == before + 100
    assert cli("verify")["ok"]


def test_who_may_dispute_what(client: Client, key: Minted) -> None:
    record(client, key, "req_1", SETTLED)
    record(client, key, "req_2", None)
    given_org(client.services.store, "org_b", at=client.services.clock())
    stranger = minted(client, "org_b", KeyTerms(name="other"))
    path = "/me/requests/{}/dispute"
    assert client.code("POST", path.format("req_1"), stranger.secret, REASON) == (404, "not_found")
    assert client.code("POST", path.format("req_9"), key.secret, REASON) == (404, "not_found")
    assert client.code("POST", path.format("a%00b"), key.secret, REASON) == (404, "not_found")
    assert client.code("POST", path.format("req_2"), key.secret, REASON) == (409, "request_open")
    assert client.code("POST", path.format("req_1"), "", REASON) == (401, "no_session")
    for wrong in ({}, {"reason": ""}, {"reason": "x" * 2_001}, REASON | {"amount_inr": 5}):
        assert client.code("POST", path.format("req_1"), key.secret, wrong) == (400, "invalid_request")


def test_what_was_written_about_it_is_sealed(client: Client, key: Minted) -> None:
    record(client, key, "req_1", COUNTED)
    client("POST", "/me/requests/req_1/dispute", key.secret, REASON)
    fact: Event = client.services.log.stream("dispute:req_1")[0].event
    assert REASON["reason"] not in str(fact)
    assert client.services.vault.open("org_a", fact.reason) == REASON["reason"]
