"""Programs that judge ours and are in no Debian package: found, else the test skips, and in CI it fails.

`make official-tools` builds them from the Go module proxy into ``~/.cache/taximeter``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REQUIRE = "TAXIMETER_REQUIRE_OFFICIAL"


def find(name: str, *others: str, variable: str = "") -> str | None:
    """The path of a program: of the environment variable, of `make official-tools`, or of PATH."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taximeter" / name
    found = (variable and os.environ.get(variable)) or (str(kept) if kept.is_file() else None)
    return found or next(filter(None, map(shutil.which, (name, *others))), None)


def official(name: str, *others: str, variable: str = "") -> str:
    """The same; without it the test skips, or fails where CI demands it."""
    if found := find(name, *others, variable=variable):
        return found
    reason = f"no `{name}` (make official-tools builds it; needs Go)"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason}, and {REQUIRE}=1 demands one")
    pytest.skip(reason)


def official_collector() -> str:
    return official("otelcol", "otelcol-contrib", variable="TAXIMETER_OTELCOL")


def newer_prometheus() -> str:
    """A Prometheus 3, beside Debian's 2.42."""
    return official("prometheus3", variable="TAXIMETER_PROMETHEUS")
