"""Makes the PDF of each document that was issued, once. WeasyPrint is loaded here and nowhere else.

A document is claimed while its PDF is made, the first PDF that is kept is the document, and only then is it put on
record: two workers at once, or one that dies between any two steps, leave one PDF and one fact.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from adapters.wiring import App
from domain.payments.papers import record_rendered
from projections.documents import issued, without_pdf
from workers.each import each
from workers.jobs import Job

BATCH = 20

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Makes what is missing and answers how many. While the system lacks libraries documents wait, and the log says
    once what to type."""
    line = app.documents.missing()
    if line is not None:
        _say_once(f"documents wait for their PDFs until somebody types: {line}")
        return 0
    with app.reading() as connection:
        waiting = without_pdf(connection, limit=BATCH)
    return each(waiting, lambda row: render(app, row), named=lambda row: f"the PDF of document {row['number']}")


def render(app: App, row: Mapping[str, Any]) -> bool:
    """Makes the PDF of a row of `projections.documents`, unless another worker is at it. Whether it was made here."""
    number, org = row["number"], row["org"]
    with app.claimed(number) as ours:
        if not ours:
            return False
        with app.reading() as connection:
            document = app.documents.open(issued(connection, row["position"]))
        if document is None:
            _say_once(f"document {number} cannot be made any more: the books of {org} are erased")
            return False
        kept = app.documents.kept(number) or app.documents.keep(number, app.documents.draw(document))
        recorded = record_rendered(
            app.store,
            org=org,
            order=document.order_id,
            number=number,
            sha256=kept.sha256,
            size=len(kept.pdf),
            at=app.clock(),
            by="worker:render_documents",
        )
    return recorded is not None


@cache
def _say_once(words: str) -> None:
    _log.warning(words)


JOB = Job("render_documents", 2, run)
