"""Recomputes everything from the log and says what differs: seals, streams, costs, guards, sums, read models.

One snapshot of the database is looked at, so that the product may run meanwhile; nothing is left in it.
"""

import importlib
import importlib.util
import pkgutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any, Literal

import msgspec
import psycopg
from psycopg import sql

import domain
from domain.catalog import price
from domain.kernel.events import REGISTER, Event
from domain.kernel.money import Balance
from domain.keys.events import EphemeralKeyMinted
from domain.keys.trial import trial_stream
from domain.ledger.account import Account
from domain.ledger.chart import CHART, entry_of
from domain.ledger.events import HoldExpired, HoldReleased, RequestSettled
from domain.ledger.guards import Guards, evolve
from domain.payments.events import DocumentRendered
from domain.sealing.block import GENESIS, canonical, is_sound, leaf_of, root_of, unpack_leaves
from domain.sealing.events import LogSealed
from projections.base import Cursor, Projection, find_all
from projections.runner import READ_MAX, Copy, Progress, head_of
from projections.verify_memberships import Memberships
from projections.verify_payments import MoneyIn

FINDINGS_MAX = 1_000
ROWS_NAMED = 5

Check = Literal[
    "seal", "stream", "event", "cost", "guard", "sum", "books", "payment", "document", "access", "projection"
]
_Row = tuple[int, str, int, str, bytes]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not as the log says, or a log that is not as it was sealed."""

    check: Check
    message: str
    position: int = 0
    stream: str = ""


class Report(msgspec.Struct):
    """What was checked and what was found. `header` is that of the newest block, to be published elsewhere; `unsealed`
    events stand after it. `more` findings were not kept."""

    head: int = 0
    events: int = 0
    blocks: int = 0
    header: str = ""
    unsealed: int = 0
    requests_settled: int = 0
    guard_rows: int = 0
    documents: int = 0
    projections: dict[str, int] = {}
    findings: list[Finding] = []
    more: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, check: Check, message: str, *, position: int = 0, stream: str = "") -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(check, message, position, stream))
        else:
            self.more += 1


def verify(
    url: str,
    *,
    published: tuple[int, str] | None = None,
    projections: Sequence[Projection] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Checks the whole database at `url`. `published` is the number and header of a block as known from elsewhere: with
    it a log that was cut off and sealed anew is seen too. `progress` is told positions passed and positions in all,
    each position being passed twice."""
    report = Report()
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.cursor() as cursor:
            head = report.head = head_of(cursor)

            def passed(position: int) -> None:
                if progress is not None:
                    progress(position, 2 * head)

            seals = _Seals(cursor, report)
            books = _Books(report)
            for rows in _whole_log(cursor, head):
                for row in rows:
                    seals.pass_by(row)
                    books.enter(row)
                passed(rows[-1][0])
            seals.finish(published)
            _check_streams(cursor, report)
            books.close(cursor)
            _check_documents(cursor, report, books.rendered)
            _check_projections(cursor, report, projections or [*find_all().values()], lambda at: passed(head + at))
        connection.rollback()
    return report


def _whole_log(cursor: Cursor, head: int) -> Iterator[list[_Row]]:
    position = 0
    while True:
        rows = cursor.execute(
            "select notification_id, originator_id, originator_version, topic, state from events"
            " where notification_id > %b and notification_id <= %b order by notification_id limit %b",
            [position, head, READ_MAX],
            binary=True,
        ).fetchall()
        if not rows:
            return
        yield rows
        position = rows[-1][0]


