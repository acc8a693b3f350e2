"""The hot path to the ledger: one writer per process gathers commands while the last commit runs, and sends them as one
transaction in one round trip (`migrations/0003_ledger_commit.sql`). There is no waiting for company: an idle writer
sends a single command at once.

It speaks libpq without a thread: parameters are binary arrays built here, the socket is watched by the event loop, and
answers wake their waiters from the callback. That costs about 6 microseconds of Python a command at batches of 64.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from adapters.postgres import connect
from domain.kernel.clock import DAY, ist_day, ist_month, next_ist_midnight
from domain.kernel.errors import Unavailable
from domain.kernel.events import Event
from domain.ledger.events import CreditHeld, Ending, HoldExpired, HoldExtended, RequestSettled
from domain.ledger.guards import Denied

BATCH_MAX = 512
END_PATIENCE_SECONDS = 30.0
STATEMENT_SECONDS_MAX = 8
"""How long the database tries before it gives a batch up itself: nothing of it is recorded then."""
ANSWER_SECONDS_MAX = 10.0
"""How long we wait for that answer before we take the connection for dead."""
RESTAMPS_MAX = 5

_INT4, _INT8, _TEXT, _BYTEA = 23, 20, 25, 17
_INT8S, _TEXTS, _BYTEAS = 1016, 1009, 1001
# fmt: off
_TYPES = [
    _INT4, _INT4,
    _TEXTS, _TEXTS, _TEXTS, _TEXTS, _INT8S, _INT8S, _BYTEAS, _TEXT, _TEXTS,
    _TEXTS, _INT8S, _INT8S, _TEXTS, _BYTEAS,
    _TEXTS, _INT8S, _INT8S, _BYTEAS, _TEXT,
    _TEXTS, _TEXTS, _BYTEAS,
]
# fmt: on
_CALL = b"select * from ledger_commit(%s)" % b",".join(b"$%d" % (n + 1) for n in range(len(_TYPES)))
_BINARY = [1] * len(_TYPES)
_UNIQUE_VIOLATION = b"23505"
_FAULTS_OF_DATA = (b"22", b"23", b"54")
"""Classes of SQLSTATE that say that a command is at fault: data exception, integrity violation, limit exceeded."""
_encode = msgspec.json.Encoder().encode


class _Command:
    __slots__ = ("deadline", "event", "kind", "request", "restamps", "waiter")

    def __init__(self, kind: str, request: str, event: Event, waiter: asyncio.Future[Denied | None]) -> None:
        self.kind = kind
        self.request = request
        self.event = event
        self.waiter = waiter
        self.deadline = 0.0
        self.restamps = 0


class LedgerWriter:
    """Implements `domain.ledger.ports.Ledger` for one process and one event loop."""

    def __init__(self, url: str, *, clock: Callable[[], int]) -> None:
        self._url = url
        self._clock = clock
        self._waiting: deque[_Command] = deque()
        self._sent: list[_Command] = []
        self._halves: deque[list[_Command]] = deque()  # of batches with a command at fault
        self._connection: psycopg.Connection[Any] | None = None
        self._socket = -1
        self._watchdog: asyncio.TimerHandle | None = None
        self._busy = False
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._midnight = 0
        self._day = 0
        self._month = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def start(self) -> None:
        """Connects; raises psycopg.OperationalError if the database cannot be reached."""
        self._loop = asyncio.get_running_loop()
        self._adopt(await asyncio.to_thread(self._connect))

    async def close(self) -> None:
        """Lets everything that was handed in be recorded, then disconnects."""
        while self._busy or self._waiting or self._halves:  # noqa: ASYNC110  # once in a process's life
            await asyncio.sleep(0.005)
        self._closed = True
        self._drop_connection()
        if self._reconnecting is not None:
            await self._reconnecting

    def hold(self, request: str, event: CreditHeld) -> asyncio.Future[Denied | None]:
        return self._submit(_Command("hold", request, event, self._loop.create_future()))

    def extend(self, request: str, event: HoldExtended) -> asyncio.Future[Denied | None]:
        return self._submit(_Command("more", request, event, self._loop.create_future()))

    def end(self, request: str, event: Ending) -> asyncio.Future[Denied | None]:
        command = _Command("end", request, event, self._loop.create_future())
        command.deadline = self._loop.time() + END_PATIENCE_SECONDS
        return self._submit(command)

    def note(self, request: str, event: Event) -> asyncio.Future[Denied | None]:
        return self._submit(_Command("note", request, event, self._loop.create_future()))

    def _submit(self, command: _Command) -> asyncio.Future[Denied | None]:
        if self._connection is None and (command.kind != "end" or self._closed):
            _fail(command)
            return command.waiter
        self._waiting.append(command)
        if not self._busy and self._connection is not None:
            self._busy = True
            self._loop.call_soon(self._send_next)
        return command.waiter

    # Sending

    def _send_next(self) -> None:
        if self._sent:  # the socket has called us before our turn came, and one batch at a time is under way
            return
        batch = self._next_batch() if self._connection is not None else []
        self._busy = bool(batch)
        if self._connection is None or not batch:
            return
        self._sent = batch
        self._watchdog = self._loop.call_later(ANSWER_SECONDS_MAX, self._lose_connection)
        try:
            parameters = self._parameters(batch)
        except Exception as error:  # whatever a command may hold that cannot be written down, the others go on
            self._divide(error)
            self._loop.call_soon(self._send_next)
            return
        try:
            self._connection.pgconn.send_query_prepared(b"ledger_commit", parameters, _BINARY)
        except psycopg.Error:
            self._lose_connection()
            return
        self._flush()

    def _next_batch(self) -> list[_Command]:
        if self._halves:
            return self._halves.popleft()
        batch: list[_Command] = []
        while self._waiting and len(batch) < BATCH_MAX:
            command = self._waiting.popleft()
            if command.kind != "hold" or not command.waiter.cancelled():  # nobody would act on such a hold
                batch.append(command)
        return batch

    def _flush(self) -> None:
        if self._connection is None:
            return
        try:
            unsent = self._connection.pgconn.flush()
        except psycopg.Error:
            self._lose_connection()
            return
        if unsent:  # the kernel's buffer is full: go on when it has room
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _parameters(self, batch: Sequence[_Command]) -> list[bytes]:
        """The batch as the function's arguments. Every hold is stamped within the batch's day on India's calendar."""
        now = self._clock()
        if not self._midnight - DAY <= now < self._midnight:
            self._day, self._month, self._midnight = ist_day(now), ist_month(now), next_ist_midnight(now)
        holds: list[_Command] = []
        ends: list[_Command] = []
        more: list[_Command] = []
        notes: list[_Command] = []
        lists = {"hold": holds, "end": ends, "more": more, "note": notes}
        for command in batch:
            lists[command.kind].append(command)
            if command.kind == "hold" and not self._midnight - DAY <= command.event.at < self._midnight:
                command.event = msgspec.structs.replace(command.event, at=now)
        held: list[Any] = [command.event for command in holds]
        further = [event.allowance for event in held]
        ended: list[Any] = [command.event for command in ends]
        extended: list[Any] = [command.event for command in more]
        return [
            struct.pack("!i", self._month),
            struct.pack("!i", self._day),
            _texts([command.request for command in holds]),
            _texts([event.org for event in held]),
            _texts([event.key for event in held]),
            _texts([event.workspace for event in held]),
            _numbers([event.amount for event in held]),
            _numbers([event.expires for event in held]),
            _states(held),
            CreditHeld.NAME.encode(),
            _texts(further if any(further) else []),
            _texts([command.request for command in ends]),
            _numbers([event.held for event in ended]),
            _numbers([cost_of(event) for event in ended]),
            _texts([event.NAME for event in ended]),
            _states(ended),
            _texts([command.request for command in more]),
            _numbers([event.amount for event in extended]),
            _numbers([event.expires for event in extended]),
            _states(extended),
            HoldExtended.NAME.encode(),
            _texts([command.request for command in notes]),
            _texts([command.event.NAME for command in notes]),
            _states([command.event for command in notes]),
        ]

    # Receiving

    def _readable(self) -> None:
        try:
            self._receive()
        except Exception as error:
            self._lose_connection()
            if not isinstance(error, psycopg.Error):
                raise

    def _receive(self) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.pgconn.consume_input()
        while not connection.pgconn.is_busy():
            result = connection.pgconn.get_result()
            if result is None:
                if not self._sent:
                    self._send_next()
                return
            if result.status == ExecStatus.TUPLES_OK:
                self._answer(result)
            else:
                self._refuse(result)
            if self._connection is not connection:
                return

    def _answer(self, result: Any) -> None:
        sent = self._take_sent()
        denied = _read_denials(result) if result.ntuples else {}
        if not denied:
            for command in sent:
                if not command.waiter.done():
                    command.waiter.set_result(None)
            return
        count = {"hold": 0, "end": 0, "more": 0, "note": 0}
        for command in sent:
            count[command.kind] += 1
            denial = denied.get((command.kind, count[command.kind]))
            if denial is None:
                _tell(command, None)
            elif denial.code == "period" and command.restamps < RESTAMPS_MAX:
                # Another process has already seen the next day: this hold belongs to it too.
                command.restamps += 1
                self._loop.call_later(0.02 * command.restamps, self._submit, command)
            elif denial.code == "held":
                # It was extended without our knowing, by a batch whose answer got lost.
                command.event = msgspec.structs.replace(command.event, held=denial.limit)
                self._submit(command)
            else:
                _tell(command, denial)

    def _refuse(self, result: Any) -> None:
        """The transaction was rolled back: because of what was sent, or because the database cannot work."""
        sqlstate = result.error_field(DiagnosticField.SQLSTATE) or b""
        if not sqlstate.startswith(_FAULTS_OF_DATA):
            self._lose_connection()
        elif sqlstate == _UNIQUE_VIOLATION and len(self._sent) == 1:
            _tell(self._take_sent()[0], Denied("duplicate"))
        else:
            self._divide(psycopg.DataError(result.error_message))

    def _divide(self, error: Exception) -> None:
        """Nothing of the batch was recorded. Halves of it, and theirs, show which command is at fault."""
        sent = self._take_sent()
        if len(sent) == 1:
            _fail(sent[0], error)
            return
        middle = len(sent) // 2
        self._halves.extendleft([sent[middle:], sent[:middle]])

    def _take_sent(self) -> list[_Command]:
        self._stop_watchdog()
        sent, self._sent = self._sent, []
        return sent

    # The connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect(self._url, statement_seconds=STATEMENT_SECONDS_MAX)
        prepared = connection.pgconn.prepare(b"ledger_commit", _CALL, _TYPES)
        if prepared.status != ExecStatus.COMMAND_OK:
            connection.close()
            raise psycopg.OperationalError(prepared.error_message)
        return connection

    def _adopt(self, connection: psycopg.Connection[Any]) -> None:
        connection.pgconn.nonblocking = 1
        self._connection = connection
        self._socket = connection.pgconn.socket  # a broken connection does not know it any more
        self._loop.add_reader(self._socket, self._readable)
        self._send_next()

    def _drop_connection(self) -> None:
        self._stop_watchdog()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            connection.close()

    def _lose_connection(self) -> None:
        """Whether the batch in flight was committed is unknown. A hold without an answer is never acted on and expires;
        an ending is repeated until it is known to be recorded, which the log makes harmless."""
        self._drop_connection()
        interrupted = [*self._sent, *(command for half in self._halves for command in half), *self._waiting]
        self._sent = []
        self._halves.clear()
        self._waiting.clear()
        self._busy = False
        for command in interrupted:
            if command.deadline > self._loop.time():
                self._waiting.append(command)
            else:
                _fail(command)
        if not self._closed and (self._reconnecting is None or self._reconnecting.done()):
            self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        pause = 0.05
        while self._connection is None and not self._closed:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
            try:
                connection = await asyncio.to_thread(self._connect)
            except Exception:  # whatever stands in the way, the next try may succeed
                while self._waiting and self._waiting[0].deadline < self._loop.time():
                    _fail(self._waiting.popleft())
                continue
            if self._closed:
                connection.close()
            else:
                self._adopt(connection)  # which may find it broken already

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None


