"""Signs PDFs so that any later change shows: PAdES, as a certification that allows no changes at all.

The operator's certificate comes as a PFX file. Without one a key is made in the product's home at the first signature.
It proves to whoever knows its certificate that a document is ours and unaltered; a digital signature in the sense of
the Information Technology Act, 2000 takes a certificate of an authority licensed under that act.
"""

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from adapters.settings import Settings, kept_secret

if TYPE_CHECKING:
    from pyhanko.sign.signers import SimpleSigner

KEY_FILE = "documents.pem"
_YEARS = 10


def load_signer(settings: Settings) -> "SimpleSigner":
    """What `sign` signs with: the operator's PFX if one is set, else the home's own key, made if there is none yet.

    Load it once per process. Raises ValueError where the PFX cannot be read or its password is wrong.
    """
    if settings.document_pfx is None:
        return _from_pem(kept_secret(settings.home, KEY_FILE, _make_key))
    from pyhanko.sign.signers import SimpleSigner

    password = settings.document_pfx_password
    try:
        signer: SimpleSigner = SimpleSigner.load_pkcs12_data(
            settings.document_pfx.read_bytes(),
            other_certs=[],
            passphrase=None if password is None else password.get_secret_value().encode(),
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"BR_DOCUMENT_PFX: {settings.document_pfx} cannot be used: {error}") from error
    return signer


def sign(pdf: bytes, signer: "SimpleSigner") -> bytes:
    """The PDF with an invisible signature over all of it. Signed twice it differs, so keep what was handed out."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
    from pyhanko.sign.signers import PdfSignatureMetadata, sign_pdf

    signature = PdfSignatureMetadata(
        field_name="Signature",
        md_algorithm="sha256",
        subfilter=SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
        reason="Issued by the supplier",
    )
    signed = sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), signature, signer)
    data: bytes = signed.getvalue()
    return data


def _from_pem(pem: bytes) -> "SimpleSigner":
    from asn1crypto import keys, x509
    from asn1crypto.pem import unarmor
    from pyhanko.sign.signers import SimpleSigner
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    (_, _, key), (_, _, certificate) = unarmor(pem, multiple=True)
    others = SimpleCertificateStore()  # type: ignore[no-untyped-call]  # it has none, as the key signs for itself
    return SimpleSigner(x509.Certificate.load(certificate), keys.PrivateKeyInfo.load(key), others)


def _make_key() -> bytes:
    """A new key on P-256 and a certificate that it signs itself, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "BharatRouter documents (self-signed)")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=366 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=True, encipher_only=False, decipher_only=False, **usage
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
