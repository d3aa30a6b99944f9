"""Where a report comes from when a command says A or B: a span store, a saved report, a Tempo, a Prometheus.

``demo-output/report.json`` is a saved report, ``spans/`` a store; ``a1.json,a2.json,a3.json`` are three
runs of the same thing, ``spans/@1h..30m`` a window of a store, ``spans/@version=1.4`` one version of
the service, ``tempo+http://localhost:3200@1h..`` a window of what a Tempo holds. Also the options that
choose a store and a window, for all commands that read one.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path

from taximeter_analysis.model import Report
from taximeter_analysis.readers.place import EXAMPLES, is_place
from taximeter_analysis.report import report
from taximeter_analysis.saved import load_report
from taximeter_analysis.store import open_store
from taximeter_analysis.window import Filters, parse_duration, parse_instant

STORE_VARIABLE = "TAXIMETER_STORE"
DEFAULT_STORE = "taximeter-data/store"  # where the collector's built-in configuration puts it

_KEYS = ("version", "service", "tenant")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``, ``--since``, ``--until``, ``--service``, ``--tenant``, ``--service-version``."""
    add_store(parser)
    parser.add_argument("--since", metavar="WHEN", help="only requests that started then or later")
    parser.add_argument("--until", metavar="WHEN", help="only requests that started before then")
    parser.add_argument("--service", metavar="NAME", help="only this service.name")
    parser.add_argument("--tenant", metavar="NAME", help="only this tenant's requests")
    parser.add_argument("--service-version", metavar="NAME", help="only this service.version")


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    parser.add_argument(
        "--store",
        metavar="DIR",
        default=os.environ.get(STORE_VARIABLE) or DEFAULT_STORE,
        help=f"the collector's span store (default: ${STORE_VARIABLE}, else ./{DEFAULT_STORE})",
    )


def filters_of(args: argparse.Namespace, now: float) -> Filters:
    """The filters that `add_selection`'s options ask for.

    Raises:
        ValueError: an instant that cannot be read, or an empty window.
    """
    instants = {}
    for name in ("since", "until"):
        text = getattr(args, name)
        try:
            instants[name] = None if text is None else parse_instant(text, now)
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from None
    return Filters(instants["since"], instants["until"], args.service, args.tenant, args.service_version)


def duration(text: str) -> float:
    """A duration as an option's type: what cannot be read is wrong usage, with examples."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_runs(text: str, now: float, blocks: int = 1) -> list[Report]:
    """The reports that one argument names: one a run, or one a block of time where ``blocks`` is more.

    Raises:
        ValueError: something in it that cannot be understood, or no saved report.
        StoreError: a store that cannot be read.
    """
    parts = [name for part in text.split(",") for name in _expanded(part.strip())]
    return [found for part in parts for found in _read(part, now, blocks)]


def _expanded(part: str) -> list[str]:
    """The files that a pattern names, in order of their numbers: A-2.json before A-10.json."""
    if is_place(part) or not any(letter in part for letter in "*?") or Path(part.partition("@")[0]).exists():
        return [part]

    def order(path: str) -> list[int | str]:
        return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path)]

    found = sorted(glob.glob(part), key=order)  # noqa: PTH207  (the pattern may be absolute)
    if not found:
        raise ValueError(f"{part}: no such file; check the pattern")
    return found


def _read(part: str, now: float, blocks: int) -> list[Report]:
    if is_place(part):
        # HTTP and protobuf take 0.2 s to import, which a saved report need not wait for.
        from taximeter_analysis.readers.opened import report_from  # noqa: PLC0415

        place, choice = _split(part)
        return _cut(lambda filters: report_from(place, filters, now=now), _choice(choice, part, now), blocks)
    place, _, choice = part.partition("@")
    path = Path(place)
    if path.is_file():
        if choice:
            raise ValueError(f"{part}: a saved report has its window already; leave out @{choice}")
        return [load_report(path)]
    filters = _choice(choice, part, now)
    if not path.exists():
        raise ValueError(
            f"{part}: no such file or directory; give a report.json, a span store, or {EXAMPLES}"
        )
    with open_store(path) as store:
        return _cut(lambda filters: report(store, filters, now=now), filters, blocks)


def _split(part: str) -> tuple[str, str]:
    """A place and its choice: an address may have an @ of its own, before the host."""
    place, at, choice = part.rpartition("@")
    chosen = at and (".." in choice or choice.partition("=")[0] in _KEYS)
    return (place, choice) if chosen else (part, "")


def _cut(read: Callable[[Filters], Report], filters: Filters, blocks: int) -> list[Report]:
    """The report, or one for each of so many equal blocks of its time."""
    whole = read(filters)
    if blocks <= 1:
        return [whole]
    first, length = whole.window.first, whole.window.observed_s / blocks
    found = []
    for number in range(blocks):
        until = first + (number + 1) * length if number < blocks - 1 else whole.window.last + 1e-3
        since = first + number * length
        found.append(read(Filters(since, until, filters.service, filters.tenant, filters.version)))
    return found


def _choice(text: str, part: str, now: float) -> Filters:
    if not text:
        return Filters()
    if ".." in text:
        since, until = text.split("..", 1)
        return Filters(
            parse_instant(since, now) if since else None, parse_instant(until, now) if until else None
        )
    name, _, value = text.partition("=")
    if name not in _KEYS or not value:
        raise ValueError(
            f"{part}: {text!r} is no choice; write @SINCE..UNTIL, or @version=, @service= or @tenant="
        )
    return Filters(
        version=value if name == "version" else None,
        service=value if name == "service" else None,
        tenant=value if name == "tenant" else None,
    )
