"""``taximeter store info | compact | export``: the span store itself, rather than what it says.

``compact`` is the collector's own upkeep, run by hand, on everything: it may run while the collector
writes. Exit codes as of ``taximeter report``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE
from taximeter_analysis.render.units import clock, count, plain, seconds
from taximeter_analysis.sources import DEFAULT_STORE, STORE_VARIABLE, add_selection, duration, filters_of
from taximeter_analysis.store import NoStore, NothingToReport, Store, StoreError, literal, open_store
from taximeter_analysis.window import to_ns
from taximeter_collector.store.schema import SCHEMA_VERSION
from taximeter_collector.store.upkeep import InUse, Rules, keep

FORMATS = {"parquet": "FORMAT parquet, COMPRESSION zstd", "csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json"}
_UNITS = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}

EPILOG = """\
examples:
  taximeter store info                                  what is in it, how old, how large
  taximeter store info --check                          also look for spans stored twice
  taximeter store compact --max-age 30d --max-size 5GiB merge segments, drop what is too old or too much
  taximeter store export today.csv --table requests --since 24h --tenant alpenhof

exit code: 0 done, 1 cannot read or write, 2 wrong usage or nothing there
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter store`` to its parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    info = actions.add_parser("info", help="what is in the store")
    info.add_argument(
        "--check", action="store_true", help="look for ids stored twice and requests without spans"
    )
    compact = actions.add_parser("compact", help="merge segments, sum them up, apply retention")
    compact.add_argument(
        "--max-age", type=duration, default=0.0, metavar="DURATION", help="drop what is older"
    )
    compact.add_argument(
        "--max-size", type=_size, default=0, metavar="SIZE", help="drop the oldest beyond this: 500MiB, 5GiB"
    )
    export = actions.add_parser("export", help="write rows to a file")
    export.add_argument("file", type=Path, help="its ending says the format: .parquet, .csv or .jsonl")
    export.add_argument("--table", choices=("spans", "requests"), default="spans")
    add_selection(export)
    for action in (info, compact):
        action.add_argument(
            "--store", metavar="DIR", default=os.environ.get(STORE_VARIABLE) or DEFAULT_STORE,
            help=f"the span store (default: ${STORE_VARIABLE}, else ./{DEFAULT_STORE})",
        )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter store``; returns the exit code."""
    try:
        lines = {"info": _info, "compact": _compact, "export": _export}[args.action](args)
    except (ValueError, NothingToReport, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except (StoreError, InUse) as error:
        return _fail(str(error), EXIT_FAILED)
    except (OSError, duckdb.Error) as error:
        return _fail(f"{args.store}: {str(error).splitlines()[0]}", EXIT_FAILED)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@dataclass(frozen=True)
class TableInfo:
    """One table of a store."""

    segments: int
    rows: int
    bytes: int
    summed: int
    first_ns: int | None
    last_ns: int | None


def table_info(store: Store, table: str) -> TableInfo:
    rows, summed, first, last = store.rows(
        f"SELECT count(*), count(summed), min(start_ns), max(start_ns) FROM {table}"
    )[0]
    files = store.segments[table]
    return TableInfo(len(files), rows, sum(file.stat().st_size for file in files), summed, first, last)


def _info(args: argparse.Namespace) -> list[str]:
    with open_store(args.store) as store:
        spans, requests = table_info(store, "spans"), table_info(store, "requests")
        services = store.rows(
            "SELECT service, version, count(*) FROM requests GROUP BY ALL ORDER BY count(*) DESC LIMIT 20"
        )
        check = store.check() if args.check else None
        listed = {file for files in store.segments.values() for file in files}
        superseded = [file for file in store.path.glob("*/*.parquet") if file not in listed]
    lines = [f"{store.path}, schema version {SCHEMA_VERSION}"]
    for name, info in (("spans", spans), ("requests", requests)):
        each = f", {info.bytes / info.rows:.1f} bytes each" if info.rows else ""
        lines.append(
            f"  {name:<10}{count(info.rows)} in {count(info.segments)} segment(s), {size(info.bytes)}{each}; "
            f"{count(info.rows - info.summed)} not summed up yet"
        )
    if spans.first_ns is not None and spans.last_ns is not None:
        first, last = spans.first_ns / 1e9, spans.last_ns / 1e9
        lines.append(f"  {'starts':<10}{clock(first)} to {clock(last)} UTC ({seconds(last - first)})")
    for service, version, number in services:
        lines.append(f"  {'service':<10}{plain(service)} {plain(version)}: {count(number)} requests")
    if superseded:
        lines.append(f"  {count(len(superseded))} superseded file(s), to be deleted by the next upkeep")
    if check is not None:
        lines.append(
            f"  {'check':<10}{'good' if check.ok else 'NOT GOOD'}: {count(check.duplicate_spans)} spans and "
            f"{count(check.duplicate_requests)} requests stored twice, "
            f"{count(check.requests_without_span)} requests without their span"
        )
    return lines


def _compact(args: argparse.Namespace) -> list[str]:
    root = Path(args.store)
    open_store(root).close()  # says what is wrong with it
    before = _size_of(root)
    done = keep(root, Rules(args.max_age, args.max_size), everything=True)
    return [
        f"{root}: {count(done.merged)} segment(s) of spans became {count(done.written)}, "
        f"{count(done.expired)} expired, {count(done.removed)} superseded file(s) deleted; {size(before)} "
        f"before, {size(_size_of(root))} now (merged-from files stay two minutes, for who reads them)"
    ]


def _size_of(root: Path) -> int:
    return sum(file.stat().st_size for file in root.glob("*/*.parquet"))


def _export(args: argparse.Namespace) -> list[str]:
    kind = args.file.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(
            f"{args.file}: no format ends in {kind or 'nothing'!r}; write .parquet, .csv or .jsonl"
        )
    if not args.file.parent.is_dir():
        raise StoreError(
            f"{args.file}: cannot be written (no such directory); give a file in one that is there"
        )
    filters = filters_of(args, time.time())
    conditions = ["true"]
    if filters.since is not None:
        conditions.append(f"start_ns >= {to_ns(filters.since)}")
    if filters.until is not None:
        conditions.append(f"start_ns < {to_ns(filters.until)}")
    for name in ("service", "tenant", "version"):
        wanted: str | None = getattr(filters, name)
        if wanted is not None:
            conditions.append(f"{name} = {literal(wanted)}")
    columns = "*"
    if (
        args.table == "spans" and kind != "parquet"
    ):  # ids as people know them; 64-bit numbers break in readers
        columns = "printf('%016x%016x', trace_hi, trace_lo) AS trace_id, * EXCLUDE (trace_hi, trace_lo)"
    with open_store(args.store) as store:
        written: Any = store.rows(
            f"COPY (SELECT {columns} FROM {args.table} WHERE {' AND '.join(conditions)}) "
            f"TO {literal(str(args.file))} ({FORMATS[kind]})"
        )
    return [f"{args.file}: {count(written[0][0])} {args.table}"]


def size(number: float) -> str:
    """``812 B``, ``4.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _size(text: str) -> int:
    number, unit = text[:-3], text[-3:].lower()
    if unit not in _UNITS or not number.replace(".", "", 1).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 500MiB or 5GiB")
    return int(float(number) * _UNITS[unit])


def _fail(message: str, code: int) -> int:
    print(f"taximeter store: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
