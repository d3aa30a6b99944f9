"""The memory_limiter: above the soft limit, requests are refused with a wish to retry.

As officially, the soft limit is the limit less the spike (default a fifth of it). What is
measured is the process's resident memory.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """This process's resident memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


class MemoryLimiter:
    """Asked for every request, looks once per ``check_interval``."""

    def __init__(self, component: str, values: dict[str, Any]) -> None:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = (values["limit_mib"] << 20) or total * values["limit_percentage"] // 100
        spike = (values["spike_limit_mib"] << 20) or total * values["spike_limit_percentage"] // 100
        self.soft_limit = limit - (spike or limit // 5)
        self._component = component
        self._interval = values["check_interval"]
        self._checked = float("-inf")
        self._reason = ""

    def over(self) -> str:
        """Why no more is taken now, or an empty text."""
        now = time.monotonic()
        if now - self._checked >= self._interval:
            self._checked = now
            used = resident_bytes()
            self._reason = (
                f"{self._component}: {used >> 20} MiB in use, soft limit {self.soft_limit >> 20} MiB"
                if used > self.soft_limit
                else ""
            )
        return self._reason
