"""Tells orgs whose credit runs low, at most once in 24 hours: the fact first, then the mail. Webhooks follow from the
fact by themselves.

A crash between the two, or a mail server that is away, costs that mail; a second one within the day never comes.
"""

import logging

from adapters.wiring import App
from domain.kernel.mail import MailDelayed, MailRefused, MailUnreachable
from domain.payments.low_balance import QUIET, notice_low_balance
from projections.low_balance import running_low
from projections.webhooks import subscribers
from workers.each import each
from workers.jobs import Job
from workers.letters import low_balance_letter, owner_address

_log = logging.getLogger(__name__)


def run(app: App) -> int:
    """Tells everybody who is to be told and answers how many there were. Whom neither a mail nor a webhook would reach
    is not told, and there is nothing on record."""
    with app.reading() as connection:
        orgs = running_low(connection, noticed_before=app.clock() - QUIET)
        listening = subscribers(connection, "balance.low") if orgs else set()
    return each(
        orgs,
        lambda org: _tell(app, org, listens=org in listening),
        named=lambda org: f"the notice to {org} that its credit runs low",
        away=MailUnreachable,
    )


def _tell(app: App, org: str, *, listens: bool) -> bool:
    at, mailer = app.clock(), app.mailer
    to = "" if mailer is None else owner_address(app, org)
    if not to and not listens:
        return False
    notice = notice_low_balance(app.store, org=org, at=at, by="worker:notice_low_balance")
    if notice is None:
        return False
    if mailer is None or not to:
        return True
    try:
        mailer.send(low_balance_letter(notice, to=to, at=at, public_url=app.settings.public_url))
    except MailUnreachable:
        raise
    except (MailRefused, MailDelayed) as error:
        _log.warning("%s was not told that its credit runs low: %s", org, error)
    return True


JOB = Job("notice_low_balance", 60, run)
