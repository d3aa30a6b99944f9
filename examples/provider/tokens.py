"""Deterministic token counts and the prompt caches.

The tokenizer is simple on purpose: what matters is that the same text always has the same
count and that counts are of a realistic size (about four characters a token). Both caches are
keyed by a running hash of token blocks, hold a bounded number of prefixes, and forget a prefix
that was not used for its time to live.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"[^\W\d_]{1,7}|\d{1,3}|[^\w\s]|_")


@lru_cache(maxsize=2048)
def tokenize(text: str) -> tuple[str, ...]:
    """The tokens of ``text``: words in pieces of up to 7 letters, digits by 3, punctuation."""
    return tuple(_TOKEN.findall(text))


def count(text: str) -> int:
    return len(tokenize(text))


def prefix_hashes(tokens: Sequence[str], ends: Sequence[int]) -> list[str]:
    """One hash per prefix ``tokens[:end]``; ``ends`` ascending."""
    digest = hashlib.blake2b(digest_size=16)
    hashes = []
    start = 0
    for end in ends:
        digest.update("".join(f"{token}\x1f" for token in tokens[start:end]).encode())
        hashes.append(digest.copy().hexdigest())
        start = end
    return hashes


class PrefixCache:
    """Prompt prefixes seen lately: ``key -> time it expires``, least recently used go first."""

    def __init__(self, capacity: int = 20_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._expiry: OrderedDict[str, float] = OrderedDict()

    def hit(self, key: str, ttl_s: float) -> bool:
        """Whether ``key`` is live; a hit starts its time to live again."""
        expires = self._expiry.get(key)
        if expires is None or expires < self._clock():
            return False
        self.store(key, ttl_s)
        return True

    def store(self, key: str, ttl_s: float) -> None:
        self._expiry[key] = self._clock() + ttl_s
        self._expiry.move_to_end(key)
        while len(self._expiry) > self._capacity:
            self._expiry.popitem(last=False)


OPENAI_BLOCK = 128
OPENAI_TTL_S = 600.0


def openai_cached_tokens(cache: PrefixCache, model: str, minimum: int, tokens: Sequence[str]) -> int:
    """Tokens of the longest cached prefix (0, or ``minimum`` plus a multiple of 128).

    Remembers the prompt's own prefixes, as OpenAI does on every prompt of 1,024 tokens or more.
    """
    ends = range(minimum, len(tokens) + 1, OPENAI_BLOCK)
    cached = 0
    for end, prefix in zip(ends, prefix_hashes(tokens, ends), strict=True):
        key = f"openai:{model}:{prefix}"
        if cache.hit(key, OPENAI_TTL_S):
            cached = end
        else:
            cache.store(key, OPENAI_TTL_S)
    return cached
