"""Failed attempts to get in, counted per client, so that whoever guesses is slowed down and nobody else notices."""

import hashlib
import math
from collections.abc import Callable

from api.client_address import Address, household
from domain.inference.rates import SECOND_MICROS, RateWindows
from domain.kernel.errors import TooMany

COUNTERS = 1 << 16


class Attempts:
    """Failures of one `purpose`, at most `limit` a rolling minute for each client; 0 is no cap. What succeeds is not
    told to it. `clock` tells microseconds and does not go back.

    The windows are those of requests: shared by all processes while Valkey is there, of this process alone while not.
    A client's counter is one of `COUNTERS`, chosen by a keyed hash. So memory is bounded whatever addresses somebody
    has, and none is kept anywhere. Two clients that share a counter do not notice unless both fail.
    """

    def __init__(
        self, windows: RateWindows, *, purpose: str, limit: int, secret: bytes, clock: Callable[[], int]
    ) -> None:
        self._windows = windows
        self._purpose = purpose
        self._limit = limit
        self._secret = hashlib.blake2b(secret, person=b"attempts").digest()
        self._clock = clock
        self._until: dict[int, int] = {}  # by counter: when a client that was refused may try again

    def check(self, address: Address | None) -> None:
        """Before an attempt that costs something. Raises TooMany where this process knows that the client has failed
        too often; counts nothing."""
        counter = self._counter(address)
        left = self._until.get(counter, 0) - self._clock()
        if left > 0:
            raise self._refusal(left / SECOND_MICROS)
        self._until.pop(counter, None)

    async def failed(self, address: Address | None) -> None:
        """Counts a failure. Raises TooMany where it is one too many, and then counts it no more."""
        if not self._limit:
            return
        counter = self._counter(address)
        window = await self._windows.take((f"{self._purpose}:{counter}", self._limit))
        if not window.allowed:
            self._until[counter] = self._clock() + int(window.retry_seconds * SECOND_MICROS)
            raise self._refusal(window.retry_seconds)

    def _counter(self, address: Address | None) -> int:
        digest = hashlib.blake2b(household(address).encode(), key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest) % COUNTERS

    def _refusal(self, seconds: float) -> TooMany:
        wait = max(1, math.ceil(seconds))
        message = f"Too many wrong tries from this address. Wait {wait} s, or come with what is right."
        return TooMany("rate_limit_exceeded", message, retry_after=wait)
