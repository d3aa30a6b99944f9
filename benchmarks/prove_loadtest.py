"""``make prove-loadtest``: 100 and 1,000 concurrent guests really sent to the example.

``taximeter loadtest`` against the example on a stack of its own, in blocks with its N+1 fault off (A) or on
(B), in turn. What the command prints is printed: how the guests fared, its own CPU, the comparison, and
whether it says that it measured itself. Then the same guests by the service's own account, from the span
store. Judges nothing: how much load a machine carries is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from examples.demo.stack import ROOT, Stack, running_stack
from taximeter_analysis import Filters, open_store, report
from taximeter_analysis.render.units import count, seconds

SCENARIO = ROOT / "examples" / "loadtest" / "hotel.py"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove-loadtest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--duration", default="20s", help="of a block (default: %(default)s)")
    parser.add_argument("--blocks", default="3", help="a side, with 100 guests (default: %(default)s)")
    parser.add_argument("--long", default="70s", help="of a block with 1,000 guests (default: %(default)s)")
    parser.add_argument(
        "--warmup", default="30s", help="of it: 1,000 guests who come at once are first of all a queue"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-load-") as folder, running_stack() as stack:
        for guests, processes, blocks, duration, warmup in (
            (100, 1, args.blocks, args.duration, "5s"),
            (1000, 2, "1", args.long, args.warmup),
        ):
            who = f"{guests:,} guests, {processes} load generator process(es)"
            print(f"\n## {who}, blocks of {duration}, {warmup} of it warm-up\n", flush=True)
            output = Path(folder) / str(guests)
            words = ["--guests", str(guests), "--processes", str(processes), "--blocks", blocks]
            code = _loadtest(
                stack, [*words, "--duration", duration, "--warmup", warmup, "--output", str(output)]
            )
            print(f"exit code {code}" + (": it says that it measured itself" if code == 3 else ""))
            if code not in (0, 3):
                return 1
            stack.drain(timeout=300)
            _by_the_store(stack, output)
    return 0


def _loadtest(stack: Stack, words: list[str]) -> int:
    switch = (
        f"{sys.executable} -c \"import httpx; httpx.post('{stack.service_url}/admin/flags', timeout=60, "
        "json={{'fault.n_plus_one_rooms': {on}}}).raise_for_status()\""
    )
    argv = [sys.executable, "-m", "taximeter_cli", "loadtest", str(SCENARIO), "--host", stack.service_url]
    argv += ["--before-a", switch.format(on=False), "--before-b", switch.format(on=True), *words]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, check=False,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    place = words[words.index("--output") + 1]
    print(done.stdout.replace(place, "loadtest").replace(stack.service_url, "URL"), flush=True)
    return done.returncode


def _by_the_store(stack: Stack, output: Path) -> None:
    print("The same by the service's own account (Taximeter's span store), block by block:\n", flush=True)
    print("| block | requests | P50 | P95 | database calls per request |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for number, block in enumerate(json.loads((output / "blocks.json").read_text()), start=1):
        since, until = (datetime.fromisoformat(block[name]).timestamp() for name in ("since", "until"))
        with open_store(stack.store) as store:
            found = report(store, Filters(since, until + 1))
        calls = (found.totals.db_calls or 0) / found.totals.requests
        print(
            f"| {number} {block['side']} | {count(found.totals.requests)} | {seconds(found.latency.p50)} "
            f"| {seconds(found.latency.p95)} | {calls:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
