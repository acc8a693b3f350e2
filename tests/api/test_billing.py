"""What an org sees of its money: the balance in its parts, its lots, every line, and the month as a file."""

import csv
import io
import json
from typing import Any

import pytest

from adapters.pdf.ready import INSTALL, missing_libraries
from api.cli import main
from domain.kernel.clock import DAY, SECOND, day_to_date, ist_day, ist_month, to_iso
from domain.kernel.money import parse_inr, rupees
from domain.kernel.store import Decision, Reader
from domain.keys.service import KeyTerms
from domain.ledger.credit import SIGN_UP_GRANT, account_of, expire_credit, grant_credit
from domain.ledger.events import CreditAdded, CreditWithdrawn, CreditWithheld
from domain.payments.billing import set_low_balance
from tests.adapters.pdf.looks import text_of
from tests.api.client import Client, minted, served
from tests.given import Minted, given_hold, given_org


@pytest.fixture
def key(client: Client) -> Minted:
    """The key of an org without credit."""
    given_org(client.services.store, "org_a", inr=0, at=client.services.clock())
    return minted(client, "org_a", KeyTerms(name="first"))


def grant(client: Client, grant: str, inr: int, *, reason: str = "thanks", expires: int | None = None) -> None:
    at = client.services.clock()
    amount = rupees(inr)
    grant_credit(
        client.services.store, org="org_a", grant=grant, amount=amount, reason=reason, expires=expires, at=at, by="t"
    )


def record(client: Client, make: Any, **fields: Any) -> None:
    """Puts a fact of the account on record as those who decide it do."""

    def decide(read: Reader) -> Decision:
        return [("account:org_a", make(org="org_a", spent=account_of(read, "org_a").spent, **fields))]

    client.services.store.locked(decide, at=client.services.clock(), by="t")


def billing(client: Client, key: Minted, query: str = "") -> Any:
    reply = client("GET", f"/me/billing{query}", key.secret)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_balance_is_shown_in_its_parts_with_its_lots(client: Client, key: Minted) -> None:
    soon, late = client.services.clock() + DAY, client.services.clock() + 9 * DAY
    record(client, CreditAdded, payment="pay_1", order="order_1", amount=rupees(50))
    grant(client, SIGN_UP_GRANT, 10, reason="Sign-up credit")
    grant(client, "promo:LATE", 20, reason="LATE", expires=late)
    grant(client, "promo:SOON", 5, reason="SOON", expires=soon)
    cost = served(client, key, "req_1")
    record(client, CreditWithheld, reference="rf_1", amount=rupees(8), parts={"pay_1": rupees(8)})
    at = client.services.clock()
    given_hold(client.services.database_url, "req_2", key, amount=rupees(2), at=at, expires=at + DAY)
    set_low_balance(client.services.store, org="org_a", threshold=rupees(30), at=client.services.clock(), by="t")
    client.project()

    shown = billing(client, key)
    assert shown["low_balance_threshold_inr"] == "30"
    assert (shown["held_inr"], shown["withheld_inr"]) == ("2", "8")
    assert parse_inr(shown["balance_inr"]) == rupees(85) - cost
    assert parse_inr(shown["available_inr"]) == rupees(75) - cost == client.services.available("org_a")
    assert [(lot["type"], lot["note"], lot["amount_inr"], lot["left_inr"]) for lot in shown["lots"]] == [
        ("promo", "SOON", "5", "4.993412"),
        ("promo", "LATE", "20", "20"),
        ("promo", "Sign-up credit", "10", "10"),
        ("topup", "Top-up", "50", "42"),
    ]
    assert [lot["expires_at"] for lot in shown["lots"]] == [to_iso(soon), to_iso(late), None, None]
    assert [lot.get("payment_id") for lot in shown["lots"]] == [None, None, None, "pay_1"]
    left = sum(parse_inr(lot["left_inr"]) for lot in shown["lots"])
    assert left == parse_inr(shown["available_inr"]) + parse_inr(shown["held_inr"])


