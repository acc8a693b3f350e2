"""Documents are drawn on one page with all that the law asks for, in India's scripts, and nothing typed is markup."""

import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pikepdf
import pypdfium2
import pytest
from msgspec.structs import replace

from adapters.pdf.press import FONTS, scripts
from adapters.pdf.ready import INSTALL, missing_libraries
from adapters.pdf.render import render_html, render_pdf
from domain.payments.document import Document, facts_json
from tests import papers
from tests.adapters.pdf.looks import fonts_of, pages_of, text_of

draws = pytest.mark.skipif(missing_libraries() is not None, reason=f"needs: {INSTALL}")


# The page


def test_the_page_is_self_contained_and_fits_a_strict_policy() -> None:
    page = render_html(papers.RECEIPT, verify_url=papers.VERIFY, nonce="n0nce")
    assert page.count('<style nonce="n0nce">') == page.count("<style") == 1
    assert not re.search(r"<script|<img|<link|<iframe|\son\w+=|\sstyle=|url\(|@import|javascript:", page, re.IGNORECASE)


HOSTILE = '"><script>alert(1)</script><style>*{display:none}</style>{{ 7*7 }}&amp;<img src=x onerror=alert(1)>'


def test_whatever_is_typed_stays_text() -> None:
    buyer = replace(papers.ASHA, name=HOSTILE, address=(HOSTILE,), city=HOSTILE, email=HOSTILE, country=HOSTILE)
    document = replace(papers.RECEIPT, buyer=buyer, description=HOSTILE, reference=HOSTILE, method=HOSTILE)
    page = render_html(document, verify_url=papers.VERIFY)

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    parsed = Tags()
    parsed.feed(page)
    assert not {"script", "img"} & set(parsed.tags)
    assert parsed.tags.count("style") == 1
    assert parsed.text.count(HOSTILE) >= 6


@draws
def test_what_is_typed_can_make_the_drawing_fetch_nothing() -> None:
    document = replace(papers.RECEIPT, buyer=replace(papers.ASHA, name=HOSTILE))
    text = text_of(render_pdf(document, verify_url=papers.VERIFY))
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}" in text


# The drawing


def without_breaks(text: str) -> str:
    """A line may break at a blank or a hyphen, which pdfium then takes for one of its own."""
    return re.sub(r"[\s\ufffe-]", "", text)


@draws
@pytest.mark.parametrize("document", papers.ALL.values(), ids=list(papers.ALL))
def test_every_field_of_the_law_is_on_the_one_page(document: Document, caplog: pytest.LogCaptureFixture) -> None:
    pdf = render_pdf(document, verify_url=papers.VERIFY)
    assert pages_of(pdf) == [(595, 842)]
    assert fonts_of(pdf) <= {"latin", "latin-ext", "devanagari"}
    assert not caplog.records, "WeasyPrint has something to complain about"
    text = without_breaks(text_of(pdf))
    supplier, buyer, tax = document.supplier, document.buyer, document.tax
    for field in [
        supplier.name, *supplier.address, supplier.gstin, supplier.pan, supplier.cin, supplier.email, supplier.website,
        buyer.name, *buyer.address, buyer.city, buyer.pin, buyer.email, buyer.gstin or "Unregistered",
        document.number, "23 November 2026", document.sac, document.description,
        document.payment_id, document.order_id, document.reference, document.irn,
        "Place of supply", "Reverse charge", "Authorised signatory", "Digitally signed",
        f"{tax.percent}%", papers.VERIFY, "Rupees", "Only",
    ]:  # fmt: skip
        assert without_breaks(field) in text, field
    assert ("cancelled" in text.lower()) == document.cancelled
    if document.refers_to:
        assert without_breaks(document.refers_to.number) in text


@draws
@pytest.mark.parametrize(
    ("document", "says"),
    [
        (papers.RECEIPT, "Receipt Voucher|₹1,180.00|Karnataka (29)|CGST at 9%|SGST at 9%|₹90.00|Advance received|UPI"
         "|Rupees One Thousand One Hundred Eighty Only|rule 50"),
        (papers.HINDI, "Uttar Pradesh (09)|IGST at 18%|₹152.62|₹847.88|₹1,000.50|and Fifty Paise Only|Net banking"),
        (papers.TERRITORY, "Chandigarh (04)|UTGST at 9%"),
        (papers.INVOICE, "Tax Invoice|Original for recipient|Taxable value|Invoice total|rule 46"),
        (papers.REFUND, "Refund Voucher|Against receipt voucher|14 November 2026|Refunded on|rfnd_Z9y8X7w6V5u4T3"
         "|₹472.00|taken back|rule 51"),
        (papers.CREDIT_NOTE, "Credit Note|Against tax invoice|Taxable value credited|rule 53"),
        (papers.CANCELLED, "Cancelled|of no effect"),
        (papers.ZONE, "Karnataka (29)|IGST at 18%|₹180.00|SUPPLY MEANT FOR EXPORT/SUPPLY TO SEZ UNIT OR SEZ DEVELOPER"
         " FOR AUTHORISED OPERATIONS ON PAYMENT OF INTEGRATED TAX"),
        (papers.ZONE_UNTAXED, "IGST at 0%|₹0.00|FOR AUTHORISED OPERATIONS UNDER BOND OR LETTER OF UNDERTAKING WITHOUT"
         " PAYMENT OF INTEGRATED TAX"),
    ],
    ids=[
        "receipt", "hindi", "territory", "invoice", "refund", "credit note", "cancelled", "zone", "zone, untaxed",
    ],
)  # fmt: skip
def test_each_kind_says_what_it_is(document: Document, says: str) -> None:
    text = text_of(render_pdf(document, verify_url=papers.VERIFY))
    for words in says.split("|"):
        assert words in text, words
    assert ("SEZ" in text) is document.buyer.special_zone


