"""An org's money as lines that anyone can check without us, which `api/docs/verify_ledger.py` does.

The read model says on which pages of the log (so many positions each) the facts of an org and day stand, and what they
did to its balance: an export reads those pages alone, and knows what it has to add up to.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg.rows import tuple_row

import domain.payments.events  # noqa: F401  (its facts enter the register)
from domain.kernel.clock import day_to_date
from domain.kernel.events import REGISTER, Event
from domain.ledger.events import (
    CreditAdded,
    CreditExpired,
    CreditGranted,
    CreditWithdrawn,
    RequestRefused,
    RequestSettled,
)
from domain.sealing.block import path_in, tree_of, unpack_leaves
from domain.sealing.events import LogSealed
from projections.base import Connection, Cursor, Fold, H, Projection, Sums, day_of, on

FORMAT = "bharatrouter-ledger-2"
PAGE = 8_192
CHUNK_BYTES = 65_536
SEALS_AT_ONCE = 500

EXPORTED: Sequence[type[Event]] = [
    fact
    for name, fact in REGISTER.items()
    if name.startswith(("ledger.", "payments.")) and "org" in fact.__struct_fields__
    if fact is not RequestRefused
]
"""Whatever was held, spent, paid, given back or put on paper for an org."""

Reading = Callable[[], AbstractContextManager[Connection]]
_Row = tuple[int, str, int, str, bytes]

TABLES = """
create table ledger_pages (
    org text collate "C" not null,
    day bigint not null,
    page bigint not null,
    lines bigint not null,
    change bigint not null,
    primary key (org, day, page)
) with (fillfactor = 70);
"""

_PAGES = Sums("ledger_pages", keys={"org": "text", "day": "bigint", "page": "bigint"}, sums=("lines", "change"))


def _on_others(method: H) -> H:
    for fact in EXPORTED:
        if fact not in (RequestSettled, CreditGranted, CreditAdded, CreditExpired, CreditWithdrawn):
            method = on(fact, "org")(method)
    return method


class Ledger(Fold):
    def __init__(self) -> None:
        self._pages: defaultdict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])

    @on(RequestSettled, "org", "cost")
    def settled(self, event: RequestSettled, stream: str, position: int) -> None:
        self._add(event, position, -event.cost)

    @on(CreditGranted, "org", "amount")
    @on(CreditAdded, "org", "amount")
    def came(self, event: CreditGranted | CreditAdded, stream: str, position: int) -> None:
        self._add(event, position, event.amount)

    @on(CreditExpired, "org", "amount")
    @on(CreditWithdrawn, "org", "amount")
    def went(self, event: CreditExpired | CreditWithdrawn, stream: str, position: int) -> None:
        self._add(event, position, -event.amount)

    @_on_others
    def noted(self, event: Any, stream: str, position: int) -> None:
        self._add(event, position, 0)

    def _add(self, event: Any, position: int, change: int) -> None:
        page = self._pages[event.org, day_of(event.at), position // PAGE]
        page[0] += 1
        page[1] += change

    def flush(self, cursor: Cursor) -> None:
        _PAGES.add(cursor, self._pages)


PROJECTION = Projection("ledger", 1, TABLES, Ledger, weight=8)


def ledger_export(reading: Reading, org: str, *, first_day: int | None, last_day: int | None) -> Iterator[bytes]:
    """The org's lines in the order of the log, some at a time, each a JSON object that ends in a newline.

    The first line says what this is, the last what it has to add up to, with the SHA-256 of all before it. Between them
    stand the facts of the days from `first_day` to `last_day` (on India's calendar, both included, None for all): each
    as it is stored, with the path to the root of its block. The header of a block comes before its
    first fact, and so do those of the blocks in between; the one after the last, if there is one, ends the chain.
    Facts with a path of null are not sealed yet. Of other orgs there are hashes alone.

    `reading` lends a connection; none is kept while whoever takes the lines is slow. A database that is away is told
    before the first line.
    """
    with reading() as connection:
        plan = _plan(connection, org, first_day=first_day, last_day=last_day)
    return _chunks(reading, plan)


def _chunks(reading: Reading, plan: "_Plan") -> Iterator[bytes]:
    digest = hashlib.sha256()
    chunk = bytearray()
    for line in _lines(reading, plan):
        digest.update(line)
        chunk += line
        if len(chunk) > CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    end = {"closing": plan.closing, "sha256": digest.hexdigest()}
    yield bytes(chunk) + _line({"end": end})


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be exported, as one look at the database saw it: the log goes on meanwhile."""

    org: str
    first_day: int | None
    last_day: int | None
    until: int
    blocks: int
    opening: int
    closing: int
    lines: int
    pages: Sequence[int]

    def has(self, day: int) -> bool:
        return (self.first_day is None or self.first_day <= day) and (self.last_day is None or day <= self.last_day)


def _plan(connection: Connection, org: str, *, first_day: int | None, last_day: int | None) -> _Plan:
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(
        """
        with chosen as (
            select page, lines, change, %(first)s::bigint is null or day >= %(first)s as within
            from view_ledger.ledger_pages
            where org = %(org)s and (%(last)s::bigint is null or day <= %(last)s)
        )
        select (select at from view_ledger.position),
            (select coalesce(max(originator_version), 0) from events where originator_id = 'seal'),
            coalesce(sum(change) filter (where not within), 0),
            coalesce(sum(change), 0),
            coalesce(sum(lines) filter (where within), 0),
            array(select distinct page from chosen where within order by page)
        from chosen
        """,
        {"org": org, "first": first_day, "last": last_day},
    ).fetchone()
    assert row is not None
    until, blocks, opening, closing, lines, pages = row
    return _Plan(org, first_day, last_day, until, blocks, int(opening), int(closing), int(lines), pages)


def _lines(reading: Reading, plan: _Plan) -> Iterator[bytes]:
    yield _line(
        {
            "ledger": FORMAT,
            "org": plan.org,
            "from": _show(plan.first_day),
            "to": _show(plan.last_day),
            "until": plan.until,
            "opening": plan.opening,
        }
    )
    chain = _Chain(reading, plan.blocks)
    lines = 0
    for page in plan.pages:
        for position, stream, version, name, state in _facts_on(reading, plan, page):
            yield from map(_header, chain.reach(position))
            head = {
                "position": position,
                "stream": stream,
                "version": version,
                "name": name,
                "path": chain.path(position),
            }
            # The stored bytes as they are: what was hashed can be read off the line.
            yield msgspec.json.encode(head)[:-1] + b',"data":' + state + b"}\n"
            lines += 1
    assert lines == plan.lines, f"the log has {lines} lines of {plan.org}, the read model counted {plan.lines}"
    yield from map(_header, chain.following())


class _Owned(msgspec.Struct):
    """Whose a fact is, and when it happened."""

    org: str = ""
    at: int = 0


def _facts_on(reading: Reading, plan: _Plan, page: int) -> list[_Row]:
    """The org's facts of that page. Those that only mention it are left out here, since SQL looks at bytes."""
    with reading() as connection:
        rows: list[_Row] = (
            connection.cursor(row_factory=tuple_row)
            .execute(
                "select notification_id, originator_id, originator_version, topic, state from events"
                " where notification_id >= %s and notification_id < %s and notification_id <= %s and topic = any(%s)"
                " and position(%s::bytea in state) > 0 order by notification_id",
                [
                    page * PAGE,
                    (page + 1) * PAGE,
                    plan.until,
                    [fact.NAME for fact in EXPORTED],
                    b'"org":' + msgspec.json.encode(plan.org),
                ],
                binary=True,
            )
            .fetchall()
        )
    found = []
    for row in rows:
        owned = msgspec.json.decode(row[4], type=_Owned)
        if owned.org == plan.org and plan.has(day_of(owned.at)):
            found.append(row)
    return found


class _Chain:
    """The blocks of the log from the first that is asked for: each is passed once, in order."""

    def __init__(self, reading: Reading, newest: int) -> None:
        self._reading = reading
        self._newest = newest
        self._next = 0
        self._fetched: list[LogSealed] = []
        self._block: LogSealed | None = None
        self._places: dict[int, int] = {}
        self._tree: list[Sequence[bytes]] = []

    def reach(self, position: int) -> Iterator[LogSealed]:
        """Goes on to the block with that position, and answers the seals on the way, its own included."""
        if not self._next:
            self._next = self._first_with(position)
        while self._block is None or self._block.last < position:
            seal = self._take()
            if seal is None:
                return
            self._block, self._places, self._tree = seal, {}, []
            yield seal

    def path(self, position: int) -> list[tuple[str, str]] | None:
        """From the fact to the root of the block that was reached, each node's left and right half, "" for the one that
        is known by then; None if no block has it yet."""
        if self._block is None or position > self._block.last:
            return None
        if not self._tree:
            with self._reading() as connection:
                row = connection.execute(
                    "select leaves from seal_leaves where number = %s", [self._block.number]
                ).fetchone()
            leaves = unpack_leaves(row[0]) if row else []
            self._places = {place: index for index, (place, _) in enumerate(leaves)}
            self._tree = tree_of([leaf for _, leaf in leaves])
        if position not in self._places:
            return None
        path = path_in(self._tree, self._places[position])
        return [(partner.hex(), "") if side == "left" else ("", partner.hex()) for side, partner in path]

    def following(self) -> Iterator[LogSealed]:
        """The seal after the block that was reached, which vouches for its header."""
        seal = self._take() if self._block else None
        if seal is not None:
            yield seal

    def _take(self) -> LogSealed | None:
        if not self._fetched and self._next <= self._newest:
            self._fetched = self._seals(self._next, min(self._next + SEALS_AT_ONCE - 1, self._newest))[::-1]
            self._next += len(self._fetched)
        return self._fetched.pop() if self._fetched else None

    def _first_with(self, position: int) -> int:
        """The number of the first block that ends there or later, by halving."""
        low, high = 1, self._newest + 1
        while low < high:
            middle = (low + high) // 2
            if self._seals(middle, middle)[0].last < position:
                low = middle + 1
            else:
                high = middle
        return low

    def _seals(self, first: int, last: int) -> list[LogSealed]:
        with self._reading() as connection:
            rows = connection.execute(
                "select state from events where originator_id = 'seal' and originator_version between %s and %s"
                " order by originator_version",
                [first, last],
            ).fetchall()
        return [msgspec.json.decode(state, type=LogSealed) for (state,) in rows]


def _header(seal: LogSealed) -> bytes:
    """What a header is made of; when and by whom a block was closed is a fact of the next block."""
    return _line(
        {
            "block": seal.number,
            "first": seal.first,
            "last": seal.last,
            "count": seal.count,
            "root": seal.root,
            "previous": seal.previous,
            "header": seal.header,
        }
    )


def _line(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"


def _show(day: int | None) -> str | None:
    return None if day is None else day_to_date(day).isoformat()
