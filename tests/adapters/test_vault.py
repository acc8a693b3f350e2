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


def test_what_is_bound_to_a_host_opens_for_that_host_and_org_alone(vault: Vault) -> None:
    sealed = vault.seal("org_a", "sk-secret", bound_to="api.openai.com")
    vault.seal("org_b", "x")
    assert vault.open("org_a", sealed, bound_to="api.openai.com") == "sk-secret"
    for subject, host in (("org_a", "evil.example"), ("org_a", ""), ("org_b", "api.openai.com")):
        with pytest.raises(ValueError, match=f"not sealed for {subject}"):
            vault.open(subject, sealed, bound_to=host)


def test_after_a_new_sealing_key_what_was_sealed_before_opens_still(vault: Vault, database_url: str) -> None:
    before = vault.seal("org_a", "sk-secret", bound_to="api.openai.com")
    vault.seal("org_gone", "x")
    vault.erase("org_gone")
    old, new = master_key(b"secret"), master_key(b"a newer secret")
    pool = make_pool(database_url, size=2)
    try:
        both = Vault(new, pool, former=[old])
        assert both.open("org_a", before, bound_to="api.openai.com") == "sk-secret"
        between = both.seal("org_b", "in between")
        assert both.reseal() == (1, 2)
        assert both.reseal() == (0, 2), "a repeat has nothing to do"
        newest = Vault(new, pool)
        assert newest.open("org_a", before, bound_to="api.openai.com") == "sk-secret"
        assert newest.open("org_b", between) == "in between"
        assert newest.open("org_gone", before) is None
        with pytest.raises(ValueError, match="not sealed for org_b"):
            newest.open("org_b", before, bound_to="api.openai.com")
        with pytest.raises(ValueError, match="master key"):
            vault.open("org_a", before, bound_to="api.openai.com")
        with pytest.raises(ValueError, match="master key"):
            Vault(master_key(b"a third"), pool).reseal()
    finally:
        pool.close()
