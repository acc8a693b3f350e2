"""The read model of refunds and chargebacks says what their streams say, wherever batches end."""

from collections import defaultdict
from itertools import accumulate

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.kernel.events import Event
from domain.kernel.store import fold
from domain.payments.chargebacks import OrderChargebacks
from domain.payments.events import DocumentIssued, RefundAccepted, RefundProcessed, RefundRequested, Tax
from domain.payments.refunds import OrderRefunds
from projections.refunds import PROJECTION, chargebacks_of, receipt_of, refund_of, refunds_of, unfinished_orders
from projections.runner import Runner
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import append
from tests.projections.money_history import MONEY_STEPS, play_money

LONG = [
    (kind, 3 * n % 1_000, 700 + 11 * n % 300)
    for n in range(25)
    for kind in ("capture", "refund", "hold", "refund_end", "dispute", "settle", "capture", "refund", "dispute_end")
]
TAX = Tax(taxable=10_000, percent=18, cgst=900, sgst=900)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=MONEY_STEPS, ends=st.lists(st.integers(1, 40), max_size=8))
def test_tables_do_not_depend_on_where_batches_end(database_url: str, steps: list, ends: list[int]) -> None:
    lines = [line for facts in play_money(steps) for line in facts]
    with history_in(database_url, lines) as (cursor, before, head):
        stops = [before, *(before + at for at in accumulate(ends) if before + at < head), head]
        live = filled(cursor, [PROJECTION], "__live", stops=stops, indexes=False)
        again = filled(cursor, [PROJECTION], "__again", stops=[before, head], indexes=False)
        assert sums_of(cursor, live) == sums_of(cursor, again)


def test_rows_are_what_the_streams_add_up_to(database_url: str) -> None:
    lines = [line for facts in play_money([*LONG, ("capture", 1, 500), ("dispute", 1, 5)]) for line in facts]
    streams: defaultdict[str, list[tuple[str, Event]]] = defaultdict(list)
    for line in lines:
        streams[line[0]].append(line)
    refunds = [
        refund
        for stream, facts in streams.items()
        if stream.startswith("payment:")
        for refund in fold(OrderRefunds(), facts).refunds.values()
    ]
    chargebacks = {
        id: each
        for stream, facts in streams.items()
        if stream.startswith("payment:")
        for id, each in fold(OrderChargebacks(), facts).chargebacks.items()
    }
    assert {refund.state for refund in refunds} == {"requested", "processed", "failed"}
    assert {each.outcome for each in chargebacks.values()} == {"open", "won", "lost"}
    runner = Runner(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, lines)
        runner.prepare()
        runner.step(connection)
        for org in ("org0", "org1", "org2"):
            shown = [refund for _, refund in refunds_of(connection, org, before=None, limit=1_000)]
            assert sorted(shown, key=lambda refund: refund.id) == sorted(
                (refund for refund in refunds if refund.org == org), key=lambda refund: refund.id
            )
            for row in chargebacks_of(connection, org):
                known = chargebacks.pop(row["chargeback"])
                assert (row["state"], row["withheld"]) == (known.outcome, known.withheld)
        assert not chargebacks
        open_orders = {refund.order for refund in refunds if refund.is_open}
        assert set(unfinished_orders(connection, limit=1_000)) == open_orders


def requested(number: int, at: int = 1) -> tuple[str, Event]:
    refund = RefundRequested(
        at=at, org="org_a", refund=f"refund_{number}", payment="pay_1", credit=1, tax=TAX, reason="why"
    )
    return f"payment:order_{number}", refund


def accepted(number: int) -> tuple[str, Event]:
    event = RefundAccepted(at=2, org="org_a", refund=f"refund_{number}", payment="pay_1", gateway_refund="rfnd_1")
    return f"payment:order_{number}", event


def test_pages_are_newest_first_and_an_orgs_own(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, [requested(number) for number in range(5)])
        Runner(database_url).prepare()
        Runner(database_url).step(connection)
        page = refunds_of(connection, "org_a", before=None, limit=2)
        assert [refund.id for _, refund in page] == ["refund_4", "refund_3"]
        rest = refunds_of(connection, "org_a", before=page[-1][0], limit=10)
        assert [refund.id for _, refund in rest] == ["refund_2", "refund_1", "refund_0"]
        assert refunds_of(connection, "org_b", before=None, limit=10) == []
        found = refund_of(connection, "org_a", "refund_3")
        assert found is not None
        assert (found.tax, found.reason, found.is_open) == (TAX, "why", True)
        assert refund_of(connection, "org_b", "refund_3") is None


def test_what_the_gateway_may_not_know_of_comes_first(database_url: str) -> None:
    lines = [requested(number) for number in range(6)] + [accepted(number) for number in (0, 1, 2, 3, 5)]
    done = RefundProcessed(at=3, org="org_a", refund="refund_5", payment="pay_1", tax=TAX, credit=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, [*lines, ("payment:order_5", done)])
        Runner(database_url).prepare()
        Runner(database_url).step(connection)
        seen = {tuple(unfinished_orders(connection, limit=2)) for _ in range(60)}
        assert {first for first, _ in seen} == {"order_4"}
        assert {second for _, second in seen} == {"order_0", "order_1", "order_2", "order_3"}, "all get their turn"


def test_the_receipt_of_a_payment_is_not_that_of_its_refund(database_url: str) -> None:
    common = {"at": 1, "org": "org_a", "payment": "pay_1", "tax": TAX, "place_of_supply": "29"}
    receipt = DocumentIssued(**common, kind="receipt_voucher", number="RV/26-27/000001", facts="sealed")
    voucher = DocumentIssued(**common, kind="refund_voucher", number="RF/26-27/000001", facts="s", refund="refund_1")
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, [("document:RF/26-27", voucher), ("document:RV/26-27", receipt)])
        Runner(database_url).prepare()
        Runner(database_url).step(connection)
        assert receipt_of(connection, "pay_1") == receipt
        assert receipt_of(connection, "pay_2") is None
