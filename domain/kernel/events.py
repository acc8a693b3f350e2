"""What an event is, and the register of names for life.

An event is a fact in the past tense. Its stored form is readable JSON under a name such as `ledger.credit_held.v1`,
never a Python path. A field may be added with a default; any other change is a new version with a new name.
"""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`at` is in microseconds since 1970, UTC; `by` is the actor (`key:…`, `worker:…`, `operator`); `cause` is the
    stream and version of the event that led to this one, where there is one."""

    NAME: ClassVar[str] = ""

    at: int = 0
    by: str = ""
    cause: str = ""


class Recorded(msgspec.Struct, frozen=True):
    """An event and its place: `position` in the log (readers see no gaps that later fill), `version` in its stream."""

    position: int
    stream: str
    version: int
    event: Event


E = TypeVar("E", bound=type[Event])

REGISTER: dict[str, type[Event]] = {}


def fact(name: str) -> Callable[[E], E]:
    """Registers an event class under its name for life, `context.fact.vN`."""

    def register(cls: E) -> E:
        if name in REGISTER:
            raise ValueError(f"two events are called {name}")
        cls.NAME = name
        REGISTER[name] = cls
        return cls

    return register
