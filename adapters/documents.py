"""Legal documents as files: opens the sealed facts, draws and signs the PDF, and keeps it once and for good."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import ConnectionPool

from adapters.settings import Settings
from adapters.vault import Vault
from domain.payments.billing import books_subject
from domain.payments.document import Document
from domain.payments.events import DocumentIssued
from domain.payments.issue import as_issued

if TYPE_CHECKING:
    from pyhanko.sign.signers import SimpleSigner


@dataclass(frozen=True, slots=True)
class Kept:
    """A document's PDF as it is handed out."""

    sha256: str
    pdf: bytes


class Documents:
    """Only `draw` loads WeasyPrint: it belongs in a worker."""

    def __init__(self, pool: ConnectionPool[psycopg.Connection[Any]], vault: Vault, settings: Settings) -> None:
        self._pool = pool
        self._vault = vault
        self._settings = settings

    def open(self, issued: DocumentIssued) -> Document | None:
        """What is printed on the document; None once the books of its org are erased."""
        facts = self._vault.open(books_subject(issued.org), issued.facts)
        return None if facts is None else as_issued(issued, facts)

    def missing(self) -> str | None:
        """The one line to type on this machine before PDFs can be made; None where they can."""
        from adapters.pdf.ready import missing_libraries

        return missing_libraries()

    def draw(self, document: Document) -> bytes:
        """The signed PDF, new bytes each time. Raises Unavailable `pdf_unavailable` while libraries are missing."""
        from adapters.pdf.render import render_pdf
        from adapters.pdf.sign import sign

        return sign(render_pdf(document, verify_url=self.verify_url(document.number)), self._signer)

    @cached_property
    def _signer(self) -> "SimpleSigner":
        from adapters.pdf.sign import load_signer

        return load_signer(self._settings)

    def html(self, document: Document, *, nonce: str) -> str:
        """The same document as a page for browsers; its one style has the nonce."""
        from adapters.pdf.render import render_html

        return render_html(document, verify_url=self.verify_url(document.number), nonce=nonce)

    def verify_url(self, number: str) -> str:
        """Where anyone can check the document."""
        return f"{self._settings.public_url.rstrip('/')}/verify/{number}"

    def keep(self, number: str, pdf: bytes) -> Kept:
        """Keeps the PDF, unless there is one already: the first one is the document. Returns the one that is kept."""
        self._pool.open()
        with self._pool.connection() as connection:
            connection.execute(
                "insert into document_pdf (number, sha256, pdf) values (%s, encode(sha256(%s), 'hex'), %s)"
                " on conflict do nothing",
                [number, pdf, pdf],
            )
        kept = self.kept(number)
        assert kept is not None, f"{number} vanished while it was being kept"
        return kept

    def kept(self, number: str) -> Kept | None:
        """The PDF of the document, if it was made."""
        self._pool.open()
        with self._pool.connection() as connection:
            row = connection.execute(
                "select encode(sha256(pdf), 'hex'), pdf from document_pdf where number = %s", [number]
            ).fetchone()
        return None if row is None else Kept(row[0], bytes(row[1]))
