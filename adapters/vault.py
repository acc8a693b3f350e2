"""Seals what only we may read: AES-256-GCM under a random key per subject, which is itself sealed by a master key.

Destroying a subject's key makes everything sealed under it unreadable, wherever copies of the log may be.
"""

import base64
import hmac
import os
from collections.abc import Sequence
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
    """`subject` is whom the sealed thing belongs to, such as `org_…`; a seal opens for the one it was made for. What is
    `bound_to` something more, such as the host that a key is for, opens for that alone.

    Subjects' keys are sealed by the `master`; those that were by a `former` one open too, until `reseal` has gone over
    them.
    """

    def __init__(
        self, master: bytes, pool: ConnectionPool[psycopg.Connection[Any]], *, former: Sequence[bytes] = ()
    ) -> None:
        self._masters = [AESGCM(key) for key in (master, *former)]
        self._pool = pool

    def seal(self, subject: str, text: str, *, bound_to: str = "") -> str:
        """Text that may be recorded in events. What is sealed for a subject that has been erased, by whoever had not
        heard of it yet, opens for nobody. Raises psycopg.Error if the subject's key cannot be stored."""
        sealed = _encrypt(AESGCM(self._make_key(subject)), text.encode(), _bound(subject, bound_to))
        return VERSION + base64.urlsafe_b64encode(sealed).decode()

    def open(self, subject: str, sealed: str, *, bound_to: str = "") -> str | None:
        """What was sealed, or None once the subject has been erased. Raises ValueError for a seal that is not ours."""
        key = self._key(subject)
        if key is None:
            return None
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(VERSION))
            text = _decrypt(AESGCM(key), data, _bound(subject, bound_to))
        except InvalidTag:
            raise ValueError(f"not sealed for {subject} by this installation") from None
        return text.decode()

    def erase(self, subject: str) -> None:
        """Destroys the subject's key for good: its row stays empty, so that there will never be another."""
        self._pool.open()
        with self._pool.connection() as connection:
            connection.execute(
                "insert into vault_key (subject, sealed) values (%s, '')"
                " on conflict (subject) do update set sealed = excluded.sealed",
                [subject],
            )

    def reseal(self) -> tuple[int, int]:
        """Seals the key of every subject by the newest master key, and answers how many were by another and how many
        there are. What was sealed under them stays as it is. Raises ValueError for a key that no master key opens."""
        self._pool.open()
        resealed = 0
        with self._pool.connection() as connection:
            rows = connection.execute("select subject, sealed from vault_key where sealed <> ''").fetchall()
            for subject, sealed in rows:
                key, is_newest = self._unseal(subject, bytes(sealed))
                if not is_newest:
                    resealed += connection.execute(
                        "update vault_key set sealed = %s where subject = %s and sealed = %s",
                        [_encrypt(self._masters[0], key, subject), subject, sealed],
                    ).rowcount
        return resealed, len(rows)

    def _make_key(self, subject: str) -> bytes:
        if (known := self._key(subject)) is not None:
            return known
        fresh = _encrypt(self._masters[0], os.urandom(KEY_BYTES), subject)
        with self._pool.connection() as connection:
            connection.execute(
                "insert into vault_key (subject, sealed) values (%s, %s) on conflict do nothing", [subject, fresh]
            )
        return self._key(subject) or os.urandom(KEY_BYTES)  # erased: a key that nobody will ever have again

    def _key(self, subject: str) -> bytes | None:
        """None for a subject that has none yet, or no more."""
        self._pool.open()
        with self._pool.connection() as connection:
            row = connection.execute("select sealed from vault_key where subject = %s", [subject]).fetchone()
        if row is None or not row[0]:
            return None
        return self._unseal(subject, bytes(row[0]))[0]

    def _unseal(self, subject: str, sealed: bytes) -> tuple[bytes, bool]:
        """The subject's key, and whether the newest master key had sealed it."""
        for master in self._masters:
            try:
                return _decrypt(master, sealed, subject), master is self._masters[0]
            except InvalidTag:
                continue
        raise ValueError("the master key of the vault is not the one that this database was made with")


def _bound(subject: str, bound_to: str) -> str:
    return f"{subject}\n{bound_to}" if bound_to else subject


def _encrypt(cipher: AESGCM, data: bytes, subject: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, subject.encode())


def _decrypt(cipher: AESGCM, sealed: bytes, subject: str) -> bytes:
    return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], subject.encode())