def cost_of(event: Event) -> int:
    """What an ending takes from its hold: the cost of a settled request, nothing for the others."""
    return event.cost if isinstance(event, RequestSettled) else 0


def expire_due(url: str, *, now: int, limit: int = 500) -> int:
    """Ends up to `limit` holds whose deadline has passed; returns how many.

    A request that ends or is extended meanwhile is left alone: only one ending is ever recorded, and it says what was
    held."""
    with connect(url) as connection:
        due = connection.execute(
            "select h.request, h.amount, e.state from hold h"
            " join events e on e.originator_id = 'request:' || h.request and e.originator_version = 1"
            " where h.expires < %s order by h.expires limit %s",
            [now, limit],
        ).fetchall()
        if not due:
            return 0
        held = [msgspec.json.decode(bytes(state), type=CreditHeld) for _, _, state in due]
        missed = connection.execute(
            "select i from ledger_commit(0, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '', '{}',"
            " %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bytea[],"
            " '{}', '{}', '{}', '{}', '', '{}', '{}', '{}', %s)",
            [
                [request for request, _, _ in due],
                [amount for _, amount, _ in due],
                [0] * len(due),
                [HoldExpired.NAME] * len(due),
                [_encode(_expired(event, amount=row[1], at=now)) for row, event in zip(due, held, strict=True)],
                now,
            ],
        ).fetchall()
        return len(due) - len(missed)


