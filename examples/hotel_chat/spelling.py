"""One form for all spellings of a question: the key of a cache that "WiFi?" and " wifi" should share."""

from __future__ import annotations

import unicodedata

_MARKS = ".,;:!?¿¡。、 "


def normalised(text: str) -> str:
    """Lower case, single spaces, no marks around it: the form that docs/evidence.md describes."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split()).strip(_MARKS)