class _Seals:
    """Every block against what was sealed: the events of the log go by in order, and each block is closed anew."""

    def __init__(self, cursor: Cursor, report: Report) -> None:
        self._cursor = cursor
        self._report = report
        self._seals = self._chain()
        self._waiting = iter(self._seals)
        self._seal = next(self._waiting, None)
        self._leaves: dict[int, bytes] = {}
        self._streams: dict[int, str] = {}

    def _chain(self) -> list[LogSealed]:
        """All seals in order. Each must follow from the one before it."""
        seals: list[LogSealed] = []
        rows = self._cursor.execute(
            "select notification_id, originator_version, state from events where originator_id = 'seal'"
            " order by originator_version"
        ).fetchall()
        for position, version, state in rows:
            try:
                seal = msgspec.json.decode(state, type=LogSealed)
            except msgspec.DecodeError as error:
                self._report.add("seal", f"the seal cannot be read: {error}", position=position, stream="seal")
                continue
            before = seals[-1] if seals else None
            follows = (
                seal.number == version == (before.number + 1 if before else 1)
                and seal.previous == (before.header if before else GENESIS)
                and seal.first > (before.last if before else 0)
                and seal.first <= seal.last < position
            )
            if not follows:
                message = f"block {seal.number} does not follow from the block before it"
                self._report.add("seal", message, position=position, stream="seal")
            if not is_sound(seal):
                message = f"the header of block {seal.number} is not that of its content"
                self._report.add("seal", message, position=position, stream="seal")
            seals.append(seal)
        return seals

    def pass_by(self, row: _Row) -> None:
        position, stream, version, name, state = row
        while self._seal is not None and position > self._seal.last:
            self._close(self._seal)
        content = canonical(position=position, stream=stream, version=version, name=name, state=state)
        self._leaves[position] = leaf_of(content)
        self._streams[position] = stream

    def _close(self, seal: LogSealed) -> None:
        """Compares the block's events with its seal; where they differ, the kept leaves tell which were touched."""
        leaves, streams = self._leaves, self._streams
        self._leaves, self._streams = {}, {}
        self._seal = next(self._waiting, None)
        row = self._cursor.execute("select leaves from seal_leaves where number = %s", [seal.number]).fetchone()
        kept = dict(unpack_leaves(row[0])) if row and len(row[0]) % 40 == 0 else {}
        kept_are_sealed = bool(kept) and root_of([*kept.values()]).hex() == seal.root
        if leaves and root_of([*leaves.values()]).hex() == seal.root:
            if not kept_are_sealed:
                self._report.add("seal", f"the hashes kept beside block {seal.number} are not those that it sealed")
        elif not kept_are_sealed:
            self._report.add(
                "seal",
                f"block {seal.number} (positions {seal.first} to {seal.last}) was altered, and the hashes kept beside"
                " it too: which event it was cannot be told",
                position=seal.first,
            )
        else:
            for position in sorted(kept.keys() | leaves.keys()):
                if leaves.get(position) != kept.get(position):
                    what = "altered or moved" if position in kept and position in leaves else "inserted"
                    if position not in leaves:
                        what = "removed"
                    self._report.add(
                        "seal",
                        f"the event was {what} after block {seal.number} was sealed",
                        position=position,
                        stream=streams.get(position, ""),
                    )

    def finish(self, published: tuple[int, str] | None) -> None:
        while self._seal is not None:
            self._close(self._seal)
        report = self._report
        last = self._seals[-1] if self._seals else None
        report.blocks = len(self._seals)
        report.header = last.header if last else ""
        report.unsealed = len(self._leaves)
        row = self._cursor.execute("select max(number) from seal_leaves").fetchone()
        if row and row[0] and row[0] > (last.number if last else 0):
            report.add("seal", f"the log was cut off: block {row[0]} was sealed once, and its seal is gone")
        if published is not None:
            number, header = published
            ours = next((seal.header for seal in self._seals if seal.number == number), None)
            if ours != header:
                what = "has another header: history was rewritten" if ours else "is missing: the log was cut off"
                report.add("seal", f"block {number}, known from elsewhere, {what}")


