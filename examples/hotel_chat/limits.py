"""How many questions a conversation may ask in a minute, so that a script that runs wild stays cheap.

Counted in this process (an instance more, and the limit is twice as high), or, with ``fix.shared_limit``, in
the Redis that all instances share; where that does not answer, in this process again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from fastapi import HTTPException

from .flags import Flags
from .shared import Shared

PER_MINUTE = 30
_WINDOW_S = 60


class Limits:
    """Questions by conversation and minute."""

    def __init__(self, flags: Flags, shared: Shared, clock: Callable[[], float] = time.time) -> None:
        self._flags = flags
        self._shared = shared
        self._clock = clock
        self._window = 0
        self._counts: Counter[str] = Counter()

    async def question(self, conversation: str) -> None:
        """Count one; ``HTTPException`` 429 with Retry-After where it is one too many."""
        window, since = divmod(self._clock(), _WINDOW_S)
        counted = None
        if self._flags["fix.shared_limit"]:
            counted = await self._shared.count(f"{window:.0f}:{conversation}", 2 * _WINDOW_S)
        if counted is None:
            counted = self._here(int(window), conversation)
        if counted > PER_MINUTE:
            wait = str(int(_WINDOW_S - since) + 1)
            raise HTTPException(
                429,
                f"more than {PER_MINUTE} questions in a minute; try again in {wait} s",
                {"Retry-After": wait},
            )

    def _here(self, window: int, conversation: str) -> int:
        if window != self._window:
            self._window, self._counts = window, Counter()
        self._counts[conversation] += 1
        return self._counts[conversation]
