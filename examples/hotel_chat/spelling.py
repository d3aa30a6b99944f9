"""One form for all spellings of a question: the key of a cache that "WiFi?" and " wifi" should share."""

from __future__ import annotations

import re
import unicodedata

_MARKS = ".,;:!?¿¡。、 "


def normalised(text: str) -> str:
    """Lower case, single spaces, no marks around it: the form that docs/evidence.md describes."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split()).strip(_MARKS)


_COURTESY = re.compile(
    r"\b(?:hello|hi|hey|good (?:morning|day|evening)|thank you|thanks|please|quick question|"
    r"(?:could|can) you tell me|(?:i|we) would like to know|just wondering)\b[ ,.!:]*"
)


def bare(text: str) -> str:
    """The normalised question without the courtesies around it; the whole where nothing else is left."""
    whole = normalised(text)
    return _COURTESY.sub("", whole).strip(_MARKS) or whole
