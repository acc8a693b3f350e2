"""`verify` finds every way of tampering that we could think of, and says where."""

from collections.abc import Callable, Iterator

import msgspec
import psycopg
import pytest

from adapters.sealing import Sealer
from domain.accounts.events import OrgCreated
from domain.sealing.events import LogSealed
from projections.runner import Runner
from projections.verify import Report, verify
from tests.projections.history import START, append, play, write_guards

STEPS = [(kind, 7 * n % 1000, 13 * n % 1000) for n in range(20) for kind in ("hold", "settle", "hold", "extend")]

GAP = 25

Execute = Callable[..., object]


@pytest.fixture
def books(database_url: str) -> Iterator[psycopg.Connection]:
    """A database as the product leaves it: facts, guards, two sealed blocks with a tail behind, projections."""
    lines = play(STEPS)
    half = len(lines) // 2
    with psycopg.connect(database_url, autocommit=True) as connection:
        write_guards(connection, lines)
        sealer = Sealer(database_url, clock=lambda: START)
        append(connection, lines[: GAP - 1])
        connection.execute("select nextval('events_notification_id_seq')")  # a transaction that was rolled back
        append(connection, lines[GAP - 1 : half])
        sealer.seal(all_of_it=True)
        append(connection, lines[half:-3])
        sealer.seal(all_of_it=True)
        append(connection, lines[-3:])
        runner = Runner(database_url)
        runner.prepare()
        runner.step(connection)
        yield connection


@pytest.fixture
def tamper(books: psycopg.Connection) -> Execute:
    """Does what whoever owns the tables could."""

    def execute(query: str, *parameters: object) -> object:
        with books.transaction():
            books.execute("alter table events disable trigger user")
            result = books.execute(query.encode(), parameters)
            rows = result.fetchall() if result.description else result.rowcount
            books.execute("alter table events enable trigger user")
        assert rows
        return rows

    return execute


def found(report: Report, check: str, *, position: int = 0, text: str = "") -> bool:
    return any(
        finding.check == check and position in (0, finding.position) and text in finding.message
        for finding in report.findings
    )


def place_of(books: psycopg.Connection, name: str, *, nth: int = 0) -> int:
    rows = books.execute(
        "select notification_id from events where topic = %s order by notification_id", [name]
    ).fetchall()
    return rows[nth][0]


def test_untouched_books_are_clean(database_url: str, books: psycopg.Connection) -> None:
    told: list[tuple[int, int]] = []
    report = verify(database_url, progress=lambda done, of: told.append((done, of)))
    assert report.findings == []
    assert report.ok
    count = books.execute("select count(*) from events").fetchone()
    assert (report.events,) == count
    assert (report.blocks, report.unsealed) == (2, 5 - 1)  # three facts and the seal of the second block
    assert report.requests_settled > 10
    assert report.guard_rows > 10
    assert set(report.projections) >= {"balances", "usage", "activity", "rankings"}
    assert told[-1][0] == told[-1][1]
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert books.execute("select 1 from pg_namespace where nspname like '%verify%'").fetchall() == []


