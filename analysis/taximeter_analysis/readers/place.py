"""Where data lives, as one text: ``file:...``, ``tempo+http://...``, ``prometheus+http://...``, or a store.

The syntax of ``taximeter report --from`` and of the sides of ``taximeter compare``. A password in an
address is used and never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

KINDS = ("file", "tempo", "prometheus")
EXAMPLES = "file:traces.json, tempo+http://localhost:3200 or prometheus+http://localhost:9090"


@dataclass(frozen=True)
class Place:
    """``kind`` is one of KINDS; ``address`` a path or pattern, or an http(s) address without its user."""

    kind: str
    address: str
    user: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"file:{self.address}" if self.kind == "file" else f"{self.kind}+{self.address}"


def is_place(text: str) -> bool:
    """Whether a text means to be one (rather than a directory)."""
    return text.startswith("file:") or (text.partition("+")[0] in KINDS[1:] and "+http" in text)


def parse(text: str) -> Place:
    """The place that a text names.

    Raises:
        ValueError: anything else, with the value and examples.
    """
    if text.startswith("file:"):
        path = text.removeprefix("file:")
        if not path:
            raise ValueError(f"{text!r} names no file; write file:traces.json or file:'telemetry/*.json'")
        return Place("file", path)
    kind, plus, address = text.partition("+")
    parts = urlsplit(address)
    if kind not in KINDS[1:] or not plus or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text.partition('@')[0]!r} is no source; write {EXAMPLES}")
    user = (parts.username or "", parts.password or "") if "@" in parts.netloc else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return Place(kind, urlunsplit(bare).rstrip("/"), user)
