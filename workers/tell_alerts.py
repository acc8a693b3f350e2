"""Tells of alerts that were raised or have recovered, at least once: the letter first, then the fact.

A worker that dies between the two sends the same letter again, under the same Message-ID. The notice itself is on
record before, so nothing is told that did not happen, and nothing that happened is forgotten.
"""

from adapters.wiring import App
from domain.kernel.clock import DAY
from domain.kernel.mail import Mailer, MailRefused, MailUnreachable
from domain.kernel.store import fold_recorded
from domain.monitoring.alerts import Standing, alert_stream, record_told
from domain.monitoring.monitors import Alert
from projections.collections import collection_of
from projections.monitoring import Notice, untold
from workers.each import each
from workers.jobs import Job
from workers.letters import alert_address, alert_letter

BATCH = 50
OLD_NEWS = DAY
"""A notice that could not be told for so long is not told any more."""


def run(app: App) -> int:
    """Tells of what is due and answers how often. A mail server that is away is asked again the next time."""
    mailer = app.mailer
    if mailer is None:
        return 0
    with app.reading() as connection:
        waiting = untold(connection, noticed_after=app.clock() - OLD_NEWS, limit=BATCH)
    return each(
        waiting,
        lambda due: _tell(app, mailer, *due),
        named=lambda due: f"notice {due[0].number} of {due[1].id}",
        away=MailUnreachable,
    )


def _tell(app: App, mailer: Mailer, notice: Notice, alert: Alert) -> bool:
    with app.claimed(f"notices of {alert.id}") as ours:
        standing = fold_recorded(Standing(), app.log.stream(alert_stream(alert.id)))
        if not ours or standing.told >= notice.number:
            return False
        problem = ""
        try:
            if alert.mail:
                _mail(app, mailer, notice, alert)
        except MailRefused as error:
            problem = str(error) or "refused"
        record_told(
            app.store,
            org=notice.org,
            alert=alert.id,
            notice=notice.number,
            problem=problem,
            at=app.clock(),
            by="worker:tell_alerts",
        )
    return not problem


def _mail(app: App, mailer: Mailer, notice: Notice, alert: Alert) -> None:
    to = alert_address(app, notice.org, alert.mail)
    with app.reading() as connection:
        collection = collection_of(connection, alert.collection)
    if not to or collection is None:
        raise MailRefused("whoever was to be told is no member any more")
    mailer.send(alert_letter(notice, alert, collection, to=to, public_url=app.settings.public_url))


JOB = Job("tell_alerts", 2, run)
