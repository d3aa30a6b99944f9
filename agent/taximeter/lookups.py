"""Which keys a request looked up in the service's caches: compact, hashed, bounded.

The hit-rate curve of a cache by its size is computed by replaying its lookups, for which the
order and the identity of the keys are needed, not the keys. Form, one cache after the other::

    embedding=-0f1e2d3c4b5a6978/8899aabbccddeeff,+0011223344556677 answers=-...

``+`` is a hit, ``-`` a miss; then the hash of the key as it is and, where it is a text that
normalising changes, ``/`` and the hash of the normalised one (would a normalised key have
hit?). Pure.
"""

from __future__ import annotations

import re
from typing import Final

from taximeter import evidence, hashkey
from taximeter.hashing import Hasher

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:-]")


class Lookups:
    """The lookups of one request. Safe to use from several threads."""

    __slots__ = ("_found", "_hasher", "_left")

    def __init__(self, hasher: Hasher | None = None, limit: int | None = None) -> None:
        self._found: dict[str, list[str]] = {}
        self._hasher = hasher
        self._left = evidence.limits().lookups if limit is None else limit

    def add(self, name: str, hit: bool, key: object) -> None:
        """Remember one lookup, unless the request has had its share."""
        if self._left <= 0:
            return
        self._left -= 1
        hasher = self._hasher or hashkey.hasher()
        if isinstance(key, bytes):
            key = key.decode("utf-8", "replace")
        if isinstance(key, str):
            exact, normal = hasher.texts(key)
            each = exact if exact == normal else f"{exact}/{normal}"
        else:
            each = hasher.value(key)
        self._found.setdefault(name, []).append(f"{'+' if hit else '-'}{each}")

    def text(self) -> str:
        """All of them; empty where there were none."""
        return " ".join(f"{_UNSAFE.sub('_', name)}={','.join(each)}" for name, each in self._found.items())
