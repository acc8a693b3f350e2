"""A signed document shows any change, and stays the archivable file with its facts that it was."""

import io
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from pydantic import SecretStr
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.signers import SimpleSigner
from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus
from pyhanko_certvalidator import ValidationContext

from adapters.pdf.ready import INSTALL, missing_libraries
from adapters.pdf.render import render_pdf
from adapters.pdf.sign import load_signer, sign
from adapters.settings import Settings
from domain.payments.document import facts_json
from tests import papers
from tests.adapters.pdf.looks import text_of

pytestmark = pytest.mark.skipif(missing_libraries() is not None, reason=f"needs: {INSTALL}")


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return render_pdf(papers.HINDI, verify_url=papers.VERIFY)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> SimpleSigner:
    return load_signer(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def signed(pdf: bytes, signer: SimpleSigner) -> bytes:
    return sign(pdf, signer)


def status_of(data: bytes, signer: SimpleSigner) -> PdfSignatureStatus:
    [signature] = PdfFileReader(io.BytesIO(data)).embedded_signatures
    return validate_pdf_signature(signature, ValidationContext(trust_roots=[signer.signing_cert]))


def test_the_signature_is_good_and_covers_everything(signed: bytes, signer: SimpleSigner) -> None:
    status = status_of(signed, signer)
    assert status.bottom_line
    assert status.coverage == SignatureCoverageLevel.ENTIRE_FILE
    [signature] = PdfFileReader(io.BytesIO(signed)).embedded_signatures
    assert signature.sig_object["/SubFilter"] == "/ETSI.CAdES.detached"
    assert signature.docmdp_level is not None
    assert signature.docmdp_level.value == 1, "no changes at all"


def test_one_flipped_bit_shows(signed: bytes, pdf: bytes, signer: SimpleSigner) -> None:
    for place in (pdf.index(b"endstream") - 40, len(pdf) // 2, pdf.rindex(b"startxref") + 11):
        forged = bytearray(signed)
        forged[place] ^= 1
        assert not status_of(bytes(forged), signer).intact


def test_what_is_appended_shows(signed: bytes, signer: SimpleSigner) -> None:
    altered = io.BytesIO()
    with pikepdf.open(io.BytesIO(signed)) as document:
        document.Root.Lang = "hi-IN"
        document.save(altered)
    assert not status_of(altered.getvalue(), signer).intact


def test_another_key_is_not_trusted(signed: bytes, tmp_path: Path) -> None:
    status = status_of(signed, load_signer(Settings(home=tmp_path)))
    assert status.intact
    assert not status.bottom_line


def test_signing_keeps_the_document_as_it_was(signed: bytes, pdf: bytes) -> None:
    assert signed.startswith(pdf), "appended, not rewritten"
    assert text_of(signed) == text_of(pdf)
    with pikepdf.open(io.BytesIO(signed)) as document:
        assert document.check_pdf_syntax() == []
        assert document.attachments["facts.json"].get_file().read_bytes() == facts_json(papers.HINDI)
        with document.open_metadata() as meta:
            assert (meta["pdfaid:part"], meta["pdfaid:conformance"]) == ("3", "A")


def test_the_homes_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(4) as pool:
        keys = {signer.signing_key.dump() for signer in pool.map(lambda _: load_signer(settings), range(8))}
    assert len(keys) == 1
    [kept] = list((tmp_path / "home").iterdir())
    assert (kept.name, stat.S_IMODE(kept.stat().st_mode)) == ("documents.pem", 0o600)


@pytest.fixture(scope="module")
def pfx() -> bytes:
    """What an operator gets from a certifying authority, password `pass`."""
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Signatory of the supplier")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return pkcs12.serialize_key_and_certificates(b"s", key, certificate, None, BestAvailableEncryption(b"pass"))


def test_the_operators_certificate_signs_instead(pdf: bytes, pfx: bytes, tmp_path: Path) -> None:
    file = tmp_path / "operator.pfx"
    file.write_bytes(pfx)
    home = tmp_path / "home"
    signer = load_signer(Settings(home=home, document_pfx=file, document_pfx_password=SecretStr("pass")))
    assert signer.subject_name == "Signatory of the supplier"
    assert status_of(sign(pdf, signer), signer).intact
    assert not home.exists(), "no key of our own is made"


@pytest.mark.parametrize("password", [None, SecretStr("wrong")])
def test_a_pfx_that_cannot_be_opened_is_named(pfx: bytes, tmp_path: Path, password: SecretStr | None) -> None:
    file = tmp_path / "operator.pfx"
    file.write_bytes(pfx)
    with pytest.raises(ValueError, match=r"BR_DOCUMENT_PFX.*operator\.pfx"):
        load_signer(Settings(home=tmp_path, document_pfx=file, document_pfx_password=password))
    with pytest.raises(ValueError, match="BR_DOCUMENT_PFX"):
        load_signer(Settings(home=tmp_path, document_pfx=tmp_path / "none.pfx", document_pfx_password=password))
