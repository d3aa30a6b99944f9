"""Records requests of the real stack for ``prove_gate``: seeded replays, each on a stack of its own.

``python -m benchmarks.record_requests --output benchmarks/requests.json`` starts the demo's stack
afresh several times and lets the guests send the same seeded requests to each. What is kept of a
request is numbers: route, duration, and its account. Not part of CI; the recording that the figures
in ``docs/budget.md`` come from is committed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

from examples.demo.stack import running_stack
from taximeter_analysis import Filters, Store, open_store
from taximeter_analysis.selection import select

COLUMNS = (
    "duration_us",
    "failed",
    "db_calls",
    "model_calls",
    "embedding_calls",
    "input_tokens",
    "output_tokens",
)


def rows(store: Store, since: float, until: float) -> dict[str, list[list[int]]]:
    """Requests by route, in order of start, each as a list of ``COLUMNS``."""
    select(store, Filters(since=since, until=until))
    found: dict[str, list[list[int]]] = {}
    for label, *values in store.rows(
        """
        SELECT method || ' ' || coalesce(route, '(no route)'), duration_ns // 1000, failed::INT, db_calls,
            model_calls, embedding_calls, input_tokens, output_tokens
        FROM req ORDER BY start_ns, span_id
        """
    ):
        found.setdefault(label, []).append([int(value or 0) for value in values])
    return dict(sorted(found.items()))


def record(requests: int, rate: float) -> dict[str, list[list[int]]]:
    """One replay on a stack of its own: nothing is left of the replay before, not even a conversation."""
    with running_stack() as stack:
        begin = time.time()
        guests = stack.start_guests(duration=3600, rate=rate, extra=("--requests", str(requests)))
        if guests.popen.wait(1800) != 0:
            raise SystemExit(f"the guests failed:\n{guests.tail()}")
        stack.supervisor.stop("service")
        stack.drain()
        with open_store(stack.store) as store:
            return rows(store, begin, time.time())


def main() -> int:
    """Record and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--replays", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1200, help="per replay (default %(default)s)")
    parser.add_argument("--rate", type=float, default=8.0, help="requests per second (default %(default)s)")
    args = parser.parse_args()
    replays = []
    for number in range(args.replays):
        begin = time.monotonic()
        replays.append(record(args.requests, args.rate))
        sys.stderr.write(f"replay {number + 1} of {args.replays}: {time.monotonic() - begin:.0f} s\n")
    document = {
        "recorded": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "columns": COLUMNS,
        "replays": replays,
    }
    args.output.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
