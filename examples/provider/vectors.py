"""Embeddings from hashed words: deterministic, normalised, and paraphrases lie near each other.

Each word is reduced to a concept (stop words weigh little, endings are stripped, a small table
joins the synonyms of the hotel trade) and each concept adds a fixed pattern of signs to a few of the
1,536 dimensions. Plain Python, because NumPy is no dependency of the example; a concept's
pattern is computed once and a text costs some tens of microseconds.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from functools import lru_cache

DIMENSIONS = 1536
_SPREAD = 24  # dimensions touched by one concept
_STOP_WEIGHT = 0.12

_WORD = re.compile(r"[^\W_]+")
_STOP_TEXT = (
    "a an and any are as at be can could do does for from have how i if in is it its may me my of on or our "
    "please tell that the there this to us we what when where which will with would you your hello hi thanks "
    "get got want wanted need like know wonder wondering hey kindly possible"
)
_STOP = frozenset(_STOP_TEXT.split())
_SYNONYMS = {
    synonym: concept
    for concept, synonyms in {
        "wifi": "internet wireless wlan wi fi",
        "breakfast": "brunch buffet morning meal",
        "checkin": "arrive arrival checkin",
        "checkout": "depart departure leave leaving checkout",
        "pool": "swim swimming swimmer",
        "parking": "park car garage vehicle",
        "pet": "dog cat animal puppy",
        "price": "cost rate fee charge expensive pay paid",
        "room": "suite bedroom accommodation",
        "cancel": "cancellation refund refundable",
        "airport": "shuttle transfer pickup flight",
        "time": "hour hours clock open close",
        "child": "children kid kids baby infant crib cot",
        "gym": "fitness workout exercise",
        "late": "later latest extend delayed",
        "luggage": "bag bags baggage suitcase",
        "towel": "linen towels sheet sheets",
        "smoke": "smoking cigarette smoker",
        "restaurant": "dinner lunch dine dining eat food",
        "spa": "massage sauna wellness",
    }.items()
    for synonym in [concept, *synonyms.split()]
}
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s")


@lru_cache(maxsize=20_000)
def _concept(word: str) -> tuple[str, float]:
    if word in _STOP:
        return word, _STOP_WEIGHT
    if word in _SYNONYMS:
        return _SYNONYMS[word], 1.0
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return _SYNONYMS.get(stem, stem), 1.0
    return word, 1.0


@lru_cache(maxsize=20_000)
def _pattern(concept: str) -> tuple[tuple[int, float], ...]:
    bits = hashlib.blake2b(concept.encode(), digest_size=_SPREAD * 2).digest()
    pairs = (int.from_bytes(bits[i : i + 2], "big") for i in range(0, len(bits), 2))
    return tuple((pair % DIMENSIONS, 1.0 if pair // DIMENSIONS % 2 else -1.0) for pair in pairs)


@lru_cache(maxsize=2048)
def embed(text: str, dimensions: int = DIMENSIONS) -> array[float]:
    """Unit vector of ``text``: ``dimensions`` (1 to 1536) 32-bit floats. Case does not matter."""
    vector = [0.0] * DIMENSIONS
    words = _WORD.findall(text.lower()) or [text]
    for concept, weight in map(_concept, words):
        for index, sign in _pattern(concept):
            vector[index] += sign * weight
    del vector[dimensions:]
    norm = math.sqrt(sum(x * x for x in vector if x))
    if norm == 0.0:  # words cancelled out, or were cut off by a small ``dimensions``
        vector[len(text) % dimensions] = norm = 1.0
    return array("f", [x / norm for x in vector])
