"""HTTP bodies: decompression with a limit that holds while decompressing, and OTLP's JSON.

A stranger's 20 KB may decompress to gigabytes, so no more than the limit is ever produced.
OTLP's JSON is protobuf's JSON except that ids are hex; it becomes protobuf at the door, and
everything behind the door knows one form.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from taximeter_collector.errors import Refusal

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
ENCODINGS = ("gzip", "deflate", "zlib", "zstd", "identity")
_CHUNK = 256 << 10
_MAX_MEMBERS = 1024  # every further gzip member copies what is left: a million empty ones would take hours
_MAX_CONTAINERS = 600_000  # of a JSON body: each costs Python a hundred bytes, and its sender one


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The plain body; raises a :class:`Refusal` (too_large, encoding) that is not retryable."""
    try:
        if encoding in ("", "identity"):
            plain = body
        elif encoding == "gzip":
            plain = _inflate(body, 31, limit)
        elif encoding in ("deflate", "zlib"):
            plain = _inflate(body, 15, limit)
        elif encoding == "zstd":
            plain = _unzstd(body, limit)
        else:
            accepted = ", ".join(ENCODINGS)
            message = f"content-encoding {encoding!r} is not supported; accepted: {accepted}"
            raise Refusal("encoding", message, retryable=False)
    except (zlib.error, OSError, EOFError) as error:
        message = f"the body ({len(body)} bytes) is not valid {encoding} ({error})"
        raise Refusal("malformed", message, retryable=False) from error
    if len(plain) > limit:
        raise too_large(limit, "decompressed body")
    return plain


def too_large(limit: int, what: str) -> Refusal:
    return Refusal(
        "too_large",
        f"the {what} is larger than {limit} bytes: send smaller batches, or raise max_request_body_size",
        retryable=False,
    )


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    pieces = []
    size = members = 0
    while body:  # gzip may have several members
        members += 1
        if members > _MAX_MEMBERS:
            raise EOFError(f"it has more than {_MAX_MEMBERS} members")
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            piece = stream.decompress(body, _CHUNK)
            body = stream.unconsumed_tail
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                return b"".join(pieces)
            if not piece and not body and not stream.eof:
                raise EOFError("it ends too early")
        body = stream.unused_data
    return b"".join(pieces)


def _unzstd(body: bytes, limit: int) -> bytes:
    import pyarrow as pa  # noqa: PLC0415  (slow to import, and few send zstd)

    pieces, size, piece = [], 0, bytearray(_CHUNK)
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        # Not read(): where a body is damaged, pyarrow never frees what it had read of it.
        while size <= limit and (length := stream.readinto(piece)):
            pieces.append(bytes(piece[:length]))
            size += length
    return b"".join(pieces)


def from_json(body: bytes, kind: type[Message], most: int = _MAX_CONTAINERS) -> bytes:
    """OTLP/JSON as serialised protobuf; unknown fields are ignored, as OTLP demands.

    ``most`` objects and lists are read: a stranger's body is bounded by default.
    """
    try:
        if body.count(b"{") + body.count(b"[") > most:
            raise ValueError(f"it has more than {most} objects and lists: send smaller batches")
        document = _ids_to_base64(json.loads(body))
        if not isinstance(document, dict):
            raise ValueError(f"it is a {type(document).__name__}, not an object")
        return json_format.ParseDict(document, kind(), ignore_unknown_fields=True).SerializeToString()
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.ParseError) as error:
        message = f"the body ({len(body)} bytes) is not a valid {kind.DESCRIPTOR.name} in JSON ({error})"
        raise Refusal("malformed", message, retryable=False) from error


def _ids_to_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_ids_to_base64(v) for v in value]
    if isinstance(value, dict):
        return {
            k: base64.b64encode(bytes.fromhex(v)).decode()
            if k in ("traceId", "spanId", "parentSpanId") and isinstance(v, str)
            else _ids_to_base64(v)
            for k, v in value.items()
        }
    return value
