"""Keyed hashes: how evidence is recorded without content.

A text, a set of statement parameters or a block of a prompt becomes 64 bits of HMAC-SHA256
under a key that never leaves the service. Equal values give equal hashes under the same key,
and without the key a short text cannot be guessed by trying. That is pseudonymous, not
anonymous: who holds the key can test a guess. Hashes under different keys say nothing of each
other, so every span that carries hashes also carries the id of their key.

The exact construction is a contract for other languages: ``docs/evidence.md``, with test
vectors in ``docs/evidence-vectors.json``. Pure: imports nothing of OpenTelemetry.
"""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any, Final
from uuid import UUID

#: Characters of one text that are hashed; of a longer one, these and its length.
MAX_CHARS: Final = 32_768
#: Values of one parameter set (with the containers they lie in), and levels of nesting, looked at.
MAX_VALUES: Final = 1_000
MAX_DEPTH: Final = 8

_TRIM: Final = ".,;:!?¿¡。、"
_DOMAIN: Final = "taximeter.v1."
#: Bytes of a message up to which Python's own SHA-256 is taken: OpenSSL is quicker per byte, but each
#: of its hashes goes through some twenty functions, which is what costs where nothing is in the cache.
_SHORT: Final = 512
_PLAIN: Final = 16  # values of a set that is written without a look at how deep it goes


def _own_sha256() -> Any:
    for name in ("_sha2", "_sha256"):  # since 3.12, before
        try:
            return import_module(name).sha256
        except ImportError:
            pass
    return hashlib.sha256


class Hasher:
    """Hashes under one key. ``key`` is any secret; its id tells keys apart and reveals nothing."""

    __slots__ = ("_long", "_planes_seed", "_short", "_value", "id")

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("the key of a hash must not be empty")
        block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        # Both halves of HMAC are started once and copied for each hash: 0.7 us instead of 1.7.
        inner, outer = (bytes(byte ^ mask for byte in block) for mask in (0x36, 0x5C))
        own = _own_sha256()
        self._short = own(inner), own(outer)
        self._long = hashlib.sha256(inner), hashlib.sha256(outer)
        self._value = own(inner + _VALUE), self._short[1]  # that each value begins with
        self.id = self.digest(f"{_DOMAIN}key-id".encode()).hex()[:8]
        self._planes_seed = self.digest(f"{_DOMAIN}planes".encode())

    def digest(self, message: bytes) -> bytes:
        """The whole HMAC-SHA256 of ``message``: 32 bytes."""
        inner, outer = self._short if len(message) <= _SHORT else self._long
        inner = inner.copy()
        inner.update(message)
        outer = outer.copy()
        outer.update(inner.digest())
        digest: bytes = outer.digest()
        return digest

    def text(self, text: str) -> str:
        """The hash of a text as it is: 16 hexadecimal digits."""
        return self.digest(_TEXT + _encoded(text))[:8].hex()

    def texts(self, text: str) -> tuple[str, str]:
        """The hashes of a text: as it is, and normalised."""
        exact = self.text(text)
        normal = normalise(text)
        return exact, exact if normal == text else self.text(normal)

    def value(self, value: object, limit: int = MAX_VALUES) -> str:
        """The hash of one value, or of a set of values (list, tuple, dict; at most ``limit`` of them)."""
        kind = type(value)
        if kind is tuple or kind is list:
            # The plain case, as _append writes it: a few numbers and short texts.
            given: Any = value
            if len(given) <= _PLAIN < limit:
                text = f"l{len(given)}:"
                for each in given:
                    kind = type(each)
                    if kind is int and each.bit_length() < 64:
                        digits = str(each)
                        text += f"i{len(digits)}:{digits}"
                    elif kind is str and len(each) < 256 and each.isascii():
                        text += f"s{len(each)}:{each}"
                    else:
                        break
                else:  # as in digest()
                    inner, outer = self._value
                    inner = inner.copy()
                    inner.update(text.encode())
                    outer = outer.copy()
                    outer.update(inner.digest())
                    written: str = outer.hexdigest()[:16]
                    return written
        return self.digest(_VALUE + encode(value, limit))[:8].hex()

    def chain(self, previous: bytes, block: bytes) -> bytes:
        """The next link of a chain over blocks: 8 bytes. A chain starts with ``b""``."""
        return self.digest(_PROMPT + previous + block)[:8]

    def planes(self, size: int) -> bytes:
        """``size`` bytes from which the planes of the vector signature are drawn."""
        return hashlib.shake_256(self._planes_seed).digest(size)