def _expired(held: CreditHeld, *, amount: int, at: int) -> HoldExpired:
    return HoldExpired(
        at=at,
        by="worker:expire_holds",
        org=held.org,
        key=held.key,
        workspace=held.workspace,
        endpoint=held.endpoint,
        model=held.model,
        held=amount,
        streamed=held.streamed,
    )


def _tell(command: _Command, answer: Denied | None) -> None:
    if not command.waiter.done():  # whoever waited may have gone
        command.waiter.set_result(answer)


def _fail(command: _Command, cause: Exception | None = None) -> None:
    if not command.waiter.done():
        refusal = _unrecorded(command.request) if command.kind == "end" else _unavailable()
        refusal.__cause__ = cause
        command.waiter.set_exception(refusal)


def _unavailable() -> Unavailable:
    return Unavailable(
        "ledger_unavailable",
        "The ledger cannot be written at the moment, so nothing was called and nothing is charged. Try again shortly.",
        retry_after=1,
    )


def _unrecorded(request: str) -> Unavailable:
    return Unavailable(
        "ledger_unavailable",
        f"The answer could not be recorded in time. GET /v1/requests/{request} tells whether it was charged.",
        repeatable=False,
    )


def _read_denials(result: Any) -> dict[tuple[str, int], Denied]:
    def number(row: int, column: int) -> int | None:
        value = result.get_value(row, column)
        return None if value is None else int(value)

    return {
        (result.get_value(row, 0).decode(), int(result.get_value(row, 1))): Denied(
            result.get_value(row, 2).decode(), number(row, 3), number(row, 4)
        )
        for row in range(result.ntuples)
    }


# PostgreSQL's binary form of an array of one dimension: dimensions, has-nulls, type, length, lower bound, elements.


def _texts(items: Sequence[str]) -> bytes:
    return _variable(_TEXT, [item.encode() for item in items])


def _states(events: Sequence[Event]) -> bytes:
    return _variable(_BYTEA, [_encode(event) for event in events])


def _variable(element_type: int, items: Sequence[bytes]) -> bytes:
    if not items:
        return struct.pack("!iii", 0, 0, element_type)
    parts = [struct.pack("!iiiii", 1, 0, element_type, len(items), 1)]
    for item in items:
        parts.append(len(item).to_bytes(4, "big"))
        parts.append(item)
    return b"".join(parts)


def _numbers(items: Sequence[int]) -> bytes:
    if not items:
        return struct.pack("!iii", 0, 0, _INT8)
    flat = [part for item in items for part in (8, item)]
    return struct.pack(f"!iiiii{'iq' * len(items)}", 1, 0, _INT8, len(items), 1, *flat)
