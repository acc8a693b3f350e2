"""Mails each document that was made, at least once: the mail first, then the fact.

A worker that dies between the two sends the same mail again, under the same Message-ID; in any other case it is sent
exactly once, since a document is claimed meanwhile and the log itself is asked whether it was mailed.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from adapters.wiring import App
from domain.kernel.clock import DAY
from domain.kernel.mail import Mailer, MailRefused, MailUnreachable
from domain.kernel.store import fold_recorded
from domain.payments.papers import Papers, record_mail_refused, record_mailed
from projections.documents import issued, to_mail
from workers.each import each
from workers.jobs import Job
from workers.letters import document_letter, owner_address

BATCH = 50
WINDOW = 7 * DAY
"""Documents that were issued longer ago are not mailed any more; they can still be downloaded."""

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Sends what is due and answers how many there were. A mail server that is away is asked again the next time."""
    with app.reading() as connection:
        waiting = to_mail(connection, issued_after=app.clock() - WINDOW, limit=BATCH)
    mailer = app.mailer
    if mailer is None:
        for row in waiting:
            _say_once(f"not sent, since no mail server is configured: document {row['number']}")
        return 0
    return each(
        waiting,
        lambda row: _mail(app, mailer, row),
        named=lambda row: f"the mail of document {row['number']}",
        away=MailUnreachable,
    )


def _mail(app: App, mailer: Mailer, row: Mapping[str, Any]) -> bool:
    number, org = row["number"], row["org"]
    with app.claimed(f"mail of {number}") as ours:
        if not ours:
            return False
        with app.reading() as connection:
            document = app.documents.open(issued(connection, row["position"]))
        kept = app.documents.kept(number)
        if document is None or kept is None or _was_mailed(app, document.order_id, number):
            return False
        fact: dict[str, Any] = {"org": org, "order": document.order_id, "number": number}
        by = "worker:mail_documents"
        to = document.buyer.email or owner_address(app, org)
        try:
            if not to:
                raise MailRefused("there is no address")
            mailer.send(document_letter(document, to=to, pdf=kept.pdf, verify_url=app.documents.verify_url(number)))
        except MailRefused as error:
            record_mail_refused(app.store, **fact, reason=str(error), at=app.clock(), by=by)
            return False
        record_mailed(app.store, **fact, at=app.clock(), by=by)
    return True


def _was_mailed(app: App, order: str, number: str) -> bool:
    """The read model may be a moment late; the log is not."""
    return number in fold_recorded(Papers(), app.log.stream(f"payment:{order}")).mailed


@cache
def _say_once(words: str) -> None:
    _log.warning(words)


JOB = Job("mail_documents", 5, run)
