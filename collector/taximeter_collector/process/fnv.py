"""FNV-1a in 64 bits, by which probabilistic sampling decides: of one text, and of many ids at once.

Byte by byte, the hash of an id costs Python more than all else that a decision costs. Many ids are hashed as
one long number that has a lane of 128 bits for each: what is multiplied there (64 bits by 41) stays in it.
"""

from __future__ import annotations

import struct

_PRIME = 0x100000001B3
_BITS = (1 << 64) - 1
_LANE = 16  # bytes; a trace id fills one


def fnv1a(state: int, data: bytes) -> int:
    """The hash of ``data``, going on from ``state``."""
    for byte in data:
        state = ((state ^ byte) * _PRIME) & _BITS
    return state


def hashes(state: int, ids: list[bytes]) -> list[int]:
    """The hash of each id, going on from ``state``."""
    joined = b"".join(ids)
    if len(joined) != _LANE * len(ids) or any(len(each) != _LANE for each in ids):
        return [fnv1a(state, each) for each in ids]
    ones = int.from_bytes(b"\x01".ljust(_LANE, b"\0") * len(ids), "little")
    first, low = ones * 0xFF, ones * _BITS
    left, found = int.from_bytes(joined, "little"), ones * state
    for _ in range(_LANE):
        found = ((found ^ (left & first)) * _PRIME) & low
        left >>= 8
    return list(struct.unpack("<" + "Q8x" * len(ids), found.to_bytes(len(joined), "little")))
