"""Mails each invitation, at least once: the mail first, then the fact.

A worker that dies between the two sends the same mail again, under the same Message-ID.
"""

from adapters.wiring import App
from domain.accounts.members import record_invitation_mailed
from domain.accounts.org import Org
from domain.kernel.mail import Mailer, MailRefused, MailUnreachable
from domain.kernel.store import fold_recorded
from projections.invitations import to_mail
from workers.each import each
from workers.jobs import Job
from workers.letters import invitation_letter, person_texts

BATCH = 50


def run(app: App) -> int:
    """Sends what is due and answers how many there were. A mail server that is away is asked again the next time."""
    mailer = app.mailer
    if mailer is None:
        return 0
    with app.reading() as connection:
        waiting = to_mail(connection, now=app.clock(), limit=BATCH)
    return each(
        waiting,
        lambda row: _mail(app, mailer, *row),
        named=lambda row: f"the mail of invitation {row[1]}",
        away=MailUnreachable,
    )


def _mail(app: App, mailer: Mailer, org: str, invitation: str) -> bool:
    with app.claimed(f"mail of {invitation}") as ours:
        state = fold_recorded(Org(), app.log.org(org))
        invited = state.invitations.get(invitation)
        if not ours or invited is None or invited.mailed is not None:
            return False
        inviter = state.person_behind(invited.by)
        name = person_texts(app, inviter)[0] if inviter else ""
        to, problem = app.vault.open(org, invited.email), ""
        try:
            if not to:
                raise MailRefused("there is no address")
            mailer.send(invitation_letter(state, invited, to=to, inviter=name, public_url=app.settings.public_url))
        except MailRefused as error:
            problem = str(error) or "refused"
        record_invitation_mailed(
            app.store, org=org, invitation=invitation, problem=problem, at=app.clock(), by="worker:mail_invitations"
        )
    return not problem


JOB = Job("mail_invitations", 5, run)
