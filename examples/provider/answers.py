"""What the stand-in says: deterministic from the conversation, 40 to 150 tokens long.

The same model asked the same conversation answers the same words, so that runs repeat and
duplicate calls can be told from different ones.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from . import tokens

_SENTENCES = (
    "Thank you for your message, we are glad to help.",
    "Check-in starts at three in the afternoon and check-out is at eleven in the morning.",
    "Breakfast is served every day from seven until half past ten on the terrace.",
    "Our front desk is open around the clock and can arrange this for you.",
    "The pool and the spa are free for all our guests, towels included.",
    "Wireless internet is free in every room and in the lobby.",
    "You are welcome to leave your luggage with us before arrival and after departure.",
    "Parking is available next to the house; please tell us your number plate in advance.",
    "The airport shuttle leaves every hour and takes about thirty minutes.",
    "Small pets are welcome for a modest fee; please let us know before you arrive.",
    "You can cancel free of charge until two days before arrival.",
    "A late check-out is possible when the room is not taken the same day.",
    "Children under six stay free in their parents' room, and we provide a cot on request.",
    "Our restaurant recommends the catch of the day with vegetables from the garden.",
    "If you prefer a quiet room, we will gladly look for one facing the courtyard.",
    "The old town is a ten minute walk away, and the beach is just across the road.",
    "Please let me know your dates and I will check what is available.",
    "Is there anything else that I can do for you today?",
)


def answer(model: str, conversation: str, limit: int | None) -> tuple[str, bool]:
    """The answer's text and whether ``limit`` (in tokens) cut it short."""
    seed = hashlib.blake2b(f"{model}\x00{conversation}".encode(), digest_size=8).digest()
    rng = random.Random(seed)
    target = rng.randint(40, 130)
    parts: list[str] = []
    length = 0
    for sentence in rng.sample(_SENTENCES, len(_SENTENCES)):
        parts.append(sentence)
        length += tokens.count(sentence)
        if length >= target:
            break
    text = " ".join(parts)
    if limit is not None and length > limit:
        return cut(text, limit), True
    return text, False


def cut(text: str, limit: int) -> str:
    """The first ``limit`` tokens of ``text``."""
    pieces = [piece for piece, _ in pieces_of(text, 1)]
    return "".join(pieces[:limit])


def pieces_of(text: str, size: int = 5) -> Iterator[tuple[str, int]]:
    """Split ``text`` for streaming: (piece, tokens produced so far), about ``size`` tokens each.

    The pieces joined are the text, and the last count is the text's token count.
    """
    start = position = produced = 0
    for token in tokens.tokenize(text):
        position = text.index(token, position) + len(token)
        produced += 1
        if produced % size == 0:
            yield text[start:position], produced
            start = position
    if start < len(text):
        yield text[start:], produced
