"""What is sealed can be read by us alone, and by nobody once its key is destroyed."""

from collections.abc import Iterator

import pytest

from adapters.postgres import connect, make_pool
from adapters.vault import Vault, master_key


@pytest.fixture
def vault(database_url: str) -> Iterator[Vault]:
    pool = make_pool(database_url, size=2)
    yield Vault(master_key(b"secret"), pool)
    pool.close()


def test_a_seal_opens_for_its_subject_alone(vault: Vault) -> None:
    sealed = vault.seal("org_a", "asha@example.in")
    assert "asha" not in sealed
    assert sealed != vault.seal("org_a", "asha@example.in")
    assert vault.open("org_a", sealed) == "asha@example.in"
    vault.seal("org_b", "x")
    with pytest.raises(ValueError, match="not sealed for org_b"):
        vault.open("org_b", sealed)


def test_what_belongs_to_an_erased_subject_cannot_be_read_by_anyone(vault: Vault, database_url: str) -> None:
    sealed = vault.seal("org_a", "asha@example.in")
    vault.erase("org_a")
    assert vault.open("org_a", sealed) is None
    with connect(database_url) as connection:
        assert connection.execute("select subject, sealed from vault_key").fetchall() == [("org_a", b"")]


def test_what_is_sealed_too_late_for_an_erased_subject_opens_for_nobody(vault: Vault) -> None:
    before = vault.seal("org_a", "asha@example.in")
    vault.erase("org_a")
    vault.erase("org_never_seen")
    late = [vault.seal(subject, "asha@example.in") for subject in ("org_a", "org_never_seen")]
    assert [vault.open("org_a", before), vault.open("org_a", late[0]), vault.open("org_never_seen", late[1])] == [
        None
    ] * 3


def test_another_installations_secret_opens_nothing(vault: Vault, database_url: str) -> None:
    sealed = vault.seal("org_a", "asha@example.in")
    pool = make_pool(database_url, size=1)
    try:
        with pytest.raises(ValueError, match="master key"):
            Vault(master_key(b"another"), pool).open("org_a", sealed)
    finally:
        pool.close()
