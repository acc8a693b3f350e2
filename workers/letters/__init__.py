"""What the product writes to people: each letter is a pair of templates beside this file, plain text and HTML."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adapters.wiring import App
from domain.accounts.membership import Invitation
from domain.accounts.org import Org
from domain.accounts.person import Person, person_stream
from domain.kernel.clock import IST, ist_day, to_datetime
from domain.kernel.mail import Attachment, Mail
from domain.kernel.money import show_inr
from domain.kernel.store import fold_recorded
from domain.monitoring.events import Metric
from domain.monitoring.monitors import Alert
from domain.payments import document as papers
from domain.payments.document import Document
from domain.payments.events import LowBalanceNoticed
from domain.payments.papers import file_name
from projections.monitoring import Notice

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


def owner_address(app: App, org: str) -> str:
    """The address that the org was made with, else that of the owner who has been there longest; "" if there is none,
    or it is erased."""
    state = fold_recorded(Org(), app.log.stream(f"org:{org}"))
    if state.email:
        return app.vault.open(org, state.email) or ""
    return next(filter(None, (person_texts(app, owner.person)[1] for owner in state.owners())), "")


def person_texts(app: App, person: str) -> tuple[str, str]:
    """The person's name and e-mail address; "" where there is none, or it is erased."""
    subject = person_stream(person)
    state = fold_recorded(Person(), app.log.stream(subject))
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
    return _letter(
        "document",
        shown,
        id=f"document.{file_name(document.number)}",
        to=to,
        subject=f"{kind.title} {document.number} for {total}",
        attachments=(Attachment(name=f"{file_name(document.number)}.pdf", media_type="application/pdf", content=pdf),),
    )


def low_balance_letter(notice: LowBalanceNoticed, *, to: str, at: int, public_url: str) -> Mail:
    """Says that credit runs low."""
    shown = {
        "available": show_inr(notice.available),
        "threshold": show_inr(notice.threshold),
        "public_url": public_url,
    }
    return _letter(
        "low_balance",
        shown,
        id=f"low-balance.{notice.org}.{ist_day(at)}",
        to=to,
        subject=f"{shown['available']} of credit left at BharatRouter",
    )


def webhook_disabled_letter(endpoint: str, *, url: str, reason: str, to: str, at: int, public_url: str) -> Mail:
    """Says that nothing is sent to a webhook any more, since it is `gone` or `failing`."""
    shown = {"host": urlsplit(url).hostname, "endpoint": endpoint, "gone": reason == "gone", "public_url": public_url}
    return _letter(
        "webhook_disabled",
        shown,
        id=f"webhook-disabled.{endpoint}.{ist_day(at)}",
        to=to,
        subject=f"BharatRouter sends nothing more to {shown['host']}",
    )


def invitation_letter(org: Org, invitation: Invitation, *, to: str, inviter: str, public_url: str) -> Mail:
    """Invites somebody to an org. `inviter` is a person's name, empty where an operator or a key of one invites."""
    shown = {
        "org": org.name,
        "inviter": inviter,
        "role": invitation.role,
        "expires": papers.show_day(invitation.expires),
        "to": to,
        "address": f"{public_url.rstrip('/')}/sign-in",
    }
    return _letter(
        "invitation",
        shown,
        id=f"invitation.{invitation.id}",
        to=to,
        subject=f"{inviter or 'BharatRouter'} invites you to {org.name}",
    )


def alert_address(app: App, org: str, mail: str) -> str:
    """Where an alert of the org is told: the address that the org was made with (`org`), or that of a person while they
    are a member; "" if there is none, or it is erased."""
    state = fold_recorded(Org(), app.log.org(org))
    if not state.exists:
        return ""
    if mail == "org":
        return (state.email and app.vault.open(org, state.email)) or ""
    return person_texts(app, mail)[1] if mail in state.members else ""


def alert_letter(notice: Notice, alert: Alert, collection: Mapping[str, Any], *, to: str, public_url: str) -> Mail:
    """Says that an alert of a collection was raised, or has recovered."""
    step = None if alert.step is None else collection["steps"][alert.step : alert.step + 1]
    shown = {
        "breached": notice.breached,
        "collection": collection["name"],
        "step": step[0]["model"] if step else None,
        "what": "Failed checks" if alert.metric == "error_rate" else "Latency (95 of 100 answers within)",
        "figure": show_figure(alert.metric, notice.figure),
        "threshold": show_figure(alert.metric, alert.threshold),
        "checks": notice.checks,
        "minutes": alert.window_minutes,
        "at": f"{to_datetime(notice.at).astimezone(IST):%-d %B %Y, %H:%M} India time",
        "health_url": f"{public_url.rstrip('/')}/me/collections/{collection['slug']}/health",
        "alerts_url": f"{public_url.rstrip('/')}/me/collections/{collection['slug']}/alerts/{alert.id}",
        "status_url": f"{public_url.rstrip('/')}/status",
    }
    return _letter(
        "alert",
        shown,
        id=f"alert.{alert.id}.{notice.number}",
        to=to,
        subject=f"{collection['name']}: {'alert' if notice.breached else 'recovered'}, {shown['figure']}",
    )


def show_figure(metric: Metric, figure: int) -> str:
    """`12.5 %` of millionths, rounded down to a tenth; `1,250 ms`."""
    return f"{figure // 10_000}.{figure // 1_000 % 10} %" if metric == "error_rate" else f"{figure:,} ms"


def _letter(
    template: str,
    shown: Mapping[str, object],
    *,
    id: str,
    to: str,
    subject: str,
    attachments: tuple[Attachment, ...] = (),
) -> Mail:
    """A mail of the two templates of this name, as text and as HTML. `id` may be written with underscores."""
    text, html = (_templates().get_template(f"{template}.{form}").render(shown) for form in ("txt", "html"))
    return Mail(id=id.replace("_", "-"), to=to, subject=subject, text=text, html=html, attachments=attachments)


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
