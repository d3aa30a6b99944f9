"""Writes docs/evidence-vectors.json: the test vectors of the hashing contract, for other languages.

Run it after a change of the contract only (which needs a new version in its domain names):
a test holds the committed file against the code, and the TypeScript snippet against the file.

    python tools/evidence_vectors.py
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from taximeter import hashing, lookups, prompt

TARGET = Path(__file__).parents[1] / "docs/evidence-vectors.json"
KEY = "correct horse battery staple"
TEXTS = (
    "",
    "What time is breakfast?",
    "  what   TIME is\tbreakfast ",
    "¿A qué hora es el desayuno?",
    "Caf\u00e9",
    "Cafe\u0301",
    "\uff37\uff49\uff46\uff49\u3000\uff1f",
    "STRASSE stra\u00dfe",
    "\u0130stanbul",
    "\u039f\u0394\u039f\u03a3",
    "\u4f60\u597d\u3002",
    "\U0001f3e8 hotel\u2026",
    "line\u2028separator\x1cfile",
    "lone \ud800 surrogate",
    "x" * 32_768,
    "x" * 32_769,
    "\U0001f3e8" * 32_770,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    42,
    -1,
    9_007_199_254_740_991,
    1.5,
    "ritz",
    [],
    ["ritz", 42, None],
    [[1, 2], [3, 4]],
    {"hotel": "ritz", "guests": 2},
    {"b": 1, "a": {"z": None, "y": [True]}},
)
PROMPTS: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "user", "content": "hello"}]},
    {
        "messages": [
            {"role": "system", "content": "You are the concierge. " * 60},
            {"role": "user", "content": "¿Hay piscina?"},
        ]
    },
    {
        "messages": [
            {"role": "system", "content": "You are the concierge. " * 60},
            {"role": "user", "content": "Is there a pool?"},
        ]
    },
    {"messages": [{"role": "user", "content": "x" * 20_000}]},
)


LOOKUPS = (
    ("embedding", False, "What time is breakfast?"),
    ("embedding", True, "what time is breakfast"),
    ("my answers", True, "ritz"),
)


def vectors() -> dict[str, Any]:
    """The vectors, as the file holds them."""
    hasher = hashing.Hasher(KEY.encode())
    looked = lookups.Lookups(hasher)
    for name, hit, key in LOOKUPS:
        looked.add(name, hit, key)

    def of_text(text: str) -> dict[str, str]:
        exact, normal = hasher.texts(text)
        return {
            "text": text,
            "normalised": hashing.normalise(text),
            "exact": exact,
            "normalised_hash": normal,
        }

    return {
        "version": 1,
        "key": KEY,
        "key_id": hasher.id,
        # A text repeated many times is given as one and a number, to keep the file small.
        "texts": [_short(of_text(text)) for text in TEXTS],
        "values": [
            {"value": value, "encoded": hashing.encode(value).hex(), "hash": hasher.value(value)}
            for value in VALUES
        ],
        "dates": [
            {"date": day, "hash": hasher.value(date.fromisoformat(day))}
            for day in ("2026-11-26", "1999-01-01")
        ],
        "lookups": {
            "given": [{"name": name, "hit": hit, "key": key} for name, hit, key in LOOKUPS],
            "attribute": looked.text(),
        },
        "prompts": [
            {**arguments, "blocks": prompt.chain(hasher, prompt.openai(arguments))} for arguments in PROMPTS
        ],
    }


def _short(entry: dict[str, Any]) -> dict[str, Any]:
    for name in ("text", "normalised"):
        text = entry[name]
        if len(text) > 1000:
            entry[name] = {"repeat": text[0], "times": len(text)}
    return entry


if __name__ == "__main__":
    TARGET.write_text(json.dumps(vectors(), indent=1) + "\n")
