"""Takes in what the payment gateway tells by webhook: on few threads, and as many payments in one transaction as have
gathered while the one before was written, so that a thousand at once are a few dozen transactions."""

import asyncio
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from adapters.wiring import App
from domain.kernel.errors import Unavailable
from domain.payments.payment import Order
from domain.payments.ports import GatewayPayment
from domain.payments.topup import Said

THREADS = 16
TOGETHER_MAX = 32
WAITING_MAX = 4_000
"""More than this are told to come again: what has waited so long is told again anyway."""

ACTOR = "webhook"


class Counter:
    """One per web application. Everything that it is told may be told again."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._waiting: deque[tuple[Said, Future[Order]]] = deque()
        self._one_writer = threading.Lock()
        self._in_hand = 0

    async def look(self, told: GatewayPayment) -> None:
        """Returns when what the gateway itself says of this payment is on record. Raises Unavailable, and NotFound for
        a payment that the gateway does not know."""
        if self._in_hand >= WAITING_MAX:
            raise Unavailable("overloaded", "Too many webhooks are waiting; tell it again.", retry_after=60)
        self._in_hand += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._look, told)
        finally:
            self._in_hand -= 1

    def _look(self, told: GatewayPayment) -> None:
        till = self._app.till
        known = till.find(told.order)
        if known.is_settled(told.id):
            return
        payment = till.gateway.payment(told.id)
        if payment.order != told.order:
            known = till.find(payment.order)
        self._record(till.hear(payment, known, learned="webhook"))

    def _record(self, said: Said) -> Order:
        """Whoever gets to write takes along what the others have brought, perhaps all there is."""
        done: Future[Order] = Future()
        self._waiting.append((said, done))
        while not done.done():
            with self._one_writer:
                if not done.done():
                    self._write([self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))])
        return done.result()

    def _write(self, gathered: list[tuple[Said, Future[Order]]]) -> None:
        try:
            after = self._app.till.record([said for said, _ in gathered], at=self._app.clock(), by=ACTOR)
        except Exception as error:
            if len(gathered) > 1 and not self._database_is_away():
                for each in gathered:  # one of them is at fault, and the others must not wait for it
                    self._write([each])
                return
            for _, done in gathered:
                done.set_exception(error)
            return
        for (_, done), order in zip(gathered, after, strict=True):
            done.set_result(order)

    def _database_is_away(self) -> bool:
        """Or it refuses what we write: the store says Unavailable of both."""
        try:
            with self._app.reading() as connection:
                connection.execute("select 1")
        except Unavailable:
            return True
        return False