class _Books:
    """The money: each event against those before it, and at the end the guard tables against all of them."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._guards = Guards()
        self._money_in = MoneyIn()
        self._memberships = Memberships()
        self._accounts: defaultdict[str, Account] = defaultdict(Account)
        self._entered: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._ephemeral_ends: dict[str, int] = {}
        self.rendered: dict[str, DocumentRendered] = {}
        self._decoders = {name: msgspec.json.Decoder(event) for name, event in _all_events().items()}

    def enter(self, row: _Row) -> None:
        position, stream, version, name, state = row
        self._report.events += 1
        if name not in self._decoders:
            self._report.add("event", f"there is no event called {name}", position=position, stream=stream)
            return
        try:
            event = self._decoders[name].decode(state)
        except msgspec.DecodeError as error:
            self._report.add("event", f"{name} cannot be read: {error}", position=position, stream=stream)
            return
        if isinstance(event, DocumentRendered):
            self.rendered[event.number] = event
        if isinstance(event, EphemeralKeyMinted) and event.budget is not None:
            self._ephemeral_ends[stream.removeprefix("ephemeral:")] = event.expires
        for check, problem in self._problems_of(stream, event):
            self._report.add(check, problem, position=position, stream=stream)
        for check, problem in self._money_in.enter(position, stream, version, event):
            self._report.add(check, problem, position=position, stream=stream)
        for problem in self._memberships.enter(stream, event):
            self._report.add("access", problem, position=position, stream=stream)
        try:
            evolve(self._guards, stream, event)
            if stream.startswith("account:"):
                self._account(stream, event)
            for debit, credit, amount in entry_of(event):
                entered = self._entered[getattr(event, "org", "")]
                entered[debit] += amount
                entered[credit] -= amount
        except (AssertionError, KeyError) as error:
            message = f"{name} breaks a promise of the ledger: {type(error).__name__} {error}"
            self._report.add("guard", message, position=position, stream=stream)

    def _problems_of(self, stream: str, event: Event) -> Iterator[tuple[Check, str]]:
        match event:
            case RequestSettled() | HoldReleased() | HoldExpired():
                hold = self._guards.holds.get(stream.removeprefix("request:"))
                if hold is None:
                    yield "event", "a request that is not open was ended: twice, or without a hold"
                elif (hold.org, hold.key, hold.workspace, hold.amount) != (
                    event.org,
                    event.key,
                    event.workspace,
                    event.held,
                ):
                    yield "event", "an ending that does not fit its hold"
                if isinstance(event, RequestSettled):
                    self._report.requests_settled += 1
                    if event.waived and hold is not None and hold.allowance != trial_stream(event.org):
                        yield "cost", "a call was free that was not on a trial"
                    worth = price.cost(event.rates, event.usage)
                    if worth != event.cost + event.shortfall + event.waived:
                        yield (
                            "cost",
                            f"cost {event.cost}, shortfall {event.shortfall} and waived {event.waived} do not make"
                            f" {worth}, which the usage is worth at {event.rates.id}",
                        )
            case _:
                pass

    def close(self, cursor: Cursor) -> None:
        """Compares the guard tables row by row, and what each org's lots have left with what it can spend or holds."""
        for position, stream, (check, problem) in self._money_in.finish():
            self._report.add(check, problem, position=position, stream=stream)
        balances = self._compare(cursor, "balance", "org", self._guards.balances)
        self._compare(cursor, "allowance", "scope", self._guards.allowances, may_lack=self._forgettable(cursor))
        self._compare(cursor, "hold", "request", self._guards.holds)
        for org, row in balances.items():
            try:
                left = self._accounts[org].when_spent(row["spent"]).left
            except AssertionError as error:
                self._report.add("sum", f"of {org}: {error}", stream=f"account:{org}")
                continue
            if left != row["available"] + row["held"]:
                self._report.add(
                    "sum",
                    f"the lots have {left} left, but available and held make {row['available'] + row['held']}",
                    stream=f"account:{org}",
                )

        self._check_entries()

    def _forgettable(self, cursor: Cursor) -> AbstractSet[str]:
        """The allowances of ephemeral keys that have ended, which are cleared away in time."""
        row = cursor.execute("select (extract(epoch from now()) * 1000000)::bigint").fetchone()
        assert row is not None
        allowances = self._guards.allowances
        return {key for key, end in self._ephemeral_ends.items() if end <= row[0] and not allowances[key].held}

    def _check_entries(self) -> None:
        """The double-entry books against the guards: what each org is owed, and that all its money was divided."""
        for org, entered in self._entered.items():
            balance = self._guards.balances.get(org, Balance())
            withheld = self._accounts[org].withheld_amount
            expected: dict[tuple[str, ...], int] = {
                ("customer_credit",): -(balance.available + balance.held),
                ("refunds_withheld", "chargebacks_withheld"): -withheld,
                **{(account,): 0 for account in CHART if CHART[account].kind == "control"},
            }
            for accounts, amount in expected.items():
                stands = sum(entered[account] for account in accounts)
                if stands != amount:
                    message = f"{' and '.join(accounts)} of {org or 'nobody'}: the entries make {stands}, not {amount}"
                    self._report.add("books", message, stream=f"account:{org}")
            assert sum(entered.values()) == 0, f"the entries of {org} do not balance"

    def _account(self, stream: str, event: Event) -> None:
        org = stream.removeprefix("account:")
        spent, said = self._guards.balances[org].spent, getattr(event, "spent", None)
        assert said in (None, spent), f"{org} had spent {spent}, not {said}"
        self._accounts[org] = self._accounts[org].evolve(stream, event)

    def _compare(
        self,
        cursor: Cursor,
        table: str,
        key: str,
        folded: Mapping[str, Any],
        *,
        may_lack: AbstractSet[str] = frozenset(),
    ) -> dict[str, dict[str, Any]]:
        cursor.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))
        names = [column.name for column in cursor.description or ()]
        rows = {record[key]: record for record in (dict(zip(names, row, strict=True)) for row in cursor)}
        self._report.guard_rows += len(rows)
        for identity in sorted(rows.keys() | folded.keys()):
            row, model = rows.get(identity), folded.get(identity)
            expected = None if model is None else {key: identity, **asdict(model)}
            if row != expected and not (row is None and identity in may_lack):
                self._report.add("guard", f"{table} {identity} {_difference(row, expected)}", stream=identity)
        return rows


def _difference(row: Mapping[str, Any] | None, expected: Mapping[str, Any] | None) -> str:
    if row is None:
        return "is missing, but the log says that there is one"
    if expected is None:
        return "is there, but the log says that there is none"
    return "; ".join(
        f"has {name} {row.get(name)}, the log says {expected.get(name)}"
        for name in sorted(row.keys() | expected.keys())
        if row.get(name) != expected.get(name)
    )


