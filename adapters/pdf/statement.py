"""Draws a month's statement, over as many pages as it takes.

Gateways must stay small and quick, and drawing loads WeasyPrint: so it is done in a process of its own, which is given
what to draw and gives the PDF (`python -m adapters.pdf.statement`).
"""

import logging
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from adapters.pdf.press import Enclosure, press
from adapters.pdf.ready import require_libraries
from domain.kernel.clock import DAY, IST, IST_OFFSET, to_datetime, to_iso
from domain.kernel.errors import Unavailable
from domain.kernel.money import NANOS_PER_RUPEE, format_inr, rupees, show_inr
from domain.ledger.statement import USAGE, Entry, Statement
from domain.payments.document import Supplier, show_day, show_moment

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
DRAW_SECONDS_MAX = 60
WAIT_SECONDS_MAX = 20

_ALONE = threading.Lock()  # one drawing at a time for each process that asks
_log = logging.getLogger(__name__)

_TITLES = {
    "topup": "Top-up",
    "promo": "Promo credit",
    "adjustment": "Adjustment",
    "expiry": "Expired credit",
    "refund": "Refund",
    USAGE: "Usage",
}


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the drawing process is told: `at` is the moment of making."""

    statement: Statement
    supplier: Supplier
    at: int


class _Row(msgspec.Struct, frozen=True):
    day: str
    time: str
    title: str
    aside: str
    amount: int
    balance: int


def statement_pdf(statement: Statement, supplier: Supplier, *, at: int) -> bytes:
    """The statement as PDF/A-3 made at the moment `at`, its figures in nano-rupees inside as `statement.json`.

    Raises Unavailable: `pdf_unavailable` where the system lacks libraries or the drawing fails, `overloaded` while
    others are being drawn.
    """
    require_libraries()
    if not _ALONE.acquire(timeout=WAIT_SECONDS_MAX):
        raise Unavailable("overloaded", "Other statements are being drawn; try again, or take the CSV.", retry_after=5)
    try:
        order = msgspec.json.encode(_Order(statement=statement, supplier=supplier, at=at))
        drawn = subprocess.run(
            [sys.executable, "-m", "adapters.pdf.statement"],
            input=order,
            capture_output=True,
            timeout=DRAW_SECONDS_MAX,
            check=True,
        )
    except subprocess.SubprocessError as error:
        _log.error("a statement could not be drawn: %s", getattr(error, "stderr", None) or error)
        raise Unavailable("pdf_unavailable", "This statement could not be drawn; take the CSV.") from error
    finally:
        _ALONE.release()
    return drawn.stdout


def draw(statement: Statement, supplier: Supplier, *, at: int) -> bytes:
    """The same in this process."""
    figures = msgspec.json.encode(statement)
    return press(
        lambda css: _page(statement, supplier, at=at, css=css),
        letters=figures.decode() + msgspec.json.encode(supplier).decode(),
        enclosed=Enclosure("statement.json", figures, "The figures of this statement in nano-rupees"),
        at=at,
    )


def _page(statement: Statement, supplier: Supplier, *, at: int, css: str) -> str:
    from markupsafe import Markup

    return _template().render(
        statement=statement,
        supplier=supplier,
        period=show_day(_start(statement.first_day)).partition(" ")[2],
        first_day=show_day(_start(statement.first_day)),
        last_day=show_day(_start(statement.last_day)),
        calls=_count(statement.calls),
        made=show_moment(at),
        created=to_iso(at)[:19] + "Z",
        rows=map(_row, statement.entries),
        css=Markup((HERE / "statement.css").read_text() + css),
    )


def _row(entry: Entry) -> _Row:
    time = "" if entry.at is None else f"{to_datetime(entry.at).astimezone(IST):%H:%M:%S}"
    title = _TITLES[entry.type]
    note = _count(entry.calls) if entry.type == USAGE else entry.note
    aside = " · ".join(filter(None, [note if note != title else "", entry.payment]))
    return _Row(show_day(_start(entry.day)), time, title, aside, entry.amount, entry.balance)


def _count(calls: int) -> str:
    """`1,23,456 calls`"""
    return f"{show_exact(rupees(calls))[1:-3]} call{'' if calls == 1 else 's'}"


def _start(day: int) -> int:
    """The midnight that begins a day on India's calendar."""
    return day * DAY - IST_OFFSET


def show_exact(nanos: int) -> str:
    """`₹1,23,456.006588`: Indian grouping, at least paise, and as many decimals as it takes."""
    whole, fraction = divmod(abs(nanos), NANOS_PER_RUPEE)
    decimals = format_inr(fraction).partition(".")[2]
    return f"{'−' if nanos < 0 else ''}{show_inr(rupees(whole))[:-2]}{decimals:0<2}"


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inr"] = show_exact
    return environment.get_template("statement.html")


def main() -> None:
    """Draws what standard input says to standard output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    sys.stdout.buffer.write(draw(order.statement, order.supplier, at=order.at))


if __name__ == "__main__":
    main()
