"""One run of a variant: a fresh stack, the flags, the same guests, the books, and the sums by route."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo import books, figures, ledgers
from examples.demo.stack import ROOT, SERVICE_ROLE, Stack, python_module, running_stack
from examples.hotel_chat.migrations import migrate
from taximeter_analysis import open_store
from taximeter_analysis.advise.model import METRICS
from taximeter_analysis.figures import LABEL
from taximeter_analysis.selection import select
from taximeter_analysis.store import Store
from taximeter_analysis.window import Filters
from taximeter_cli.supervise import Spec, StartFailed, free_port, port_open


@dataclass(frozen=True)
class Load:
    """How a run is driven; the same for all of a loop. ``distance_ms``: one way to the database."""

    duration_s: float = 70.0
    rate: float = 10.0
    guests: int = 100
    seed: int = 7
    latency_scale: float = 1.0
    distance_ms: float = 10.0
    scale: str = "demo"
    spread: float = 0.0  # of the mix of requests and hotels
    fail_rate: float = 0.02  # share of the model calls that the provider refuses at first


@dataclass(frozen=True)
class Run:
    """What one variant came to. ``sums``: route -> metric -> sum over its requests."""

    flags: tuple[str, ...]
    store: Path
    sums: dict[str, dict[str, float]]
    durations: list[float]  # of all requests, sorted
    first_bytes: list[float]
    hits: float
    lookups: float
    slow_in_models: float  # share of their time that the slowest twentieth of the requests wait for models
    books: list[books.Row] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        return bool(self.books) and all(row.balanced for row in self.books)

    def total(self, metric: str, route: str | None = None) -> float:
        """A metric's sum on one route, or on all."""
        chosen = self.sums.values() if route is None else [self.sums.get(route, {})]
        return sum(each.get(metric, 0.0) for each in chosen)

    def quantile(self, share: float, *, first_byte: bool = False) -> float:
        """Of the durations (or times to the first byte) of all requests, in seconds."""
        values = self.first_bytes if first_byte else self.durations
        return values[min(len(values) - 1, int(share * len(values)))]


def run(
    load: Load, flags: Sequence[str], keep: Path, progress: Callable[[str], None] = lambda _: None
) -> Run:
    """Run one variant from scratch; its span store is kept in ``keep``.

    Raises:
        StartFailed: something did not start, or the guests failed.
    """
    distance = free_port()
    with running_stack(
        scale=load.scale,
        seed=load.seed,
        latency_scale=load.latency_scale,
        fail_rate=load.fail_rate,
        start_service=False,
    ) as stack:
        argv = python_module(
            "examples.loop.distance",
            *("--port", distance, "--to", stack.postgres.port, "--ms", load.distance_ms),
        )
        stack.supervisor.start(Spec("distance", argv, cwd=ROOT, healthy=port_open(distance)))
        if "fix.indexes" in flags:
            migrate(stack.postgres.dsn())
        stack.reset_ledgers()
        stack.start_service(
            {
                "DATABASE_URL": stack.postgres.dsn(SERVICE_ROLE).replace(
                    f":{stack.postgres.port}/", f":{distance}/"
                ),
                "TAXIMETER_EVIDENCE_VALUES": "200",
                "TAXIMETER_EVIDENCE_CODE": "3",
                "HOTEL_FLAGS": ",".join(flags),
            }
        )
        _play(stack, load, progress)
        stack.supervisor.stop("service")
        stack.drain()
        rows = balance(stack)
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(stack.store, keep, ignore=shutil.ignore_patterns(".*"))
    return read(keep, tuple(flags), rows)


def _play(stack: Stack, load: Load, progress: Callable[[str], None]) -> None:
    guests = stack.start_guests(
        duration=load.duration_s, rate=load.rate, guests=load.guests, extra=("--spread", str(load.spread))
    )
    begin = told = time.monotonic()
    while guests.running:
        time.sleep(0.2)
        if time.monotonic() - told > 20:
            told = time.monotonic()
            progress(f"{told - begin:3.0f} s of load")
    if guests.popen.returncode != 0:
        raise StartFailed(f"the guests ended with code {guests.popen.returncode}:\n{guests.tail()}")
    stack.supervisor.stop("guests")


def balance(stack: Stack) -> list[books.Row]:
    """The books of a run that has ended: spans, accounts and metrics against the three ledgers."""
    guests = ledgers.read_guests(stack.guests_log)
    provider = ledgers.read_lines(stack.provider_ledger)
    ledger = ledgers.ledger_figures(
        guests, provider, ledgers.read_postgres(stack.postgres.dsn(), SERVICE_ROLE)
    )
    with open_store(stack.store) as store:
        sources = {
            "spans": figures.from_spans(store),
            "accounts": figures.from_accounts(store),
            "metrics": figures.from_metrics(figures.parse_exposition(stack.scrape())),
        }
    return [row for source, ours in sources.items() for row in books.compare(source, ours, ledger)]


def read(path: Path, flags: tuple[str, ...], rows: list[books.Row]) -> Run:
    """The sums of a kept span store."""
    with open_store(path) as store:
        select(store, Filters())
        sums = _sums(store)
        durations = [row[0] for row in store.rows("SELECT duration_s FROM req ORDER BY 1")]
        firsts = [
            row[0] for row in store.rows("SELECT coalesce(first_byte_s, duration_s) FROM req ORDER BY 1")
        ]
        hits, lookups = store.rows(
            "SELECT count(*) FILTER (v LIKE '+%'), count(*) FROM (SELECT unnest(string_split("
            "regexp_extract(cache_keys, 'embedding=([^ ]+)', 1), ',')) AS v FROM requests) WHERE v <> ''"
        )[0]
        slow = store.rows(
            "SELECT sum(split_model_s) / sum(duration_s) FROM req "
            "WHERE duration_s >= (SELECT quantile_disc(duration_s, 0.95) FROM req)"
        )[0][0]
    return Run(flags, path, sums, durations, firsts, hits, lookups, slow or 0.0, rows)


def _sums(store: Store) -> dict[str, dict[str, float]]:
    columns = ", ".join(
        "sum(coalesce(first_byte_s, duration_s))" if name == "first_byte_s" else f"coalesce(sum({name}), 0)"
        for name in METRICS
    )
    found = store.rows(f"SELECT {LABEL}, count(*), {columns} FROM req GROUP BY 1")
    return {
        label: {"requests": float(count), **dict(zip(METRICS, map(float, values), strict=True))}
        for label, count, *values in found
    }
