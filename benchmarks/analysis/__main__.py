"""``make bench-analysis``: a report over 5 million and 100 million spans, and the same questions elsewhere.

Looks at the free disk first, writes to a temporary folder outside the tree and removes it at the end. The
small store is made row by row (`generate`) and compacted by the collector's own upkeep; the large one is
its segments again under other ids and times (`multiply`). Each report is ``taximeter report`` in a process
of its own. Exit code 1 when a target is missed.

``--folder F --steps make,small`` does some of it and keeps the folder; ``--steps multiply,large``, then
``sqlite`` and ``phoenix``, go on from there: no single call takes longer than a few minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.analysis import phoenix_peer, sqlite_peer
from benchmarks.analysis.generate import fill, size_of
from benchmarks.analysis.multiply import multiply
from benchmarks.analysis.otlp import requests_of
from taximeter_collector.config.components import EXPORTERS
from taximeter_collector.config.fields import Notes, read_section
from taximeter_collector.export.base import Origin
from taximeter_collector.log import Batch, Row
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.signals import SIGNALS
from taximeter_collector.store.writer import SpanStoreExporter

SMALL, LARGE = 5_000_000, 100_000_000
BYTES_A_SPAN = 60  # at most, while both the written and the compacted rows are there
SQLITE_BYTES_A_SPAN = 600
STEPS = ("make", "small", "write", "multiply", "large", "sqlite", "phoenix")


@dataclass(frozen=True)
class Cost:
    """What one report took."""

    seconds: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-analysis", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="work here and keep it (default: a temporary one)")
    parser.add_argument("--small", type=int, default=SMALL, help="spans (default: %(default)s)")
    parser.add_argument("--large", type=int, default=LARGE, help="spans (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="reports of each store (default: %(default)s)")
    parser.add_argument(
        "--phoenix-spans", type=int, default=phoenix_peer.SPANS, help="for Phoenix (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", default=",".join(STEPS), help="some of them, with --folder (default: %(default)s)"
    )
    args = parser.parse_args()
    args.steps = args.steps.split(",")
    if unknown := [step for step in args.steps if step not in STEPS]:
        parser.error(f"--steps: {unknown[0]!r} is none of {', '.join(STEPS)}")
    place = args.folder or Path(tempfile.gettempdir())
    needed = sum(
        spans * each
        for step, spans, each in (
            ("make", args.small, BYTES_A_SPAN),
            ("multiply", args.large, BYTES_A_SPAN),
            ("sqlite", args.small, SQLITE_BYTES_A_SPAN),
        )
        if step in args.steps
    )
    free = shutil.disk_usage(place if place.exists() else place.parent).free
    if free < needed:
        say(f"{place}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; give another --folder")
        return 2
    folder = args.folder or Path(tempfile.mkdtemp(prefix="taximeter-bench-"))
    try:
        return _run(folder, args)
    finally:
        if not args.folder:
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str = "") -> None:
    """Print at once: the run takes minutes."""
    print(text, flush=True)


def _run(folder: Path, args: argparse.Namespace) -> int:
    small, large, missed = folder / "small", folder / "large", False
    if "make" in args.steps:
        say(f"Making {args.small:,} spans")
        made = fill(small, args.small, tell=True)
        say(
            f"  {made.spans:,} spans of {made.requests:,} requests in {made.make_s + made.write_s:.0f} s: "
            f"{made.bytes_after / made.spans:.1f} bytes a span "
            f"({made.bytes_before / made.spans:.1f} as written); "
            f"compacted at {made.spans / made.compact_s:,.0f} spans/s"
        )
    spans = _rows(small)
    if "write" in args.steps:
        written, seconds = asyncio.run(_write(small, folder / "written"))
        shutil.rmtree(folder / "written")
        say(f"The collector's writer: {written / seconds:,.0f} spans/s from OTLP to a segment, one process")
    if "small" in args.steps:
        say(_HEAD)
        missed |= _line(small, spans, args.runs, most_s=2.0, most_mb=None)
    if "multiply" in args.steps:
        say(f"Making {args.large:,} spans")
        shutil.rmtree(large, ignore_errors=True)
        multiply(small, large, -(-args.large // spans), tell=True)
    if "large" in args.steps:
        say(_HEAD)
        missed |= _line(large, _rows(large), args.runs, most_s=15.0, most_mb=1000.0)
    if "sqlite" in args.steps:
        _sqlite(small, spans, folder, args.runs)
    if "phoenix" in args.steps:
        phoenix_peer.run(small, folder / "phoenix", say, report_cost, args.phoenix_spans)
    return int(missed)


_HEAD = """
| spans | bytes a span | report | CPU | peak memory | target |
| ---: | ---: | ---: | ---: | ---: | --- |"""


def _rows(store: Path) -> int:
    """The spans of a store, from its files' footers."""
    return sum(pq.read_metadata(path).num_rows for path in (store / "spans").glob("*.parquet"))


