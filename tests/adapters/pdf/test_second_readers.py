"""What programs by others make of our PDFs: qpdf of their structure, poppler of their text and signature."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pyhanko.sign.signers import SimpleSigner

from adapters.pdf.ready import INSTALL, missing_libraries
from adapters.pdf.render import render_pdf
from adapters.pdf.sign import load_signer, sign
from adapters.settings import Settings
from domain.payments.document import Document, show_paise
from tests import papers

pytestmark = pytest.mark.skipif(missing_libraries() is not None, reason=f"needs: {INSTALL}")
DOCUMENTS = pytest.mark.parametrize("document", papers.ALL.values(), ids=list(papers.ALL))


def asks(reader: str) -> pytest.MarkDecorator:
    here = shutil.which(reader) is not None
    return pytest.mark.skipif(not here, reason=f"{reader} is not installed: apt-get install -y qpdf poppler-utils")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> SimpleSigner:
    return load_signer(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def signed(signer: SimpleSigner, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Document], Path]:
    """Files of documents as customers get them, each made once."""
    folder = tmp_path_factory.mktemp("signed")

    def file_of(document: Document) -> Path:
        file = folder / f"{list(papers.ALL.values()).index(document)}.pdf"
        if not file.exists():
            file.write_bytes(sign(render_pdf(document, verify_url=papers.VERIFY), signer))
        return file

    return file_of


def said(*command: str | Path) -> str:
    """What the reader says; it must be content."""
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode()


@asks("qpdf")
@DOCUMENTS
def test_qpdf_finds_nothing_wrong(signed: Callable[[Document], Path], document: Document) -> None:
    assert "No syntax or stream encoding errors found" in said("qpdf", "--check", signed(document))


@asks("pdfsig")
@DOCUMENTS
def test_poppler_finds_the_whole_document_signed(signed: Callable[[Document], Path], document: Document) -> None:
    words = said("pdfsig", signed(document))
    assert "Signature is Valid" in words
    assert "Total document signed" in words


@asks("pdfsig")
def test_poppler_finds_what_was_altered(signed: Callable[[Document], Path], tmp_path: Path) -> None:
    forged = bytearray(signed(papers.RECEIPT).read_bytes())
    forged[len(forged) // 3] ^= 1
    file = tmp_path / "forged.pdf"
    file.write_bytes(forged)
    done = subprocess.run(["pdfsig", file], capture_output=True, check=False)
    assert b"Signature is Valid" not in done.stdout


@asks("pdftotext")
@DOCUMENTS
def test_poppler_reads_every_field(signed: Callable[[Document], Path], document: Document) -> None:
    text = without_breaks(said("pdftotext", "-layout", signed(document), "-"))
    supplier, buyer = document.supplier, document.buyer
    for field in [
        supplier.name, supplier.gstin, buyer.city, buyer.pin, buyer.gstin or "Unregistered",
        document.number, document.sac, document.payment_id, document.order_id, document.reference,
        show_paise(document.tax.taxable), show_paise(document.tax.total), papers.VERIFY,
    ]:  # fmt: skip
        assert without_breaks(field) in text, field


@asks("pdftotext")
def test_poppler_reads_rupees_and_the_hindi_name(signed: Callable[[Document], Path]) -> None:
    text = " ".join(said("pdftotext", signed(papers.HINDI), "-").split())
    assert "₹1,000.50" in text
    assert papers.ANITA.name in text


def without_breaks(text: str) -> str:
    """A line may break at a blank or a hyphen."""
    return re.sub(r"[\s-]", "", text)
