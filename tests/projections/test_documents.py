"""Documents, disputes and alerts as read models: what a replay gives is what was there live, what the facts say."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.accounts.events import OrgCreated
from domain.kernel.events import Event
from domain.ledger.events import RequestDisputed, RequestDisputeDecided
from domain.payments.events import (
    DocumentCancelled,
    DocumentIssued,
    DocumentMailed,
    DocumentMailRefused,
    DocumentRendered,
    LowBalanceNoticed,
    LowBalanceSet,
    Tax,
)
from projections import disputes, documents, low_balance
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import START, Line

MINE = [documents.PROJECTION, disputes.PROJECTION, low_balance.PROJECTION]
ORGS = ("org0", "org1")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["issue", "issue", "render", "mail", "refuse", "cancel", "dispute", "decide", "warn", "notice"]
        ),
        st.integers(0, 1_000),
    ),
    max_size=50,
)


def play(steps: list[tuple[str, int]]) -> list[Line]:
    """The facts of two orgs that get documents, dispute requests, and are told of low balances."""
    lines: list[Line] = [(f"org:{org}", OrgCreated(at=START, name=org)) for org in ORGS]
    numbers: dict[str, str] = {}
    pending: dict[str, set[str]] = defaultdict(set)
    warned: set[str] = set()
    open_disputes: list[str] = []

    def note(stream: str, event: Event) -> None:
        lines.append((stream, event))

    for at, (kind, pick) in enumerate(steps, START):
        org = ORGS[pick % 2]
        chosen = [*numbers][pick % len(numbers)] if numbers else ""
        who = {"at": at, "org": numbers.get(chosen, org)}
        if kind == "issue":
            number = f"RV/26-27/{len(numbers) + 1:06d}"
            numbers[number] = org
            pending[number] = {"render", "mail", "cancel"}
            tax = Tax(taxable=pick, percent=18, igst=pick // 5)
            note(
                "document:RV/26-27",
                DocumentIssued(
                    at=at, org=org, kind="receipt_voucher", number=number, payment=f"pay_{pick}", tax=tax,
                    place_of_supply="27", facts="v1.x",
                ),
            )  # fmt: skip
        elif kind == "dispute":
            request = f"req_{at}"
            open_disputes.append(request)
            note(f"dispute:{request}", RequestDisputed(at=at, org=org, request=request, cost=pick, reason="v1.x"))
        elif kind == "decide" and open_disputes:
            request = open_disputes.pop(pick % len(open_disputes))
            decided = RequestDisputeDecided(at=at, org=org, request=request, outcome="stands", amount=0, why="because")
            note(f"dispute:{request}", decided)
        elif kind == "warn":
            warned.add(org)
            note(f"billing:{org}", LowBalanceSet(at=at, org=org, threshold=pick if pick % 3 else None))
        elif kind == "notice" and org in warned:
            note(f"billing:{org}", LowBalanceNoticed(at=at, org=org, available=1, threshold=pick))
        elif chosen and (step := {"refuse": "mail"}.get(kind, kind)) in pending[chosen]:
            pending[chosen].remove(step)
            fact = {
                "render": DocumentRendered(**who, number=chosen, sha256=f"{pick:064x}", size=pick),
                "mail": DocumentMailed(**who, number=chosen),
                "refuse": DocumentMailRefused(**who, number=chosen, reason="550 no"),
                "cancel": DocumentCancelled(**who, number=chosen, reason="twice"),
            }[kind]
            note(f"payment:order_{chosen}", fact)
    return lines


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ends=st.lists(st.integers(1, 60), max_size=8))
def test_tables_do_not_depend_on_where_batches_end(database_url: str, steps: list, ends: list[int]) -> None:
    with history_in(database_url, play(steps)) as (cursor, before, head):
        stops = sorted({before, *(min(before + end, head) for end in ends), head})
        live, replayed = (
            filled(cursor, MINE, "__live", stops=stops),
            filled(cursor, MINE, "__again", stops=[before, head]),
        )
        assert sums_of(cursor, live) == sums_of(cursor, replayed)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_tables_say_what_the_facts_say(database_url: str, steps: list) -> None:
    lines = play(steps)
    facts = [event for _, event in lines]
    with history_in(database_url, lines) as (cursor, before, head):
        filled(cursor, MINE, "__live", stops=[before, head]).use(cursor)
        cursor.execute("select number, total, sha256, mailed_at, mail_problem, cancelled_at from documents")
        rows = {number: rest for number, *rest in cursor}
        for event in facts:
            match event:
                case DocumentIssued():
                    assert rows[event.number][0] == event.tax.total
                case DocumentRendered():
                    assert rows[event.number][1] == event.sha256
                case DocumentMailed():
                    assert rows[event.number][2] == event.at
                case DocumentMailRefused():
                    assert rows[event.number][3] == "550 no"
                case DocumentCancelled():
                    assert rows[event.number][4] == event.at
                case _:
                    pass
        assert len(rows) == sum(isinstance(event, DocumentIssued) for event in facts)
        for kind, column in (
            (DocumentRendered, 1),
            (DocumentMailed, 2),
            (DocumentMailRefused, 3),
            (DocumentCancelled, 4),
        ):
            assert sum(row[column] is not None for row in rows.values()) == sum(isinstance(e, kind) for e in facts)
        cursor.execute("select request from disputes where outcome is null")
        waiting = {event.request for event in facts if isinstance(event, RequestDisputed)}
        waiting -= {event.request for event in facts if isinstance(event, RequestDisputeDecided)}
        assert {request for (request,) in cursor} == waiting
        cursor.execute("select org, threshold, noticed_at from low_balance")
        thresholds = {event.org: event.threshold for event in facts if isinstance(event, LowBalanceSet)}
        noticed = {event.org: event.at for event in facts if isinstance(event, LowBalanceNoticed)}
        assert {org: (threshold, at) for org, threshold, at in cursor} == {
            org: (threshold, noticed.get(org)) for org, threshold in thresholds.items()
        }


@pytest.mark.parametrize("name", ["a\0b", "RV/26-27/000001\0"])
def test_a_name_that_the_database_refuses_is_no_document(database_url: str, name: str) -> None:
    with history_in(database_url, []) as (cursor, _, _):
        assert documents.document(cursor.connection, name) is None
        assert documents.document_of_payment(cursor.connection, name) is None
