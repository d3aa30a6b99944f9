"""OTLP in files: JSON lines, or messages that each stand after their length; plain, gzip or zstd.

That is what the official collector's ``file`` exporter writes (``format: json`` and ``proto``,
``compression: zstd`` compresses every message), what a shell makes of it (``gzip``), and what
``curl`` posts. Lines of other signals (metrics, logs) are passed over; a last message that was cut
off, because it is being written, is left alone and counted.
"""

from __future__ import annotations

import glob
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_collector.errors import Refusal
from taximeter_collector.receive.encoding import from_json

#: No message is longer: a sender's largest request is 20 MiB, and a collector merges no more than that.
MOST_BYTES = 256 << 20
_MOST_CONTAINERS = 50_000_000
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BLANK = b" \t\r\n"


class UnreadableFile(ValueError):
    """The file holds no OTLP; the message says which, where and what to do."""


@dataclass
class Passed:
    """What was passed over, for the reader's notes."""

    other_signals: int = 0
    cut_off: int = 0

    def notes(self) -> list[str]:
        found = []
        if self.other_signals:
            found.append(f"{self.other_signals} message(s) of metrics or logs were passed over")
        if self.cut_off:
            found.append(f"{self.cut_off} last message(s) were cut off: they are still being written")
        return found


def expand(pattern: str) -> list[Path]:
    """The files that a path or pattern names, in order.

    Raises:
        UnreadableFile: there are none.
    """
    path = Path(pattern)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob.glob(pattern))  # noqa: PTH207  (may be absolute)
    if not found:
        raise UnreadableFile(f"{pattern}: no such file; give a file, a directory of files, or a pattern")
    return found


def all_requests(pattern: str, passed: Passed, progress: Callable[[str], None]) -> Iterator[bytes]:
    """The requests of every file that a pattern names; raises as `expand` and `requests_in`."""
    for path in expand(pattern):
        progress(f"reading {path.name}")
        yield from requests_in(path, passed)


def requests_in(path: Path, passed: Passed) -> Iterator[bytes]:
    """Every serialised ExportTraceServiceRequest of a file.

    Raises:
        UnreadableFile: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            stream = _plain(file)
            first = stream.peek(1)[:1]
            if first in (b"{", *(bytes([blank]) for blank in _BLANK)):
                yield from _lines(stream, path, passed)
            elif first:
                yield from _framed(stream, path, passed)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(
            f"{path}: cannot be read ({error}); give OTLP as the file exporter writes it"
        ) from error


def _plain(file: io.BufferedReader) -> io.BufferedReader:
    head = file.peek(4)[:4]
    if head[:2] == _GZIP:
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    if head == _ZSTD:
        return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))
    return file


def _lines(stream: io.BufferedReader, path: Path, passed: Passed) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(MOST_BYTES):
        number += 1
        whole = line.endswith(b"\n")
        if not line.strip():
            continue
        try:
            message = from_json(line, ExportTraceServiceRequest, most=_MOST_CONTAINERS)
        except Refusal as refusal:
            if not whole and not stream.peek(1):
                passed.cut_off += 1
                return
            raise UnreadableFile(f"{path}, line {number}: {refusal}; each line must be one request") from None
        if message:
            yield message
        elif b'"resourceMetrics"' in line or b'"resourceLogs"' in line:
            passed.other_signals += 1
        elif b'"resourceSpans"' not in line:
            raise UnreadableFile(
                f"{path}, line {number}: has no resourceSpans; give OTLP as the collector's file exporter "
                "writes it"
            )


def _framed(stream: io.BufferedReader, path: Path, passed: Passed) -> Iterator[bytes]:
    number = 0
    while head := stream.read(4):
        number += 1
        size = int.from_bytes(head)
        if len(head) == 4 and size > MOST_BYTES:
            raise UnreadableFile(
                f"{path}: neither JSON lines nor messages after their length (message {number} would have "
                f"{size} bytes); give OTLP as the collector's file exporter writes it"
            )
        message = stream.read(size)
        if len(head) < 4 or len(message) < size:
            passed.cut_off += 1
            return
        yield from _message(message, path, number, passed)


def _message(message: bytes, path: Path, number: int, passed: Passed) -> Iterator[bytes]:
    if message[:4] == _ZSTD:
        with pa.CompressedInputStream(pa.BufferReader(message), "zstd") as plain:
            message = plain.read(MOST_BYTES)
    if message[:1] == b"{":  # `format: json` with `compression: zstd`
        yield from _lines(io.BufferedReader(io.BytesIO(message + b"\n")), path, passed)
        return
    try:
        request = ExportTraceServiceRequest.FromString(message)
    except DecodeError as error:
        raise UnreadableFile(f"{path}: message {number} is no OTLP ({error})") from None
    kinds = {span.kind for res in request.resource_spans for scope in res.scope_spans for span in scope.spans}
    if not kinds and message:
        passed.other_signals += 1
    else:
        yield message