def _check_streams(cursor: Cursor, report: Report) -> None:
    """Versions run from 1 without a gap, in the order of the log."""
    cursor.execute(
        """
        select originator_id, originator_version, notification_id, expected from (
            select originator_id, originator_version, notification_id,
                row_number() over in_stream as expected, lag(notification_id) over in_stream as before
            from events window in_stream as (partition by originator_id order by originator_version)
        ) numbered
        where originator_version <> expected or before > notification_id
        order by notification_id limit %s
        """,
        [FINDINGS_MAX],
    )
    for stream, version, position, expected in cursor:
        in_place = version == expected
        message = f"version {version} stands before an earlier one" if in_place else f"version {expected} is missing"
        report.add("stream", message, position=position, stream=stream)


def _check_documents(cursor: Cursor, report: Report, rendered: Mapping[str, DocumentRendered]) -> None:
    """Every PDF on record is there, and is the one on record. One that is not on record yet was made a moment ago."""
    cursor.execute("select number, encode(sha256(pdf), 'hex') from document_pdf")
    kept: dict[str, str] = dict(cursor.fetchall())
    report.documents = len(rendered)
    for number, event in rendered.items():
        if kept.get(number) != event.sha256:
            what = "was altered" if number in kept else "is missing"
            report.add("document", f"the PDF of {number} {what}; its SHA-256 on record is {event.sha256}")


def _check_projections(
    cursor: Cursor, report: Report, projections: Sequence[Projection], passed: Callable[[int], None]
) -> None:
    """Replays each projection into a copy, up to the position that it has reached, and compares all rows."""
    there = Copy(_existing(cursor, report, projections))
    if not there.projections:
        return
    reached = {}
    for name, (version, position) in there.positions(cursor).items():
        projection = next(item for item in there.projections if item.name == name)
        report.projections[name] = position
        if position > report.head:
            report.add("projection", f"{name} stands at position {position}, after the end of the log: it was cut off")
        elif version != projection.version:
            report.add("projection", f"{name} has version {version}, not {projection.version}: rebuild it")
        else:
            reached[projection] = position
    suffix = f"__verify_{cursor.connection.info.backend_pid}"
    copy = Copy(list(reached), suffix=suffix)
    copy.create(cursor, indexes=False)
    before = 0
    try:
        with cursor.connection.transaction():
            for position in sorted(set(reached.values())):
                rest = [projection for projection, until in reached.items() if until >= position]
                Copy(rest, suffix=suffix).fill(cursor, after=before, until=position, progress=passed)
                before = position
    except (msgspec.DecodeError, psycopg.IntegrityError, psycopg.DataError) as error:
        report.add("projection", f"the log cannot be replayed: {error}")
        return
    for projection in reached:
        for table in copy.tables_of(cursor, projection):
            _compare_tables(cursor, report, projection, table, copy.schema_of(projection))


def _existing(cursor: Cursor, report: Report, projections: Sequence[Projection]) -> list[Projection]:
    cursor.execute("select nspname from pg_namespace where nspname like 'view\\_%'")
    schemas = {name for (name,) in cursor}
    for projection in projections:
        if projection.schema not in schemas:
            report.add("projection", f"{projection.name} has no tables yet")
    return [projection for projection in projections if projection.schema in schemas]


def _compare_tables(cursor: Cursor, report: Report, projection: Projection, table: str, replayed: str) -> None:
    ours, theirs = sql.Identifier(projection.schema, table), sql.Identifier(replayed, table)
    if checksum(cursor, ours) == checksum(cursor, theirs):
        return
    named = []
    for what, left, right in (("has", ours, theirs), ("lacks", theirs, ours)):
        cursor.execute(
            sql.SQL(
                "select row_to_json(t)::text from (select * from {} except all select * from {} limit {}) t"
            ).format(left, right, sql.Literal(ROWS_NAMED))
        )
        named += [f"{what} {row}" for (row,) in cursor]
    report.add("projection", f"{projection.name}: table {table} is not what a replay gives; it {'; '.join(named)}")


def checksum(cursor: Cursor, table: sql.Identifier) -> tuple[int, int]:
    """Number of rows and a sum of their hashes, whatever order they are in."""
    cursor.execute(
        sql.SQL("select count(*), coalesce(sum(hash_record_extended(t, 0)::numeric), 0)::text from {} t").format(table)
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _all_events() -> dict[str, type[Event]]:
    """The register, filled: every `events` module of the domain registers its facts when it is imported."""
    for package in pkgutil.iter_modules(domain.__path__, "domain."):
        if package.ispkg and importlib.util.find_spec(f"{package.name}.events"):
            importlib.import_module(f"{package.name}.events")
    return REGISTER
