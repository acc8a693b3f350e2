"""The form of a key: random, readable, and not to be had back from what is kept."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.keys.key import DIGITS, key_digest, make_secret

ENTROPY = st.binary(min_size=24, max_size=24)


@given(ENTROPY)
def test_a_key_carries_all_of_its_randomness(entropy: bytes) -> None:
    secret = make_secret(entropy)
    assert secret.startswith("br-")
    assert len(secret) == 36
    number = 0
    for letter in secret[3:]:
        number = number * 62 + DIGITS.index(letter)
    assert number.to_bytes(24) == entropy


def test_a_key_is_never_made_of_less_randomness() -> None:
    with pytest.raises(ValueError, match="24 random bytes"):
        make_secret(b"short")


@given(ENTROPY, ENTROPY)
def test_the_digest_is_hmac_sha_256_and_depends_on_the_pepper(entropy: bytes, pepper: bytes) -> None:
    raw = make_secret(entropy).encode()
    assert key_digest(pepper, raw) == hmac.new(pepper, raw, hashlib.sha256).digest()
    assert key_digest(pepper, raw) != key_digest(pepper + b"x", raw)