def test_money_events_are_lines_with_a_running_balance(client: Client, key: Minted) -> None:
    soon = client.services.clock() + 1_000
    grant(client, SIGN_UP_GRANT, 100, reason="Sign-up credit", expires=soon)
    served(client, key, "req_1", at=client.services.clock() - 2 * SECOND)  # it takes two seconds
    record(client, CreditAdded, payment="pay_1", order="order_1", amount=rupees(50))
    grant(client, "grant_1", 7)
    record(client, CreditWithheld, reference="rf_1", amount=rupees(20), parts={"pay_1": rupees(20)})
    record(client, CreditWithdrawn, reference="rf_1", amount=rupees(20))
    expire_credit(client.services.store, org="org_a", lot=SIGN_UP_GRANT, at=client.services.clock(), by="t")
    client.project()
    events = billing(client, key)["events"]
    assert [(line["type"], line["amount_inr"], line["balance_after_inr"]) for line in events] == [
        ("expiry", "-99.993412", "37"),
        ("refund", "-20", "136.993412"),
        ("adjustment", "7", "156.993412"),
        ("topup", "50", "149.993412"),
        ("promo", "100", "100"),
    ]
    assert [set(line) - {"payment_id"} for line in events] == [
        {"id", "at", "type", "amount_inr", "balance_after_inr", "note"}
    ] * 5
    assert [line.get("payment_id") for line in events] == [None, None, None, "pay_1", None]
    assert (events[0]["note"], events[-1]["note"]) == ("Sign-up credit", "Sign-up credit")

    pages, query = [], "?limit=2"
    while True:
        page = billing(client, key, query)
        pages.append(page["events"])
        if page["next_before"] is None:
            break
        query = f"?limit=2&before={page['next_before']}"
    assert pages == [events[:2], events[2:4], events[4:]]

    for number, line in enumerate(events):
        then = billing(client, key, f"?as_of={line['at']}")
        assert then["balance_inr"] == line["balance_after_inr"]
        assert then["events"] == events[number:]
        left = sum(parse_inr(lot["left_inr"]) for lot in then["lots"])
        assert left == parse_inr(then["available_inr"]) + parse_inr(then["held_inr"])
        assert then["withheld_inr"] == "0"
    assert billing(client, key, "?as_of=2020-01-01") | {"as_of": ""} == {
        "as_of": "",
        **dict.fromkeys(("balance_inr", "held_inr", "withheld_inr", "available_inr"), "0"),
        "low_balance_threshold_inr": None,
        "lots": [],
        "events": [],
        "next_before": None,
    }


@pytest.mark.parametrize("query", ["before=x", "before=-1", "before=" + "9" * 19, "limit=0", "limit=101"])
def test_a_page_of_lines_that_is_none_is_refused(client: Client, key: Minted, query: str) -> None:
    assert client.code("GET", f"/me/billing?{query}", key.secret) == (400, "invalid_request")


def test_the_statement_is_a_table_that_adds_up(client: Client, key: Minted) -> None:
    grant(client, "grant_1", 100, reason='=HYPERLINK("x"), धन्यवाद')
    cost = served(client, key, "req_1") + served(client, key, "req_2")
    record(client, CreditAdded, payment="pay_1", order="order_1", amount=rupees(50))
    client.project()
    today = day_to_date(ist_day(client.services.clock())).isoformat()
    reply = client("GET", f"/me/billing/statement?month={today[:7]}", key.secret)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"] == f'attachment; filename="statement-{today[:7]}.csv"'
    assert client("GET", "/me/billing/statement", key.secret).content == reply.content
    rows = list(csv.DictReader(io.StringIO(reply.content.decode())))
    assert [(row["day"], row["type"], row["calls"], row["amount_inr"]) for row in rows] == [
        (f"{today[:7]}-01", "opening", "", ""),
        (today, "adjustment", "", "100"),
        (today, "topup", "", "50"),
        (today, "usage", "2", "-0.013176"),
        (today, "closing", "", ""),
    ]
    assert rows[1]["note"] == '\'=HYPERLINK("x"), धन्यवाद'
    assert (rows[2]["payment_id"], rows[2]["time"] < "24") == ("pay_1", True)
    assert [row["balance_inr"] for row in rows] == ["0", "100", "150", "149.986824", "149.986824"]
    assert rows[-1]["balance_inr"] == billing(client, key)["balance_inr"]
    assert parse_inr(rows[-1]["balance_inr"]) == rupees(150) - cost


