"""What the product writes to people: each letter is a pair of templates beside this file, plain text and HTML."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.wiring import App
from domain.accounts.membership import Invitation
from domain.accounts.org import Org
from domain.accounts.person import Person, person_stream
from domain.kernel.clock import ist_day
from domain.kernel.mail import Attachment, Mail
from domain.kernel.money import show_inr
from domain.kernel.store import fold
from domain.payments import document as papers
from domain.payments.document import Document
from domain.payments.events import LowBalanceNoticed
from domain.payments.papers import file_name

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


def owner_address(app: App, org: str) -> str:
    """The address that the org was made with, else that of the owner who has been there longest; "" if there is none,
    or it is erased."""
    state = fold(Org(), ((fact.stream, fact.event) for fact in app.log.stream(f"org:{org}")))
    if state.email:
        return app.vault.open(org, state.email) or ""
    return next(filter(None, (person_texts(app, owner.person)[1] for owner in state.owners())), "")


def person_texts(app: App, person: str) -> tuple[str, str]:
    """The person's name and e-mail address; "" where there is none, or it is erased."""
    subject = person_stream(person)
    state = fold(Person(), ((fact.stream, fact.event) for fact in app.log.stream(subject)))
    name, email = ((sealed and app.vault.open(subject, sealed)) or "" for sealed in (state.name, state.email))
    return name, email


def document_letter(document: Document, *, to: str, pdf: bytes, verify_url: str) -> Mail:
    """Brings a legal document as a PDF."""
    kind = papers.kind_of(document)
    date, total = papers.show_day(document.issued_at), papers.show_paise(document.tax.total)
    shown = {
        "document": document,
        "title": kind.title,
        "total_label": kind.total_label,
        "total": total,
        "credit_line": papers.credit_line(document),
        "rows": [
            ("Number", document.number),
            ("Date", date),
            *papers.settlement(document),
            (kind.taxable_label, papers.show_paise(document.tax.taxable)),
            *((f"{name} at {rate}", papers.show_paise(paise)) for name, rate, paise in papers.tax_heads(document)),
        ],
        "verify_url": verify_url,
    }
    return Mail(
        id=f"document.{file_name(document.number)}",
        to=to,
        subject=f"{kind.title} {document.number} for {total}",
        text=_write("document.txt", shown),
        html=_write("document.html", shown),
        attachments=(Attachment(name=f"{file_name(document.number)}.pdf", media_type="application/pdf", content=pdf),),
    )


def low_balance_letter(notice: LowBalanceNoticed, *, to: str, at: int, public_url: str) -> Mail:
    """Says that credit runs low."""
    shown = {
        "available": show_inr(notice.available),
        "threshold": show_inr(notice.threshold),
        "public_url": public_url,
    }
    return Mail(
        id=f"low-balance.{notice.org.replace('_', '-')}.{ist_day(at)}",
        to=to,
        subject=f"{shown['available']} of credit left at BharatRouter",
        text=_write("low_balance.txt", shown),
        html=_write("low_balance.html", shown),
    )


def invitation_letter(org: Org, invitation: Invitation, *, to: str, inviter: str, public_url: str) -> Mail:
    """Invites somebody to an org. `inviter` is a person's name, empty where an operator or a key of one invites."""
    shown = {
        "org": org.name,
        "inviter": inviter,
        "role": invitation.role,
        "expires": papers.show_day(invitation.expires),
        "to": to,
        "public_url": public_url,
    }
    return Mail(
        id=f"invitation.{invitation.id.replace('_', '-')}",
        to=to,
        subject=f"{inviter or 'BharatRouter'} invites you to {org.name}",
        text=_write("invitation.txt", shown),
        html=_write("invitation.html", shown),
    )


def _write(template: str, shown: Mapping[str, object]) -> str:
    return _templates().get_template(template).render(shown)


@cache
def _templates() -> "Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
