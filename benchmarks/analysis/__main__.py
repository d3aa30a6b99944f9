"""``make bench-analysis``: a report over 5 million and 100 million spans, and the same questions elsewhere.

Looks at the free disk first, writes to a temporary folder outside the tree and removes it at the end. The
small store is made row by row (`generate`) and compacted by the collector's own upkeep; the large one is
its segments again under other ids and times (`multiply`). Each report is ``taximeter report`` in a process
of its own. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Cost:
    """What one report took."""

    seconds: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-analysis", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="work in this new folder (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="do not remove it at the end")
    parser.add_argument("--small", type=int, default=SMALL, help="spans (default: %(default)s)")
    parser.add_argument("--large", type=int, default=LARGE, help="spans; 0: leave it out")
    parser.add_argument("--runs", type=int, default=3, help="reports of each store (default: %(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="leave SQLite and Phoenix out")
    args = parser.parse_args()
    place = args.folder or Path(tempfile.gettempdir())
    needed = (args.small + args.large) * BYTES_A_SPAN
    needed += 0 if args.no_peers else args.small * SQLITE_BYTES_A_SPAN
    free = shutil.disk_usage(place if place.exists() else place.parent).free
    if free < needed:
        say(f"{place}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; give another --folder")
        return 2
    folder = args.folder or Path(tempfile.mkdtemp(prefix="taximeter-bench-"))
    try:
        return _run(folder, args)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str = "") -> None:
    """Print at once: the run takes minutes."""
    print(text, flush=True)


def _run(folder: Path, args: argparse.Namespace) -> int:
    small, missed = folder / "small", False
    say(f"Making {args.small:,} spans in {folder}")
    made = fill(small, args.small, tell=True)
    say(
        f"  {made.spans:,} spans of {made.requests:,} requests: {made.bytes_after / made.spans:.1f} bytes "
        f"a span ({made.bytes_before / made.spans:.1f} as written); compacted at "
        f"{made.spans / made.compact_s:,.0f} spans/s"
    )
    written, seconds = asyncio.run(_write(small, folder / "written"))
    say(f"  the collector's writer: {written / seconds:,.0f} spans/s from OTLP to a segment, one process\n")
    say("| spans | bytes a span | report | CPU | peak memory | target |")
    say("| ---: | ---: | ---: | ---: | ---: | --- |")
    missed |= _line(small, made.spans, args.runs, most_s=2.0, most_mb=None)
    if args.large:
        say(f"\nMaking {args.large:,} spans")
        many = multiply(small, folder / "large", -(-args.large // made.spans), tell=True)
        missed |= _line(folder / "large", many, args.runs, most_s=15.0, most_mb=1000.0)
        shutil.rmtree(folder / "large")
    if not args.no_peers:
        _peers(small, made.spans, folder)
    return int(missed)


def _line(store: Path, spans: int, runs: int, *, most_s: float, most_mb: float | None) -> bool:
    """Print the median of some reports; whether a target is missed."""
    found = [report_cost(store) for _ in range(runs)]
    cost = Cost(*(statistics.median(values) for values in zip(*map(_values, found), strict=True)))
    missed = cost.seconds > most_s or (most_mb is not None and cost.peak_mb > most_mb)
    target = f"<= {most_s:g} s" + (f", < {most_mb:,.0f} MB" if most_mb else "")
    say(
        f"| {spans:,} | {size_of(store) / spans:.1f} | {cost.seconds:.2f} s | {cost.cpu_s:.2f} s | "
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
    begin = time.monotonic()
    child = os.posix_spawn(
        sys.executable, words, os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )  # fmt: skip
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


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


def _peers(store: Path, spans: int, folder: Path) -> None:
    database = folder / "peer.sqlite"
    say(f"\nSQLite {sqlite_peer.VERSION}, the same {spans:,} spans, the columns that the questions need")
    seconds = sqlite_peer.fill(store, database)
    say(f"  filled at {spans / seconds:,.0f} spans/s, {database.stat().st_size / spans:.0f} bytes a span")
    took = sqlite_peer.ask(database)
    for name, value in took.items():
        say(f"  {name}: {value:.1f} s")
    say(f"  together {sum(took.values()):.1f} s")
    database.unlink()
    phoenix_peer.run(store, folder / "phoenix", say)


if __name__ == "__main__":
    sys.exit(main())
