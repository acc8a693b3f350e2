"""What a read model is: tables in a schema of its own, and a fold that says what each event adds to them.

A file in this folder that has a `PROJECTION` is thereby registered.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, LiteralString, TypeVar, cast

import psycopg

import projections
from domain.kernel.clock import DAY, IST_OFFSET, ist_month
from domain.kernel.events import Event

Cursor = psycopg.Cursor[Any]
Connection = psycopg.Connection[Any]

TEXT_LENGTH_MAX = 200
_READS = "_reads"


class Fold:
    """What a batch of events adds to the tables: gathered in memory by the methods marked with `on`, written once.

    A new one is made for every batch, wherever the batch ends; the tables must not depend on where that is.
    """

    def flush(self, cursor: Cursor) -> None:
        """Writes what was gathered, by statements that add to the rows there are. The tables are on the search path."""
        raise NotImplementedError


H = TypeVar("H", bound=Callable[..., None])


def on(event: type[Event], *fields: str) -> Callable[[H], H]:
    """Marks the method of a fold that takes this event: `method(self, event, stream, position)`.

    With `fields`, only these (and `at`) are decoded, which is most of the speed of a rebuild; without, all are.
    One method may take several events.
    """

    def mark(method: H) -> H:
        reads = getattr(method, _READS, {})
        setattr(method, _READS, {**reads, event: fields or event.__struct_fields__})
        return method

    return mark


@dataclass(frozen=True)
class Projection:
    """A read model. `tables` is its DDL without a schema; `indexes` those that a rebuild makes after the rows.

    Raise `version` whenever tables or fold change: the runner then rebuilds it by itself. `weight` is its share of the
    work of a rebuild, relative to the others. Names of tables are unique over all projections.
    """

    name: str
    version: int
    tables: LiteralString
    fold: type[Fold]
    indexes: LiteralString = ""
    weight: int = 1

    @property
    def schema(self) -> str:
        return f"view_{self.name}"

    def handlers(self) -> list[tuple[type[Event], tuple[str, ...], str]]:
        """Every event that the fold takes: the class, the fields it reads, and the name of the method."""
        return [
            (event, fields, name)
            for name in dir(self.fold)
            for event, fields in getattr(getattr(self.fold, name), _READS, {}).items()
        ]


def find_all() -> dict[str, Projection]:
    """Every projection of this folder by name."""
    modules = (
        importlib.import_module(module.name) for module in pkgutil.iter_modules(projections.__path__, "projections.")
    )
    found = [cast(Projection, module.PROJECTION) for module in modules if hasattr(module, "PROJECTION")]
    return {projection.name: projection for projection in found}


class Sums:
    """Adds to a table whose rows are a key and sums: the shape of most read models."""

    _CASTS: ClassVar[Mapping[str, str]] = {"text": "::text[]", "bigint": "::bigint[]"}

    def __init__(self, table: str, *, keys: Mapping[str, str], sums: Sequence[str]) -> None:
        """`keys` are the columns of the primary key with their types, `text` or `bigint`; `sums` are all bigint."""
        self._types = [*keys.values(), *("bigint" for _ in sums)]
        columns = ", ".join([*keys, *sums])
        # MERGE costs two thirds of INSERT … ON CONFLICT, whose care for other writers is not needed: there are none.
        self._sql = (
            f"merge into {table} t"
            f" using unnest({', '.join('%s' + self._CASTS[kind] for kind in self._types)}) n ({columns})"
            f" on {' and '.join(f't.{name} = n.{name}' for name in keys)}"
            f" when matched then update set {', '.join(f'{name} = t.{name} + n.{name}' for name in sums)}"
            f" when not matched then insert ({columns}) values ({', '.join(f'n.{name}' for name in [*keys, *sums])})"
        ).encode()

    def add(self, cursor: Cursor, rows: Mapping[Any, Sequence[int]]) -> None:
        """`rows` are the sums by key: a tuple of the key's columns, or the bare value of a single one."""
        if not rows:
            return
        keys = zip(*(key if isinstance(key, tuple) else (key,) for key in rows), strict=True)
        columns = [*keys, *zip(*rows.values(), strict=True)]
        cursor.execute(
            self._sql,
            [
                text_array(column) if kind == "text" else number_array(column)
                for kind, column in zip(self._types, columns, strict=True)
            ],
        )


def execute_all(cursor: Cursor, changes: Sequence[tuple[Any, Sequence[Any]]]) -> None:
    """Runs statements with their parameters in order, without waiting for each: what changes rows one by one."""
    if changes:
        with cursor.connection.pipeline():
            for statement, values in changes:
                cursor.execute(statement, values, prepare=False)  # what a failed pipeline prepared would be missed


def text_array(values: Sequence[str]) -> str:
    """PostgreSQL's literal of a text array: some ten times quicker than the driver's adaptation of long lists."""
    quoted = ['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]
    return "{" + ",".join(quoted) + "}"


def number_array(values: Sequence[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def clean(text: str) -> str:
    """Text that callers sent, made fit for a column and its index: without NUL, which PostgreSQL refuses; not long."""
    return text[:TEXT_LENGTH_MAX].replace("\0", "")


def day_of(at: int) -> int:
    """`ist_day`, written out for folds: the function call would cost as much as the sum."""
    return (at + IST_OFFSET) // DAY


@functools.lru_cache(maxsize=4096)
def month_of_day(day: int) -> int:
    """`yyyymm` of a day on India's calendar."""
    return ist_month(day * DAY - IST_OFFSET)
