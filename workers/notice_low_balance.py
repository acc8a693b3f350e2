"""Tells orgs whose credit runs low, at most once in 24 hours: the fact first, then the mail.

A crash between the two, or a mail server that is away, costs that mail; a second one within the day never comes.
"""

import logging

from adapters.wiring import App
from domain.kernel.mail import MailDelayed, Mailer, MailRefused, MailUnreachable
from domain.payments.low_balance import QUIET, notice_low_balance
from projections.low_balance import running_low
from workers.jobs import Job
from workers.letters import low_balance_letter, owner_address

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Tells everybody who is to be told and answers how many there were. Without a mail server nobody is, and there is
    nothing on record."""
    if app.mailer is None:
        return 0
    with app.reading() as connection:
        orgs = running_low(connection, noticed_before=app.clock() - QUIET)
    told = 0
    for org in orgs:
        try:
            told += _tell(app, app.mailer, org)
        except MailUnreachable as error:
            _log.warning("the mail server cannot be used now, %s was not told and others wait: %s", org, error)
            return told + 1
        except Exception:
            _log.exception("%s could not be told that its credit runs low, the others go on", org)
    return told


def _tell(app: App, mailer: Mailer, org: str) -> bool:
    to, at = owner_address(app, org), app.clock()
    if not to:
        return False
    notice = notice_low_balance(app.store, org=org, at=at, by="worker:notice_low_balance")
    if notice is None:
        return False
    try:
        mailer.send(low_balance_letter(notice, to=to, at=at, public_url=app.settings.public_url))
    except MailUnreachable:
        raise
    except (MailRefused, MailDelayed) as error:
        _log.warning("%s was not told that its credit runs low: %s", org, error)
    return True


JOB = Job("notice_low_balance", 60, run)
