"""Prints what each kind of evidence costs, in CPU microseconds: the table of docs/evidence.md.

python tools/bench_evidence.py
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy  # noqa: F401  (signatures need it loaded)

from taximeter import callsite, hashing, lookups, prompt, signature

HASHER = hashing.Hasher(b"a key for measuring, and no secret")
QUESTION = "What time is breakfast served at the Ritz?"
RULES = "You are the concierge. " * 80


def cost(what: str, call: Callable[[], object], number: int) -> None:
    """Best of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(number):
            call()
        rounds.append((time.process_time() - started) / number * 1e6)
    print(f"{what:<52}{min(rounds):8.2f} us")  # noqa: T201


def main() -> None:
    """Print the table."""
    numbers = random.Random(1)
    vector = [numbers.gauss(0, 1) for _ in range(1536)]
    text = str(vector)
    turns = [{"role": "user", "content": QUESTION * 12}] * 5
    rules = [{"role": "system", "content": RULES}, {"role": "system", "content": RULES * 2}]
    looked = lookups.Lookups(HASHER, 10**9)
    cost("one hash of a short text", lambda: HASHER.text(QUESTION), 5000)
    cost("embedding input, 42 characters, both forms", lambda: HASHER.texts(QUESTION), 5000)
    cost("embedding input, 2,000 characters, both forms", lambda: HASHER.texts(QUESTION * 48), 2000)
    cost("parameters: one number", lambda: HASHER.value((42,)), 5000)
    cost("parameters: four values", lambda: HASHER.value(("ritz", "2026-01-01", 3, None)), 5000)
    cost("parameters: a vector as 30 KB of text", lambda: HASHER.value((text, 5)), 1000)
    cost(
        "prompt, 8 KB, 7 messages",
        lambda: prompt.chain(HASHER, prompt.openai({"messages": rules + turns})),
        500,
    )
    cost(
        "prompt, 200 KB",
        lambda: prompt.chain(HASHER, prompt.openai({"messages": [{"role": "user", "content": RULES * 110}]})),
        100,
    )
    started = time.perf_counter()
    signature.sign(HASHER, vector)
    print(f"{'signature of 1,536, the first':<52}{(time.perf_counter() - started) * 1e3:8.2f} ms")  # noqa: T201
    cost("signature of 1,536", lambda: signature.sign(HASHER, vector), 500)
    cost("line of code and one caller", lambda: callsite.places(2), 5000)
    cost("one cache lookup with its key", lambda: looked.add("embedding", True, QUESTION), 5000)


if __name__ == "__main__":
    main()
