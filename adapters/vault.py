"""Seals what only we may read: AES-256-GCM under a random key per subject, which is itself sealed by a master key.

Destroying a subject's key makes everything sealed under it unreadable, wherever copies of the log may be.
"""

import base64
import hmac
import os
from typing import Any

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import ConnectionPool

VERSION = "v1."
NONCE_BYTES = 12
KEY_BYTES = 32


def master_key(secret: bytes) -> bytes:
    """The vault's own key, derived from the installation's secret so that there is one secret to keep."""
    return hmac.digest(secret, b"vault master key", "sha256")


class Vault:
    """`subject` is whom the sealed thing belongs to, such as `org_…`; a seal opens for the one it was made for."""

    def __init__(self, master: bytes, pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
        self._master = AESGCM(master)
        self._pool = pool

    def seal(self, subject: str, text: str) -> str:
        """Text that may be recorded in events. Raises psycopg.Error if the subject's key cannot be stored."""
        sealed = _encrypt(AESGCM(self._make_key(subject)), text.encode(), subject)
        return VERSION + base64.urlsafe_b64encode(sealed).decode()

    def open(self, subject: str, sealed: str) -> str | None:
        """What was sealed, or None once the subject has been erased. Raises ValueError for a seal that is not ours."""
        key = self._key(subject)
        if key is None:
            return None
        try:
            text = _decrypt(AESGCM(key), base64.urlsafe_b64decode(sealed.removeprefix(VERSION)), subject)
        except InvalidTag:
            raise ValueError(f"not sealed for {subject} by this installation") from None
        return text.decode()

    def erase(self, subject: str) -> None:
        """Destroys the subject's key for good."""
        self._pool.open()
        with self._pool.connection() as connection:
            connection.execute("delete from vault_key where subject = %s", [subject])

    def _make_key(self, subject: str) -> bytes:
        if (known := self._key(subject)) is not None:
            return known
        fresh = _encrypt(self._master, os.urandom(KEY_BYTES), subject)
        with self._pool.connection() as connection:
            connection.execute(
                "insert into vault_key (subject, sealed) values (%s, %s) on conflict do nothing", [subject, fresh]
            )
        key = self._key(subject)
        assert key is not None, f"the key of {subject} vanished while it was being made"
        return key

    def _key(self, subject: str) -> bytes | None:
        self._pool.open()
        with self._pool.connection() as connection:
            row = connection.execute("select sealed from vault_key where subject = %s", [subject]).fetchone()
        if row is None:
            return None
        try:
            return _decrypt(self._master, bytes(row[0]), subject)
        except InvalidTag:
            raise ValueError("the master key of the vault is not the one that this database was made with") from None


def _encrypt(cipher: AESGCM, data: bytes, subject: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, subject.encode())


def _decrypt(cipher: AESGCM, sealed: bytes, subject: str) -> bytes:
    return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], subject.encode())
