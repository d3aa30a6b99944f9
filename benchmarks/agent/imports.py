"""What a service of FastAPI alone imports at its start, plain and under the agent (``-X importtime``)."""

from __future__ import annotations

import os
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


def _least(runs: list[dict[str, float]]) -> dict[str, float]:
    """The least of each module's times: a busy machine only adds."""
    return {name: min(run.get(name, took) for run in runs) for name, took in runs[0].items()}


def render() -> str:
    """Both, and where what is added comes from."""
    launcher = [str(Path(sys.executable).parent / "opentelemetry-instrument")]
    both = [(_times([]), _times(launcher)) for _ in range(_RUNS)]
    plain, ours = [_least([run[which] for run in both]) for which in (0, 1)]
    added = {name: took for name, took in ours.items() if name not in plain}
    groups: Counter[str] = Counter()
    for name, took in added.items():
        parts = name.split(".")
        groups[".".join(parts[: 3 if parts[0] == "opentelemetry" else 1])] += took  # type: ignore[assignment]
    before, after = sum(plain.values()), sum(ours.values())
    lines = [
        f"Imports of a service of FastAPI and uvicorn alone, each module's least of {_RUNS} runs: "
        f"{before:.0f} ms in {len(plain)} modules plain, {after:.0f} ms in {len(ours)} under the agent; "
        "the largest added",
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
