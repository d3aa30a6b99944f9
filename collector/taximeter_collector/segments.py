"""The log's payloads: append-only files of records that say themselves what they are.

``<directory>/log/<signal>.segments/<number>.seg``. Invariants:

1. A record is never changed. A file is removed when every cursor has passed its last record.
2. Every record carries its number and a checksum over all of it, and is checked whenever it is read
   from disk. What fails is copied to ``quarantine/``, counted, and left out; its neighbours are read.
3. A process begins a file of its own, so what a crash left half-written is behind the last record
   that the index knows, and is cut off.
4. All that the index needs is here too (:func:`scan`): a damaged index is made anew.

On-disk format, version 3. A file begins with ``TAXIMETER-LOG 3\\n`` and the log's id (16 hex digits).
A record is, little-endian::

    magic "\\xabRE" and one of C B P Q | crc u32 | seq u64 | received_ns u64 | items u32 | source length u32 |
    payload length u32 | source (UTF-8) | payload
    crc: CRC-32 of everything behind it, as it is stored
    B, Q: bound to its row, it was stored only if the index has that
    P, Q: the payload is packed (:mod:`~taximeter_collector.packing`); its length is the packed one's

Version 2 knew C and B only; its files are read as they are.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from taximeter_collector.packing import unpack

FILE_MAGIC = b"TAXIMETER-LOG 3\n"
_FILE_MAGICS = (FILE_MAGIC, b"TAXIMETER-LOG 2\n")
_FILE_HEAD = len(FILE_MAGIC) + 16
_MAGICS = b"\xabRE"
_KINDS = {(False, False): b"C", (True, False): b"B", (False, True): b"P", (True, True): b"Q"}  # bound, packed
_KINDS_READ = {_MAGICS + letter: kind for kind, letter in _KINDS.items()}
_HEAD = struct.Struct("<4sIQQIII")
_BEHIND_CRC = 8
HEAD_BYTES = _HEAD.size
SEGMENT_BYTES = 16 << 20
_IOV_MAX = 512


@dataclass(frozen=True, slots=True)
class Record:
    """One stored request. ``packed``: how it is stored; empty where as it is."""

    seq: int
    received_ns: int
    source: str
    items: int
    payload: bytes
    bound: bool = False
    packed: bytes = b""

    @property
    def stored(self) -> bytes:
        """The payload as it lies on disk."""
        return self.packed or self.payload


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: the file's number, the offset, and the length of what is stored of its payload."""

    segment: int
    at: int
    size: int


class Damaged(Exception):
    """A record is not what was written. ``found``: the bytes in its place."""

    def __init__(self, why: str, found: bytes) -> None:
        super().__init__(why)
        self.found = found


