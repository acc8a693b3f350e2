"""The books balance after every fact, agree with what decides, and can be read as of any moment."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.kernel.clock import ist_month
from domain.kernel.events import Event
from domain.kernel.money import NANOS_PER_PAISA
from domain.ledger.account import Account
from domain.ledger.chart import CHART, DIRECTION, ENTRIES, entry_of
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditWithdrawn,
    CreditWithheld,
    RequestSettled,
)
from domain.ledger.guards import Guards, evolve
from domain.payments.events import (
    ChargebackLost,
    DocumentIssued,
    PaymentCaptured,
    PaymentReturned,
    PaymentSetAside,
    RefundFound,
    Tax,
)
from domain.payments.numbering import KINDS
from projections.books import Balance, credit_by_origin, end_of_month, month_of_books, trial_balance
from projections.runner import Runner
from projections.verify import verify
from tests.projections.history import START, append, write_guards
from tests.projections.money_history import MONEY_STEPS, play_money

HUNDREDS = [(3 * n % 1000, 700 + 11 * n % 300) for n in range(1, 30)]
LONG = [
    (kind, one, two)
    for one, two in HUNDREDS
    for kind in (
        "capture",
        "hold",
        "settle",
        "refund",
        "hold",
        "wait",
        "refund_end",
        "settle",
        "dispute",
        "dispute_end",
    )
]
CONTROLS = [account for account in CHART if CHART[account].kind == "control"]


def entered(facts: Iterable[Event]) -> Counter[str]:
    """Debits less credits by account."""
    sums: Counter[str] = Counter()
    for fact in facts:
        for debit, credit, amount in entry_of(fact):
            sums[debit] += amount
            sums[credit] -= amount
    return sums


def closing(balances: Iterable[Balance]) -> dict[str, int]:
    return {balance.account: balance.closing for balance in balances if balance.closing}


def shown(sums: Counter[str]) -> dict[str, int]:
    return {account: amount for account, amount in sums.items() if amount}


def test_every_line_is_of_the_chart_and_every_account_is_used() -> None:
    named = {account for lines in ENTRIES.values() for line in lines for account in (line.debit, line.credit)}
    assert named == set(CHART)
    assert set(DIRECTION) == set(KINDS)
    assert all((sign < 0) is (KINDS[kind].refers_to is not None) for kind, sign in DIRECTION.items())


def test_a_capture_and_its_refund_read_as_an_accountant_would_write_them() -> None:
    tax = Tax(taxable=10_000, percent=18, cgst=900, sgst=900)
    paisa = 10_000_000
    common = {"org": "o", "payment": "pay_1"}
    issued = DocumentIssued(**common, kind="receipt_voucher", number="1", tax=tax, place_of_supply="29", facts="")
    capture = [
        PaymentCaptured(
            **common,
            order="order_1",
            amount_paise=11_800,
            method="upi",
            learned="webhook",
            paid=0,
            fee_paise=236,
            fee_tax_paise=36,
        ),
        CreditAdded(**common, order="order_1", amount=10_000 * paisa),
        issued,
    ]
    assert shown(entered(capture)) == {
        "gateway_clearing": 11_564 * paisa,
        "gateway_fees": 200 * paisa,
        "gst_input": 36 * paisa,
        "customer_credit": -10_000 * paisa,
        "cgst_payable": -900 * paisa,
        "sgst_payable": -900 * paisa,
    }


@settings(max_examples=150)
@given(steps=MONEY_STEPS)
def test_after_every_append_all_is_balanced_divided_and_what_the_guards_say(steps: list) -> None:
    guards, sums = Guards(), defaultdict[str, Counter[str]](Counter)
    accounts: defaultdict[str, Account] = defaultdict(Account)
    for facts in play_money(steps):
        for stream, event in facts:
            evolve(guards, stream, event)
            if stream.startswith("account:"):
                accounts[event.org] = accounts[event.org].evolve(stream, event)
            for debit, credit, amount in entry_of(event):
                assert amount > 0
                assert debit != credit
                sums[event.org][debit] += amount
                sums[event.org][credit] -= amount
        for org, balance in guards.balances.items():
            assert sum(sums[org].values()) == 0
            assert [sums[org][account] for account in CONTROLS] == [0] * len(CONTROLS)
            assert -sums[org]["customer_credit"] == balance.available + balance.held
            withheld = sums[org]["refunds_withheld"] + sums[org]["chargebacks_withheld"]
            assert -withheld == accounts[org].withheld_amount
            assert -sums[org]["usage_revenue"] == balance.spent
            assert sums[org]["credit_taken_back"] <= 0


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=MONEY_STEPS, moment=st.integers(0, 6_000_000_000))
def test_the_tables_are_the_entries_now_and_as_of_any_moment(
    new_runner: tuple[Runner, psycopg.Connection], steps: list, moment: int
) -> None:
    runner, connection = new_runner
    with connection.transaction(force_rollback=True):
        lines = [line for facts in play_money(steps) for line in facts]
        append(connection, lines)
        connection.execute("select set_config('search_path', 'public', true)")
        runner.step(connection)
        at = START + moment
        for org in (None, "org0"):
            ours = [event for _, event in lines if org in (None, getattr(event, "org", None))]
            assert closing(trial_balance(connection, org=org)) == shown(entered(ours))
            until = [event for event in ours if event.at <= at]
            assert closing(trial_balance(connection, at=at, org=org)) == shown(entered(until))
            origins = credit_by_origin(connection, org=org)
            owed = closing(trial_balance(connection, org=org))
            assert sum(each.left for each in origins.values()) == -owed.get("customer_credit", 0)
            assert sum(each.used for each in origins.values()) == -owed.get("usage_revenue", 0)
            assert all(min(each.used, each.gone, each.left, each.withheld) >= 0 for each in origins.values())
            came = sum(event.amount for event in ours if isinstance(event, CreditGranted))
            assert origins["promo"].came == came


@pytest.fixture
def new_runner(database_url: str) -> Iterable[tuple[Runner, psycopg.Connection]]:
    runner = Runner(database_url)
    runner.prepare()
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield runner, connection


@pytest.fixture
def long_books(new_runner: tuple[Runner, psycopg.Connection]) -> tuple[Runner, psycopg.Connection, list]:
    runner, connection = new_runner
    lines = [line for facts in play_money(LONG) for line in facts]
    append(connection, lines)
    runner.step(connection)
    return runner, connection, lines


def test_a_refund_by_other_hands_takes_credit_and_leaves_the_rest_as_a_loss() -> None:
    withheld = CreditWithheld(org="o", reference="rfnd_1", amount=70, parts={"pay_1": 50, "promo:X": 20})
    gone = CreditWithdrawn(org="o", reference="rfnd_1", amount=70)
    found = RefundFound(org="o", payment="pay_1", gateway_refund="rfnd_1", amount_paise=1, withdrawn=50)
    assert shown(entered([found, withheld, gone])) == {
        "customer_credit": 70,
        "credit_taken_back": -20,
        "chargeback_losses": 10_000_000 - 50,
        "gateway_clearing": -10_000_000,
    }


def test_of_a_lost_chargeback_the_tax_of_what_was_not_used_is_no_loss() -> None:
    tax = Tax(taxable=5_000, percent=18, cgst=450, sgst=450)
    common: dict = {"org": "o", "payment": "pay_1"}
    parts = {"pay_1": 5_000 * NANOS_PER_PAISA}
    aside = CreditWithheld(org="o", reference="disp_1", amount=parts["pay_1"], parts=parts)
    lost = ChargebackLost(
        **common, chargeback="disp_1", amount_paise=11_800, withheld=parts["pay_1"], tax=tax, document="RF/26-27/000001"
    )
    gone = CreditWithdrawn(org="o", reference="disp_1", amount=parts["pay_1"])
    voucher = DocumentIssued(
        **common,
        kind="refund_voucher",
        number=lost.document,
        tax=tax,
        place_of_supply="29",
        facts="",
        refund="disp_1",
        original="RV/26-27/000001",
    )
    assert shown(entered([aside, lost, gone, voucher])) == {
        "customer_credit": 5_000 * NANOS_PER_PAISA,
        "cgst_payable": 450 * NANOS_PER_PAISA,
        "sgst_payable": 450 * NANOS_PER_PAISA,
        "chargeback_losses": 5_900 * NANOS_PER_PAISA,
        "gateway_clearing": -11_800 * NANOS_PER_PAISA,
    }


def test_money_that_was_set_aside_is_owed_until_it_has_gone_back() -> None:
    common: dict = {"org": "o", "payment": "pay_1", "amount_paise": 100}
    aside = PaymentSetAside(**common, order="", reason="wrong_amount", fee_paise=12, fee_tax_paise=2)
    fees = {"gateway_fees": 10 * NANOS_PER_PAISA, "gst_input": 2 * NANOS_PER_PAISA}
    clearing = 88 * NANOS_PER_PAISA
    assert shown(entered([aside])) == fees | {
        "gateway_clearing": clearing,
        "payments_set_aside": -100 * NANOS_PER_PAISA,
    }
    back = PaymentReturned(**common, gateway_refund="rfnd_1")
    assert shown(entered([aside, back])) == fees | {"gateway_clearing": clearing - 100 * NANOS_PER_PAISA}
    twice = PaymentReturned(org="o", payment="pay_1", chargeback="disp_1", amount_paise=0, lost_paise=100)
    assert shown(entered([twice])) == {
        "chargeback_losses": 100 * NANOS_PER_PAISA,
        "gateway_clearing": -100 * NANOS_PER_PAISA,
    }


def test_the_long_history_has_nearly_every_kind_of_entry(long_books: tuple[Runner, psycopg.Connection, list]) -> None:
    _, _, lines = long_books
    used = {type(event) for _, event in lines} & set(ENTRIES)
    assert set(ENTRIES) - used == {CreditExpired, PaymentReturned, PaymentSetAside, RefundFound}


def test_as_of_a_moment_is_what_a_replay_to_it_gives(long_books: tuple[Runner, psycopg.Connection, list]) -> None:
    runner, connection, lines = long_books
    last = max(event.at for _, event in lines)
    for at in [START - 1, *(START + n * (last - START) // 7 for n in range(8)), lines[len(lines) // 2][1].at, last]:
        replayed: Counter[str] = Counter()
        for row in runner.replay("books", as_of=at)["books_days"]:
            replayed[row["account"]] += row["debit"] - row["credit"]
        for row in runner.replay("balances", as_of=at)["spent_days"]:
            replayed[ENTRIES[RequestSettled][0].debit] += row["spent"]
            replayed[ENTRIES[RequestSettled][0].credit] -= row["spent"]
        assert closing(trial_balance(connection, at=at)) == shown(replayed)
        assert sum(replayed.values()) == 0


def test_months_follow_from_each_other(long_books: tuple[Runner, psycopg.Connection, list]) -> None:
    _, connection, lines = long_books
    months = sorted({ist_month(event.at) for _, event in lines})
    assert len(months) > 1
    before = dict.fromkeys(CHART, 0)
    for month in months:
        balances = month_of_books(connection, month)
        assert {each.account: each.opening for each in balances} == before
        assert sum(each.debit - each.credit for each in balances) == 0
        before = {each.account: each.closing for each in balances}
        assert closing(trial_balance(connection, at=end_of_month(month))) == closing(balances)
    assert closing(balances) == closing(trial_balance(connection))


def test_verify_checks_the_books_against_the_guards(database_url: str) -> None:
    lines = [line for facts in play_money(LONG) for line in facts]
    runner = Runner(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        write_guards(connection, lines)
        append(connection, lines)
        runner.prepare()
        runner.step(connection)
    assert verify(database_url).findings == []


def test_verify_finds_money_that_was_not_divided_and_rows_that_were_touched(database_url: str) -> None:
    lines = [line for facts in play_money(LONG) for line in facts]
    lost = next(number for number, (_, event) in enumerate(lines) if isinstance(event, DocumentIssued))
    org = lines[lost][1].org
    del lines[lost]
    runner = Runner(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        write_guards(connection, lines)
        append(connection, lines)
        runner.prepare()
        runner.step(connection)
        connection.execute("update view_books.books_days set debit = debit + 1 where account = 'customer_credit'")
    findings = verify(database_url).findings
    assert [f"payment_clearing of {org}" in finding.message for finding in findings if finding.check == "books"] == [
        True
    ]
    assert [
        finding.message for finding in findings if finding.check == "projection" and "books_days" in finding.message
    ]