_TEXT: Final = f"{_DOMAIN}text\0".encode()
_VALUE: Final = f"{_DOMAIN}value\0".encode()
_PROMPT: Final = f"{_DOMAIN}prompt\0".encode()


def normalise(text: str) -> str:
    """The form under which two spellings of one question are the same text.

    NFKC, lower case, each run of white space one space, and none of ``.,;:!?`` (and their
    Spanish and Chinese kin) or space at either end. Only the first ``MAX_CHARS`` characters.
    """
    text = text[:MAX_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split()).strip(_TRIM + " ")


def _encoded(text: str) -> bytes:
    if len(text) <= MAX_CHARS:
        return _utf8(text)
    return _utf8(text[:MAX_CHARS]) + b"\0" + str(len(text)).encode()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which other languages write as U+FFFD
        return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text).encode()


def encode(value: object, limit: int = MAX_VALUES) -> bytes:
    """One value as bytes that no other value has: a type letter, a length and the content.

    Containers give the number of their items, then each item; the items of a mapping are sorted
    by name. Once ``limit`` values have been written the rest is left out; so is what lies
    deeper than ``MAX_DEPTH``.
    """
    parts: list[bytes] = []
    _append(parts, value, 0, limit)
    return b"".join(parts)


def _append(parts: list[bytes], value: Any, depth: int, limit: int) -> None:
    kind = type(value)
    if kind is str:
        _tagged(parts, b"s", _encoded(value))
    elif kind is int:
        _tagged(parts, b"i", _digits(value))
    elif value is None:
        parts.append(b"n0:")
    elif kind is bool:
        parts.append(b"b1:1" if value else b"b1:0")
    elif kind is float:
        _tagged(parts, b"f", struct.pack(">d", value))
    elif isinstance(value, list | tuple):
        parts.append(b"l%d:" % len(value))
        if depth < MAX_DEPTH:
            for item in value:
                if len(parts) >= limit:
                    break
                _append(parts, item, depth + 1, limit)
    elif isinstance(value, Mapping):
        _mapping(parts, value, depth, limit)
    else:
        _rare(parts, value, depth, limit)


def _mapping(parts: list[bytes], value: Mapping[Any, Any], depth: int, limit: int) -> None:
    parts.append(b"d%d:" % len(value))
    by_name = {str(name): name for name in value} if depth < MAX_DEPTH else {}
    for name in sorted(by_name):
        if len(parts) >= limit:
            break
        _append(parts, name, depth + 1, limit)
        _append(parts, value[by_name[name]], depth + 1, limit)


def _rare(parts: list[bytes], value: Any, depth: int, limit: int) -> None:
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value[:MAX_CHARS])
        _tagged(parts, b"y", data if len(value) <= MAX_CHARS else data + b"\0%d" % len(value))
    elif isinstance(value, date | datetime | time):
        _tagged(parts, b"t", value.isoformat().encode())
    elif isinstance(value, UUID):
        _tagged(parts, b"u", str(value).encode())
    elif isinstance(value, Decimal):
        _tagged(parts, b"m", str(value).encode())
    elif isinstance(value, timedelta):
        _tagged(parts, b"p", repr(value.total_seconds()).encode())
    elif isinstance(value, Enum):
        _append(parts, value.value, depth + 1, limit)
    elif isinstance(value, str):
        _tagged(parts, b"s", _encoded(str(value)))
    elif isinstance(value, int):
        _tagged(parts, b"i", _digits(int(value)))
    elif hasattr(value, "obj") and depth < MAX_DEPTH:  # psycopg's Json and Jsonb
        _append(parts, value.obj, depth + 1, limit)
    elif hasattr(value, "tolist") and depth < MAX_DEPTH:  # numpy
        plain = value[:limit].tolist() if getattr(value, "ndim", 0) else value.tolist()
        _append(parts, plain, depth + 1, limit)
    else:
        # A type unknown to us: equal only to itself by its name. Its text might hold an address in
        # memory, and might be costly.
        _tagged(parts, b"o", f"{type(value).__module__}.{type(value).__qualname__}".encode())


def _digits(value: int) -> bytes:
    # Python refuses to write integers of more than 4,300 digits in decimal.
    return b"%d" % value if value.bit_length() < 1024 else b"x" + hex(value)[:MAX_CHARS].encode()


def _tagged(parts: list[bytes], letter: bytes, data: bytes) -> None:
    parts.append(b"%b%d:%b" % (letter, len(data), data))