class Segments:
    """One log's files. ``append`` is used from one thread, ``read`` from any."""

    def __init__(self, folder: Path, log_id: str) -> None:
        self.folder, self._log_id = folder, log_id
        folder.mkdir(parents=True, exist_ok=True)
        self._last: dict[int, int] = {}  # file -> the last seq in it, in order
        self._next = 1 + max((number(path) for path in files(folder)), default=0)
        self._file = -1  # descriptor of the file being written
        self._size = 0
        self._before: tuple[int, int | None] = (0, None)  # size and last seq before the last append

    def adopt(self, known: dict[int, tuple[int, int]]) -> None:
        """Take over what an earlier process left: file -> (last seq, end of its last record)."""
        for path in files(self.folder):
            if number(path) not in known:
                path.unlink()
            elif path.stat().st_size > known[number(path)][1]:
                os.truncate(path, known[number(path)][1])
        self._last = {file: last for file, (last, _) in sorted(known.items())}

    def append(self, records: Sequence[Record]) -> list[Place]:
        """Write and sync. After an OSError, ``undo``."""
        if self._file < 0 or self._size >= SEGMENT_BYTES:
            self._begin()
        self._before = self._size, self._last.get(self._next - 1)
        pieces, places = [], []
        for record in records:
            head = _head(record)
            pieces += [head, record.stored]
            places.append(Place(self._next - 1, self._size, len(record.stored)))
            self._size += len(head) + len(record.stored)
        _write(self._file, pieces)
        os.fdatasync(self._file)
        self._last[self._next - 1] = records[-1].seq
        return places

    def undo(self) -> None:
        """Cut off what the last ``append`` wrote, whole or in part; the next one begins a new file."""
        size, last = self._before
        if self._file < 0:
            return
        with contextlib.suppress(OSError):  # then the index does not know it, and the next start cuts it off
            os.ftruncate(self._file, size)
        if last is None:
            self._last.pop(self._next - 1, None)
        else:
            self._last[self._next - 1] = last
        self.close()

    def passed(self, seq: int) -> list[int]:
        """The finished files that hold nothing behind ``seq``."""
        current = self._next - 1 if self._file >= 0 else -1
        return [file for file, last in self._last.items() if last <= seq and file != current]

    def remove(self, numbers: Sequence[int]) -> None:
        for file in numbers:
            self._last.pop(file, None)
            self._path(file).unlink(missing_ok=True)

    def read(self, seq: int, place: Place, source: str) -> Record:
        """One record, checked. Raises :class:`Damaged`."""
        size = _HEAD.size + len(source.encode()) + place.size
        try:
            descriptor = os.open(self._path(place.segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Damaged(f"the file {self._path(place.segment).name} is gone", b"") from None
        try:
            found = os.pread(descriptor, size, place.at)
        finally:
            os.close(descriptor)
        record, why = _parse(found, 0)
        if record is None or record.seq != seq:
            raise Damaged(why or f"record {record and record.seq} is in its place", found)
        return record

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        self.close()
        path = self._path(self._next)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._next += 1
        self._size = _FILE_HEAD
        try:
            os.write(self._file, FILE_MAGIC + self._log_id.encode())
            sync_directory(self.folder)
        except OSError:
            self.close()
            raise

    def _path(self, file: int) -> Path:
        return self.folder / f"{file:012d}.seg"


def files(folder: Path) -> list[Path]:
    """The log's files, oldest first."""
    return sorted(folder.glob("*.seg"))


def number(path: Path) -> int:
    return int(path.stem)


def log_id(folder: Path) -> str | None:
    """The id of the log these files belong to; None where no file tells."""
    for path in reversed(files(folder)):
        with path.open("rb") as file:
            head = file.read(_FILE_HEAD)
        if head.startswith(_FILE_MAGICS) and len(head) == _FILE_HEAD:
            return head[len(FILE_MAGIC) :].decode("ascii", "replace")
    return None


def scan(path: Path, begin: int | None = None) -> Iterator[tuple[Record, Place] | Damaged]:
    """Every record of a file, and for every stretch that is none, a :class:`Damaged`."""
    content = path.read_bytes()
    at = begin or _FILE_HEAD
    while at < len(content):
        record, why = _parse(content, at)
        if record is not None:
            yield record, Place(number(path), at, len(record.stored))
            at += _HEAD.size + len(record.source.encode()) + len(record.stored)
            continue
        following = content.find(_MAGICS, at + 1)
        while following >= 0 and _parse(content, following)[0] is None:
            following = content.find(_MAGICS, following + 1)
        end = following if following >= 0 else len(content)
        yield Damaged(f"{path.name}, bytes {at} to {end}: {why}", content[at:end])
        at = end


def write_file(folder: Path, log_id: str, records: Sequence[Record]) -> list[Place]:
    """A finished file of these records, with the next free number: for who takes some out of an older one.

    Until the index knows it, the next start removes it; when it does, the older one.
    """
    file = 1 + max((number(path) for path in files(folder)), default=0)
    places, at = [], _FILE_HEAD
    path = folder / f"{file:012d}.seg"
    path.touch(0o600, exist_ok=False)
    with path.open("wb") as into:
        into.write(FILE_MAGIC + log_id.encode())
        for record in records:
            head = _head(record)
            into.write(head + record.stored)
            places.append(Place(file, at, len(record.stored)))
            at += len(head) + len(record.stored)
        into.flush()
        os.fsync(into.fileno())
    sync_directory(folder)
    return places


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def packed(found: bytes) -> bool:
    """Whether these bytes begin as a packed record does (as far as a damaged one can tell)."""
    return _KINDS_READ.get(found[:4], (False, True))[1]


def _head(record: Record) -> bytes:
    """What stands before the payload, the checksum and the source included."""
    source = record.source.encode()
    head = _HEAD.pack(
        _MAGICS + _KINDS[record.bound, bool(record.packed)],
        0,
        record.seq,
        record.received_ns,
        record.items,
        len(source),
        len(record.stored),
    )
    crc = isal_zlib.crc32(record.stored, isal_zlib.crc32(head[_BEHIND_CRC:] + source))
    return head[:4] + crc.to_bytes(4, "little") + head[_BEHIND_CRC:] + source


def _parse(content: bytes, at: int) -> tuple[Record | None, str]:
    head = content[at : at + _HEAD.size]
    if len(head) < _HEAD.size:
        return None, "it ends too early"
    magic, crc, seq, received_ns, items, source_size, size = _HEAD.unpack(head)
    kind = _KINDS_READ.get(magic)
    if kind is None:
        return None, "no record begins here"
    begin = at + _HEAD.size + source_size
    if begin + size > len(content):
        return None, "it ends too early"
    source = content[at + _HEAD.size : begin]
    stored = content[begin : begin + size]
    if isal_zlib.crc32(stored, isal_zlib.crc32(head[_BEHIND_CRC:] + source)) != crc:
        return None, "the checksum does not match"
    bound, packed = kind
    try:
        payload = unpack(stored) if packed else stored
    except ValueError as error:
        return None, str(error)
    text = source.decode("utf-8", "replace")
    return Record(seq, received_ns, text, items, payload, bound, stored if packed else b""), ""


def _write(descriptor: int, pieces: list[bytes]) -> None:
    for at in range(0, len(pieces), _IOV_MAX):
        some = pieces[at : at + _IOV_MAX]
        left = sum(len(piece) for piece in some) - os.writev(descriptor, some)
        if left:  # a short write: the rest by hand (a full disk raises here)
            rest = memoryview(b"".join(some))[-left:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
