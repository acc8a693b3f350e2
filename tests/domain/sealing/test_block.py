"""Blocks: the tree, its paths, and the chain."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sealing.block import (
    GENESIS,
    Block,
    canonical,
    is_sound,
    leads_to,
    leaf_of,
    pack_leaves,
    path_of,
    root_of,
    unpack_leaves,
)

PARTS = st.tuples(st.integers(0, 99), st.text("ab:", max_size=3), st.integers(0, 99), st.text("ab:", max_size=3))
LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


def tree_of_the_rfc(entries: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, to the letter: split at the largest power of two below the number of leaves."""
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + tree_of_the_rfc(entries[:split]) + tree_of_the_rfc(entries[split:])).digest()


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_the_root_is_that_of_the_rfc(entries: list[bytes]) -> None:
    assert root_of([leaf_of(entry) for entry in entries]) == tree_of_the_rfc(entries)


@given(LEAVES, st.data())
def test_every_leaf_leads_to_the_root_and_no_other_does(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = path_of(leaves, index)
    assert leads_to(root_of(leaves), leaf=leaves[index], path=path)
    assert not leads_to(root_of(leaves), leaf=hashlib.sha256(leaves[index]).digest(), path=path)


@given(PARTS, st.binary(max_size=3), PARTS, st.binary(max_size=3))
def test_no_two_events_share_their_bytes(one: tuple, one_state: bytes, two: tuple, two_state: bytes) -> None:
    def content(parts: tuple, state: bytes) -> bytes:
        position, stream, version, name = parts
        return canonical(position=position, stream=stream, version=version, name=name, state=state)

    assert (content(one, one_state) == content(two, two_state)) == ((one, one_state) == (two, two_state))


def test_blocks_are_chained_by_their_headers() -> None:
    first, second = Block.after(None), None
    first.add(position=1, stream="org:a", version=1, name="x", state=b"{}")
    seal = first.close(at=5, by="test")
    second = Block.after(seal)
    second.add(position=2, stream="org:a", version=2, name="x", state=b"{}")
    next_seal = second.close(at=6, by="test")
    assert (seal.number, seal.previous, next_seal.number, next_seal.previous) == (1, GENESIS, 2, seal.header)
    assert is_sound(seal)
    assert is_sound(next_seal)
    for change in ({"count": 2}, {"root": "00" * 32}, {"previous": "00" * 32}, {"last": 3}, {"number": 3}):
        assert not is_sound(msgspec.structs.replace(next_seal, **change))


def test_a_block_without_events_is_none() -> None:
    with pytest.raises(ValueError, match="no root"):
        Block.after(None).close(at=1, by="test")


@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.binary(min_size=32, max_size=32)), max_size=5))
def test_kept_leaves_come_back(leaves: list[tuple[int, bytes]]) -> None:
    assert unpack_leaves(pack_leaves(leaves)) == leaves