def _line(store: Path, spans: int, runs: int, *, most_s: float, most_mb: float | None) -> bool:
    """Print the median of some reports; whether a target is missed."""
    found = [report_cost(store) for _ in range(runs)]
    cost = Cost(*(statistics.median(values) for values in zip(*map(_values, found), strict=True)))
    missed = cost.seconds > most_s or (most_mb is not None and cost.peak_mb > most_mb)
    target = f"<= {most_s:g} s" + (f", < {most_mb:,.0f} MB" if most_mb else "")
    each = ", ".join(f"{one.seconds:.2f}" for one in found)
    say(
        f"| {spans:,} | {size_of(store) / spans:.1f} | {cost.seconds:.2f} s ({each}) | {cost.cpu_s:.2f} s | "
        f"{cost.peak_mb:,.0f} MB | {target}: {'MISSED' if missed else 'met'} |"
    )
    return missed


def _values(cost: Cost) -> tuple[float, float, float]:
    return cost.seconds, cost.cpu_s, cost.peak_mb


def report_cost(store: Path) -> Cost:
    """Run ``taximeter report`` on a store in a process of its own, start of Python included.

    Raises:
        SystemExit: the report failed.
    """
    words = [sys.executable, "-m", "taximeter_cli", "report", "--store", str(store), "--format", "json"]
    done = subprocess.run([sys.executable, "-c", _MEASURED, *words], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")
    return Cost(*json.loads(done.stdout))


#: Runs a command from a small process: Linux counts the peak of the one that starts it as the command's own.
_MEASURED = """
import json, os, sys, time
begin = time.monotonic()
null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, usage = os.wait4(child, 0)
print(json.dumps([time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


async def _write(store: Path, target: Path, spans: int = 100_000) -> tuple[int, float]:
    """Spans and seconds of the real exporter, given OTLP as the log gives it."""
    values = read_section(EXPORTERS["span_store"], {"directory": str(target)}, "bench", Notes())
    exporter = SpanStoreExporter("span_store", values, OwnMetrics())
    rows = [
        Row(number + 1, time.time_ns(), count, body)
        for number, (count, body) in enumerate(requests_of(store, spans))
    ]
    batch = Batch(rows, rows[0].seq, rows[-1].seq)
    await exporter.start()
    begin = time.monotonic()
    await exporter.export(Origin(SIGNALS["traces"], "traces", "0badcafe0badcafe"), batch)
    seconds = time.monotonic() - begin
    await exporter.close()
    return batch.items, seconds


def _sqlite(store: Path, spans: int, folder: Path, runs: int) -> None:
    database = folder / "peer.sqlite"
    database.unlink(missing_ok=True)
    say(f"\nSQLite {sqlite_peer.VERSION}, the same {spans:,} spans, the columns that the questions need")
    seconds = sqlite_peer.fill(store, database)
    say(f"  filled at {spans / seconds:,.0f} spans/s, {database.stat().st_size / spans:.0f} bytes a span")
    took = sqlite_peer.ask(database)
    for name, value in took.items():
        say(f"  {name}: {value:.1f} s")
    ours = statistics.median(report_cost(store).seconds for _ in range(runs))
    whole = sum(took.values())
    say(
        f"  together {whole:.1f} s; taximeter report, the whole of it: {ours:.2f} s, "
        f"{whole / ours:.0f} times as fast"
    )
    database.unlink()


if __name__ == "__main__":
    sys.exit(main())
