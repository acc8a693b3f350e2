"""Draws a legal document: one page of HTML, which browsers are served as it is and which becomes the PDF.

Whatever a customer typed is text here and never markup.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.pdf.press import Enclosure, press
from domain.kernel.clock import to_iso
from domain.payments import document as facts
from domain.payments.document import Document, facts_json
from domain.payments.numbering import KINDS
from domain.payments.states import show_state

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
ENCLOSURE = "facts.json"

# The text shrinks until all of it fits on one sheet, however long an address is.
_SIZES_PT = (9, 8.2, 7.4, 6.6, 5.8, 5, 4)


def render_html(document: Document, *, verify_url: str, nonce: str | None = None) -> str:
    """The document as one page without scripts or outside resources.

    Served under a strict policy, its one `<style>` needs `nonce`. `verify_url` is printed and in the QR code.
    """
    return _page(document, verify_url=verify_url, nonce=nonce)


def render_pdf(document: Document, *, verify_url: str) -> bytes:
    """The document on one A4 page as PDF/A-3, its facts inside as `facts.json`; not yet signed.

    The same facts give the same bytes. Raises Unavailable `pdf_unavailable` where the system lacks libraries.
    """
    data = facts_json(document)
    return press(
        lambda css: _page(document, verify_url=verify_url, nonce=None, css=css),
        letters=data.decode() + verify_url,
        enclosed=Enclosure(ENCLOSURE, data, f"The facts of {document.number} for machines"),
        at=document.issued_at,
        sizes_pt=_SIZES_PT,
    )


def _page(document: Document, *, verify_url: str, nonce: str | None, css: str = "") -> str:
    import segno
    from markupsafe import Markup

    kind = facts.kind_of(document)
    original = document.refers_to
    code = segno.make(verify_url, error="m")
    return _template().render(
        document=document,
        kind=kind,
        title=kind.title,
        created=to_iso(document.issued_at)[:19] + "Z",
        css=Markup(_css() + css),
        nonce=nonce,
        date=facts.show_day(document.issued_at),
        original_title=KINDS[kind.refers_to].title if kind.refers_to else "",
        original_date=facts.show_day(original.issued_at) if original else "",
        endorsement=facts.endorsement(document),
        place=show_state(document.place_of_supply),
        buyer_lines=facts.buyer_lines(document.buyer),
        settlement=facts.settlement(document),
        credit_line=facts.credit_line(document),
        taxable=facts.show_paise(document.tax.taxable),
        gst=facts.show_paise(document.tax.heads),
        total=facts.show_paise(document.tax.total),
        heads=[(name, rate, facts.show_paise(paise)) for name, rate, paise in facts.tax_heads(document)],
        words=facts.words(document),
        verify_url=verify_url,
        qr=Markup(code.svg_inline(border=0, omitsize=True, svgclass="qr", lineclass=None, title="QR code")),
    )


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
    return environment.get_template("document.html")


@cache
def _css() -> str:
    return (HERE / "document.css").read_text()