@draws
@pytest.mark.parametrize("name", papers.SCRIPTS)
def test_names_in_the_scripts_of_india_are_drawn_in_our_fonts_and_can_be_copied(name: str) -> None:
    pdf = render_pdf(replace(papers.RECEIPT, buyer=replace(papers.ASHA, name=name)), verify_url=papers.VERIFY)
    assert name in text_of(pdf)
    used = {script.name for script in scripts() if script.is_in(name.replace(" ", ""))}
    assert {name for name in fonts_of(pdf) if "latin" not in name} == used


@draws
def test_the_foot_is_never_run_over() -> None:
    """The text above ends higher than the foot begins, on the longest document too."""
    for document in (papers.LONG, papers.CANCELLED, papers.RECEIPT):
        with pypdfium2.PdfDocument(render_pdf(document, verify_url=papers.VERIFY)) as pdf:
            page = pdf[0].get_textpage()

            def where(words: str, page: pypdfium2.PdfTextPage = page) -> tuple[float, float]:
                index, _ = page.search(words).get_next()
                _, bottom, _, top = page.get_charbox(index)
                return bottom, top

            assert where("Rupees")[0] > where("Check this document")[1]
            assert where("attached as facts")[0] > 20


@draws
def test_the_same_facts_are_the_same_bytes() -> None:
    for document in (papers.HINDI, papers.REFUND):
        assert render_pdf(document, verify_url=papers.VERIFY) == render_pdf(document, verify_url=papers.VERIFY)


@draws
def test_the_file_is_sound_and_made_for_the_archive() -> None:
    with pikepdf.open(io.BytesIO(render_pdf(papers.HINDI, verify_url=papers.VERIFY))) as pdf:
        assert pdf.check_pdf_syntax() == []
        with pdf.open_metadata() as meta:
            assert (meta["pdfaid:part"], meta["pdfaid:conformance"]) == ("3", "A")
            assert meta["dc:title"] == "Receipt Voucher RV/26-27/000001"
            assert meta["xmp:CreateDate"].startswith("2026-11-23T10:06:12")
        assert str(pdf.Root.Lang) == "en-IN"
        assert bool(pdf.Root.MarkInfo.Marked)
        assert "/StructTreeRoot" in pdf.Root
        assert pdf.Root.OutputIntents[0].S == "/GTS_PDFA1"
        assert "/AcroForm" not in pdf.Root
        assert "/JavaScript" not in pdf.Root.Names


@draws
def test_the_facts_are_inside_for_machines() -> None:
    with pikepdf.open(io.BytesIO(render_pdf(papers.REFUND, verify_url=papers.VERIFY))) as pdf:
        assert list(pdf.attachments) == ["facts.json"]
        assert pdf.attachments["facts.json"].get_file().read_bytes() == facts_json(papers.REFUND)
        [file] = pdf.Root.AF
        assert str(file.AFRelationship) == "/Data"
        assert file.EF.F.Subtype == "/application/json"
    assert json.loads(facts_json(papers.REFUND))["number"] == papers.REFUND.number


# The fonts


def test_the_fonts_are_the_ones_that_are_on_record() -> None:
    recorded = {
        file: digest
        for script in scripts()
        for file, digest in zip(script.files.values(), (script.regular_sha256, script.semibold_sha256), strict=True)
    }
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FONTS.glob("*.woff2")}
    assert found == recorded
    assert sum(path.stat().st_size for path in FONTS.iterdir()) < 1_500_000
    licence = (FONTS / "OFL.txt").read_text()
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence


def test_the_fonts_cover_what_documents_need() -> None:
    from fontTools.ttLib import TTFont

    for script in scripts():
        for file in script.files.values():
            with TTFont(FONTS / file) as font:
                assert "fvar" not in font
                letters = font.getBestCmap()
                assert f"Version {script.version}" in font["name"].getDebugName(5)
            if script.name == "latin-ext":
                assert ord("₹") in letters
    for name in (papers.ANITA.name, *papers.SCRIPTS):
        assert any(script.is_in(name.replace(" ", "")) for script in scripts()[2:])
