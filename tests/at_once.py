"""Several things at the same moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from domain.kernel.errors import Refusal


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Begins all of them at the same moment; what each answered."""
    together = threading.Barrier(len(actions), timeout=10)

    def begin(action: Callable[[], Any]) -> Any:
        together.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(begin, actions))


def answered_at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Likewise; a refusal is answered by its code."""

    def answered(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Refusal as refused:
            return refused.code

    return at_once(*[partial(answered, action) for action in actions])
