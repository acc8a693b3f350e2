"""What a seal is made of: SHA-256 over the exact bytes of each event, a Merkle tree over a block of them, and a chain
of headers. Whoever has an event, its path and a header can check that it is in the log, without us.

The tree is that of RFC 6962 section 2.1: leaves and nodes are hashed under different prefixes, and a node without a
partner moves up as it is.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from domain.sealing.events import LogSealed

EVENTS_MAX = 10_000
GENESIS = "00" * 32
"""What the first block names as the header before it."""

_sha256 = hashlib.sha256
_PLACE = struct.Struct(">qqIII")
_BOUNDS = struct.Struct(">qqqq")
_LEAF = struct.Struct(">q32s")


def canonical(*, position: int, stream: str, version: int, name: str, state: bytes) -> bytes:
    """The bytes that stand for an event: position and version as 64 bits, the lengths of the rest as 32 bits each, big
    endian, then stream, name and stored state. No two events share them."""
    stream_bytes, name_bytes = stream.encode(), name.encode()
    place = _PLACE.pack(position, version, len(stream_bytes), len(name_bytes), len(state))
    return b"".join((place, stream_bytes, name_bytes, state))


def leaf_of(canonical_bytes: bytes) -> bytes:
    return _sha256(b"\0" + canonical_bytes).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root; raises ValueError without any leaf."""
    if not leaves:
        raise ValueError("a block without events has no root")
    return tree_of(leaves)[-1][0]


def tree_of(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """All levels of the tree, from the leaves to the root: for many paths in one block."""
    levels: list[Sequence[bytes]] = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_next_level(levels[-1]))
    return levels


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [_sha256(b"\1" + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above


def path_of(leaves: Sequence[bytes], index: int) -> list[tuple[str, bytes]]:
    """The proof that a leaf is under the root: what to join it with on the way up, each with its side, left or
    right."""
    return path_in(tree_of(leaves), index)


def path_in(tree: Sequence[Sequence[bytes]], index: int) -> list[tuple[str, bytes]]:
    """The same, in a tree that was made before."""
    path: list[tuple[str, bytes]] = []
    for level in tree[:-1]:
        partner = index ^ 1
        if partner < len(level):
            path.append(("left" if partner < index else "right", level[partner]))
        index //= 2
    return path


def leads_to(root: bytes, *, leaf: bytes, path: Sequence[tuple[str, bytes]]) -> bool:
    """Whether this leaf with this path is under that root."""
    node = leaf
    for side, partner in path:
        node = _sha256(b"\1" + (partner + node if side == "left" else node + partner)).digest()
    return node == root


def header_of(*, number: int, first: int, last: int, count: int, root: str, previous: str) -> str:
    """SHA-256 in hex over the four numbers as 64 bits each, big endian, then the root and the previous header."""
    bounds = _BOUNDS.pack(number, first, last, count)
    return _sha256(b"\2" + bounds + bytes.fromhex(root) + bytes.fromhex(previous)).hexdigest()


def is_sound(seal: LogSealed) -> bool:
    """Whether the header belongs to the rest of what the seal says."""
    return seal.header == header_of(
        number=seal.number,
        first=seal.first,
        last=seal.last,
        count=seal.count,
        root=seal.root,
        previous=seal.previous,
    )


@dataclass
class Block:
    """A block that is being closed: events in, in the order of the log; the seal out."""

    previous: LogSealed | None
    leaves: list[tuple[int, bytes]]

    @classmethod
    def after(cls, previous: LogSealed | None) -> "Block":
        return cls(previous, [])

    def add(self, *, position: int, stream: str, version: int, name: str, state: bytes) -> None:
        content = canonical(position=position, stream=stream, version=version, name=name, state=state)
        self.leaves.append((position, leaf_of(content)))

    def close(self, *, at: int, by: str) -> LogSealed:
        """The fact that the block is closed; `at` in microseconds. Raises ValueError for an empty block."""
        number = self.previous.number + 1 if self.previous else 1
        previous = self.previous.header if self.previous else GENESIS
        root = root_of([leaf for _, leaf in self.leaves]).hex()
        first, last, count = self.leaves[0][0], self.leaves[-1][0], len(self.leaves)
        header = header_of(number=number, first=first, last=last, count=count, root=root, previous=previous)
        return LogSealed(
            at=at,
            by=by,
            number=number,
            first=first,
            last=last,
            count=count,
            root=root,
            previous=previous,
            header=header,
        )


def pack_leaves(leaves: Sequence[tuple[int, bytes]]) -> bytes:
    """Positions and leaf hashes as they are kept beside a block, 40 bytes each: they say which event was touched."""
    return b"".join(_LEAF.pack(position, leaf) for position, leaf in leaves)


def unpack_leaves(packed: bytes) -> list[tuple[int, bytes]]:
    """Raises struct.error for bytes that are no whole number of leaves."""
    return list(_LEAF.iter_unpack(packed))
