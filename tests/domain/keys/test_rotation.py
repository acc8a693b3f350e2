"""Rotation: a key has a new secret and, for the grace, the one before it; both are the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.kernel.clock import DAY, SECOND
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.store import fold
from domain.keys.directory import Directory
from domain.keys.key import key_digest, make_secret
from domain.keys.service import KeyTerms, KeyWishes, revoke_key, rotate_key, update_key
from tests.given import NOON, PEPPER, given_key, given_org
from tests.memory_store import MemoryStore

MINUTE = 60 * SECOND


def rotated(store: MemoryStore, key: str, number: int, *, grace_minutes: int, at: int) -> str:
    secret = make_secret(number.to_bytes(24))
    until = rotate_key(
        store,
        org="org_a",
        key=key,
        secret=secret,
        pepper=PEPPER,
        grace_minutes=grace_minutes,
        at=at,
        by="test",
    )
    assert until == at + grace_minutes * MINUTE
    return secret


def opens(store: MemoryStore, secret: str, *, at: int) -> str | None:
    """The key that the secret opens at a moment, as the gateway decides."""
    caller = fold(Directory(), store.facts).find(key_digest(PEPPER, secret.encode()))
    return caller.key_id if caller and (caller.expires is None or caller.expires > at) else None


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=6), st.integers(0, 400))
def test_every_secret_lives_exactly_its_grace_and_the_newest_for_good(steps: list[tuple[int, int]], late: int) -> None:
    store = MemoryStore()
    given_org(store)
    key = given_key(store, "org_a")
    secrets, at = [(key.secret, NOON)], NOON
    for number, (pause, grace) in enumerate(steps):
        at += pause * MINUTE
        secrets[-1] = (secrets[-1][0], at + grace * MINUTE)
        secrets.append((rotated(store, key.key, number, grace_minutes=grace, at=at), 0))
    now = at + late * MINUTE
    assert opens(store, secrets[-1][0], at=now) == key.key
    for secret, until in secrets[:-1]:
        assert opens(store, secret, at=now) == (key.key if until > now else None)


def test_limits_go_on_and_no_secret_outlives_the_key() -> None:
    store = MemoryStore()
    given_org(store)
    key = given_key(store, "org_a", terms=KeyTerms(name="k", rpm_limit=3, daily_limit=4, expires_days=1))
    new = rotated(store, key.key, 1, grace_minutes=60, at=NOON + DAY - MINUTE)
    directory = fold(Directory(), store.facts)
    for secret in (key.secret, new):
        caller = directory.find(key_digest(PEPPER, secret.encode()))
        assert caller is not None
        assert (caller.key_id, caller.rpm_limit, caller.daily_limit) == (key.key, 3, 4)
        assert caller.expires == NOON + DAY
    update_key(store, org="org_a", key=key.key, wishes=KeyWishes(disabled=True), at=NOON, by="t")
    assert not any(opens(store, secret, at=NOON) for secret in (key.secret, new))
    update_key(store, org="org_a", key=key.key, wishes=KeyWishes(disabled=False), at=NOON, by="t")
    assert all(opens(store, secret, at=NOON) for secret in (key.secret, new))
    revoke_key(store, org="org_a", key=key.key, reason="", at=NOON, by="t")
    assert not any(opens(store, secret, at=NOON) for secret in (key.secret, new))


@pytest.mark.parametrize("minutes", [-1, 1_441])
def test_a_grace_is_at_most_a_day(minutes: int) -> None:
    store = MemoryStore()
    given_org(store)
    key = given_key(store, "org_a")
    with pytest.raises(Invalid) as refused:
        rotated(store, key.key, 1, grace_minutes=minutes, at=NOON)
    assert refused.value.param == "grace_minutes"


def test_what_is_over_cannot_be_rotated() -> None:
    store = MemoryStore()
    given_org(store)
    expired = given_key(store, "org_a", terms=KeyTerms(name="e", expires_days=1))
    revoked = given_key(store, "org_a")
    revoke_key(store, org="org_a", key=revoked.key, reason="", at=NOON, by="t")
    for key in (expired, revoked):
        with pytest.raises(NotFound):
            rotated(store, key.key, 1, grace_minutes=0, at=NOON + DAY)
