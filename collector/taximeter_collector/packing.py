"""A payload packed so that it can be stored, and passed on, without being packed again.

Each payload becomes raw DEFLATE blocks that refer to nothing before them and end on a byte's border (a
"sync flush", RFC 1951). So any number of them, one behind the other, and one final empty block are again
a single DEFLATE stream: :func:`gzip_member` makes one ordinary gzip member of them, for every reader, at
the cost of a checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from isal import isal_zlib
from isal.igzip_lib import IsalError

_RAW = -15
_END = b"\x03\x00"  # a final block with nothing in it
_GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LEAST = 512  # below, what packing saves is not worth its time


def pack(payload: bytes) -> bytes:
    """The payload's blocks."""
    # ISA-L's level 1: a sixth of zlib's time at its level 1, and as small on OTLP.
    stream = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW)
    packed: bytes = stream.compress(payload) + stream.flush(isal_zlib.Z_SYNC_FLUSH)
    return packed


def worth_packing(payload: bytes) -> bytes:
    """The same; empty where the payload is small, or does not get smaller."""
    packed = pack(payload) if len(payload) >= _LEAST else b""
    return packed if len(packed) < len(payload) else b""


def unpack(packed: bytes) -> bytes:
    """The payload. Raises :class:`ValueError` where these are no such blocks."""
    try:
        payload: bytes = isal_zlib.decompress(packed + _END, _RAW)
    except (IsalError, zlib.error, EOFError) as error:  # type: ignore[misc]  # isal has no types for it
        raise ValueError(f"it cannot be unpacked ({error})") from error
    return payload


def gzip_member(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One gzip member of all payloads: of each, itself and its blocks (packed here where there are none)."""
    pieces, crc, size = [_GZIP], 0, 0
    for payload, packed in parts:
        pieces.append(packed or pack(payload))
        crc = isal_zlib.crc32(payload, crc)
        size += len(payload)
    pieces += [_END, crc.to_bytes(4, "little"), (size & 0xFFFFFFFF).to_bytes(4, "little")]
    return b"".join(pieces)