def test_an_altered_byte_is_found(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    position = place_of(books, "ledger.request_settled.v1")
    tamper(
        "update events set state = replace(convert_from(state, 'utf8'), 'sarvam-30b', 'sarvam-30c')::bytea"
        " where notification_id = %s",
        position,
    )
    report = verify(database_url)
    assert found(report, "seal", position=position, text="altered")
    assert [finding.position for finding in report.findings if finding.check == "seal"] == [position]
    assert next(finding.stream for finding in report.findings).startswith("request:")


def test_a_removed_event_is_found(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    position = place_of(books, "ledger.credit_held.v1")
    tamper("delete from events where notification_id = %s", position)
    report = verify(database_url)
    assert found(report, "seal", position=position, text="removed")
    assert found(report, "stream", text="version 1 is missing")
    assert found(report, "guard")


def test_two_events_that_changed_places_are_found(
    database_url: str, books: psycopg.Connection, tamper: Execute
) -> None:
    one, two = (place_of(books, "ledger.credit_held.v1", nth=nth) for nth in (0, 1))
    tamper("update events set notification_id = -1 where notification_id = %s", one)
    tamper("update events set notification_id = %s where notification_id = %s", one, two)
    tamper("update events set notification_id = %s where notification_id = -1", two)
    report = verify(database_url)
    assert found(report, "seal", position=one, text="moved")
    assert found(report, "seal", position=two, text="moved")


def test_an_event_put_into_a_sealed_block_is_found(
    database_url: str, books: psycopg.Connection, tamper: Execute
) -> None:
    tamper(
        "insert into events values ('account:org0', 1000, 'ledger.credit_granted.v1', %s, %s)",
        b'{"at":1,"org":"org0","grant":"forged","amount":1000,"reason":"because"}',
        GAP,
    )
    report = verify(database_url)
    assert found(report, "seal", position=GAP, text="inserted")
    assert found(report, "guard", text="balance org0")
    assert found(report, "sum", text="lots")


def test_a_cut_tail_is_found(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    before = verify(database_url)
    tamper("delete from events where notification_id > %s", before.head // 2)
    report = verify(database_url, published=(before.blocks, before.header))
    assert found(report, "seal", text="seal is gone")
    assert found(report, "seal", text="known from elsewhere, is missing")
    assert found(report, "projection", text="after the end of the log")
    assert found(report, "guard")


def test_history_that_was_rewritten_and_sealed_anew_is_found_by_a_header_from_elsewhere(
    database_url: str, books: psycopg.Connection, tamper: Execute
) -> None:
    before = verify(database_url)
    books.execute("delete from seal_leaves")
    tamper("delete from events where originator_id = 'seal'")
    sealer = Sealer(database_url, clock=lambda: START, events_max=20)
    assert len(sealer.seal(all_of_it=True)) > 2
    assert not found(verify(database_url), "seal")
    assert found(verify(database_url, published=(before.blocks, before.header)), "seal", text="rewritten")


def test_a_forged_seal_is_found(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    position = place_of(books, LogSealed.NAME)
    tamper(
        "update events set state = replace(convert_from(state, 'utf8'), '\"count\":', '\"count\":1')::bytea"
        " where notification_id = %s",
        position,
    )
    assert found(verify(database_url), "seal", position=position, text="header")


def test_altered_leaves_accuse_nobody_wrongly(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    books.execute("update seal_leaves set leaves = set_byte(leaves, 20, 1 - sign(get_byte(leaves, 20))::int)")
    report = verify(database_url)
    assert {finding.check for finding in report.findings} == {"seal"}
    assert found(report, "seal", text="kept beside block 1 are not those that it sealed")
    tamper("update events set state = state || ' '::bytea where notification_id = 2")
    assert found(verify(database_url), "seal", text="cannot be told")


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        ("update balance set available = available + 1 where org = 'org0'", "guard", "has available"),
        ("update allowance set used = used + 1 where scope = 'key10'", "guard", "has used"),
        ("update hold set amount = amount + 1 where request = (select min(request) from hold)", "guard", "has amount"),
        ("delete from hold where request = (select min(request) from hold)", "guard", "is missing"),
        ("update view_balances.balances set spent = spent + 1 where org = 'org0'", "projection", '"org":"org0"'),
        ("update view_budgets.budgets set used = used - 1 where scope = 'key10'", "projection", '"scope":"key10"'),
        ("update view_usage.usage set cost = cost + 1 where org = 'org1'", "projection", "usage"),
        ("delete from view_activity.activity where error_code = ''", "projection", "activity"),
        ("update view_requests.requests_open set held = held + 1", "projection", "requests_open"),
        ("update view_rankings.rankings set tokens = tokens + 1", "projection", "rankings"),
        ("update view_keys.keys set monthly_budget = 1", "projection", "keys"),
        ("update view_orgs.orgs set name = 'x'", "projection", "orgs"),
        ("update view_usage.position set version = 99", "projection", "version 99"),
    ],
)  # fmt: skip
def test_a_changed_row_is_found_and_named(
    database_url: str, books: psycopg.Connection, change: str, check: str, text: str
) -> None:
    assert books.execute(change.encode()).rowcount
    report = verify(database_url)
    assert found(report, check, text=text)
    assert {finding.check for finding in report.findings} <= {check, "sum"}


def test_a_nano_too_much_is_found_though_every_table_agrees(database_url: str) -> None:
    lines = play(STEPS)
    number = next(n for n, (_, event) in enumerate(lines) if getattr(event, "cost", 0) and event.cost < event.held)
    stream, event = lines[number]
    lines[number] = stream, msgspec.structs.replace(event, cost=event.cost + 1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        write_guards(connection, lines)
        append(connection, lines)
        runner = Runner(database_url)
        runner.prepare()
        runner.step(connection)
    report = verify(database_url)
    assert [(finding.check, finding.position) for finding in report.findings] == [("cost", number + 1)]
    assert report.unsealed == len(lines)


def test_a_second_ending_is_found(database_url: str, books: psycopg.Connection, tamper: Execute) -> None:
    tamper(
        "insert into events select originator_id, originator_version + 1, topic, state from events"
        " where notification_id = %s",
        place_of(books, "ledger.request_settled.v1"),
    )
    assert found(verify(database_url), "event", text="twice")


def test_an_unknown_fact_and_an_unreadable_one_are_found(database_url: str, books: psycopg.Connection) -> None:
    books.execute(
        "insert into events values ('x:1', 1, 'no.such.v1', '{}'), ('request:x', 1, 'ledger.request_refused.v1', '{')"
    )
    report = verify(database_url)
    assert found(report, "event", text="no event called no.such.v1")
    assert found(report, "event", text="cannot be read")


def test_a_log_that_cannot_even_be_replayed_is_reported(
    database_url: str, books: psycopg.Connection, tamper: Execute
) -> None:
    position = place_of(books, "ledger.request_settled.v1")
    tamper("update events set state = set_byte(state, 0, 65) where notification_id = %s", position)
    report = verify(database_url)
    assert found(report, "seal", position=position, text="altered")
    assert found(report, "event", position=position, text="cannot be read")
    assert found(report, "projection", text="cannot be replayed")


def test_a_projection_that_lags_is_compared_where_it_stands(database_url: str, books: psycopg.Connection) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, [("x:late", OrgCreated(name="Late"))])
    report = verify(database_url)
    assert not found(report, "projection")
    assert max(report.projections.values()) == report.head - 1
