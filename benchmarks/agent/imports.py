"""What a service of FastAPI alone imports at its start, plain and under the agent (``-X importtime``)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

_SERVICE = "import fastapi, uvicorn; app = fastapi.FastAPI()"
_RUNS = 3


def _times(launcher: list[str]) -> dict[str, float]:
    """Milliseconds of its own that each module took to import."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    clean |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TAXIMETER_FLUSH_TIMEOUT": "0"}
    argv = [*launcher, sys.executable, "-X", "importtime", "-c", _SERVICE]
    done = subprocess.run(argv, env=clean, stderr=subprocess.PIPE, text=True, check=True, timeout=120)
    found = {}
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            found[rest.partition("|")[2].strip()] = int(own) / 1e3
    return found


def render() -> str:
    """Both, and where what is added comes from."""
    launcher = [str(Path(sys.executable).parent / "opentelemetry-instrument")]
    plain, ours = [_times([]) for _ in range(_RUNS)], [_times(launcher) for _ in range(_RUNS)]
    added = {name: statistics.median(run.get(name, 0.0) for run in ours) for name in ours[0]}
    added = {name: took for name, took in added.items() if name not in plain[0]}
    groups: Counter[str] = Counter()
    for name, took in added.items():
        parts = name.split(".")
        groups[".".join(parts[: 3 if parts[0] == "opentelemetry" else 1])] += took  # type: ignore[assignment]
    before, after = (statistics.median(sum(run.values()) for run in runs) for runs in (plain, ours))
    lines = [
        f"Imports of a service of FastAPI and uvicorn alone, median of {_RUNS} starts: {before:.0f} ms in "
        f"{len(plain[0])} modules plain, {after:.0f} ms in {len(ours[0])} under the agent; the largest added",
        "",
        "| package | modules | ms |",
        "| --- | ---: | ---: |",
    ]
    for name, took in groups.most_common(12):
        count = sum(1 for one in added if one == name or one.startswith(name + "."))
        lines.append(f"| {name} | {count} | {took:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render())