def test_a_month_that_is_none_is_refused(client: Client, key: Minted) -> None:
    client.project()
    year, month = divmod(ist_month(client.services.clock()), 100)
    for wrong in ("2026-13", "2026-1", "2026", "2026-01-01", "11-2026", "", f"{year - 1}-{month:02d}", "2999-01"):
        assert client.code("GET", f"/me/billing/statement?month={wrong}", key.secret) == (400, "invalid_range")
    assert client.code("GET", "/me/billing/statement?format=xls", key.secret) == (400, "invalid_request")


def test_no_org_sees_the_money_of_another(client: Client, key: Minted) -> None:
    grant(client, "grant_1", 100, reason="secret")
    served(client, key, "req_1")
    given_org(client.services.store, "org_b", inr=3, at=client.services.clock())
    stranger = minted(client, "org_b", KeyTerms(name="stranger"))
    client.project()
    shown = billing(client, stranger)
    assert (shown["balance_inr"], [line["amount_inr"] for line in shown["events"]]) == ("3", ["3"])
    assert [lot["left_inr"] for lot in shown["lots"]] == ["3"]
    statement = client("GET", "/me/billing/statement?org=org_a", stranger.secret).text
    assert "secret" not in statement
    assert "usage" not in statement
    narrow = minted(client, "org_a", KeyTerms(name="narrow", scope="inference"))
    assert client.code("GET", "/me/billing/statement") == (401, "no_session")
    assert client.code("GET", "/me/billing/statement", narrow.secret) == (403, "forbidden_scope")


@pytest.mark.skipif(missing_libraries() is not None, reason=f"needs: {INSTALL}")
def test_the_statement_is_a_pdf_for_whoever_asks_for_one(client: Client, key: Minted) -> None:
    grant(client, "grant_1", 100)
    client.project()
    path = "/me/billing/statement"
    asked = client("GET", path, key.secret, headers={"accept": "application/pdf"})
    assert asked.headers["content-type"] == "application/pdf"
    assert asked.headers["content-disposition"].endswith('.pdf"')
    assert "Adjustment thanks ₹100.00 ₹100.00" in text_of(asked.content)
    both = client("GET", f"{path}?format=csv", key.secret, headers={"accept": "application/pdf"})
    assert both.headers["content-type"].startswith("text/csv")


def test_the_operator_prints_any_orgs_statement(
    client: Client, key: Minted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grant(client, "grant_1", 100)
    cost = served(client, key, "req_1")
    monkeypatch.setenv("DATABASE_URL", client.services.database_url)
    monkeypatch.setenv("BHARATROUTER_HOME", str(client.services.settings.home))
    table = client("GET", "/me/billing/statement", key.secret).text
    assert main(["statement", "--org", "org_a"]) == 0
    assert capsys.readouterr().out.splitlines() == table.splitlines()
    month = table.splitlines()[1][:7]
    assert main(["statement", "--org", "org_a", "--month", month, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[name] for name in ("month", "opening_inr", "credited_inr", "debited_inr", "calls")] == [
        month, "0", "100", "0", 1
    ]  # fmt: skip
    assert parse_inr(told["used_inr"]) == cost
    assert parse_inr(told["closing_inr"]) == rupees(100) - cost
    for wrong, why in ((["--month", "2020-01"], "run from"), (["--month", "x"], "like 2026-11")):
        assert main(["statement", "--org", "org_a", *wrong]) == 1
        assert why in capsys.readouterr().err
    assert main(["statement", "--org", "org_none"]) == 1
