"""One run of a variant: a fresh stack, the flags, the same guests, the books, and the sums by route."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openai import OpenAI

from examples.demo import books, figures, ledgers
from examples.demo.stack import ROOT, SERVICE_ROLE, Stack, python_module, running_stack
from examples.hotel_chat.flags import SHARED
from examples.hotel_chat.migrations import migrate
from examples.hotel_chat.warmup import warm
from examples.loop.yesterday import remember_yesterday
from taximeter import pricing
from taximeter_analysis import open_store
from taximeter_analysis.advise.model import METRICS
from taximeter_analysis.figures import LABEL
from taximeter_analysis.findings import hex_trace
from taximeter_analysis.selection import select
from taximeter_analysis.store import Store
from taximeter_analysis.window import Filters
from taximeter_cli.supervise import Spec, StartFailed, free_port, port_open

NAMES = "names.json"  # in a kept store: trace id -> what the guest calls the request


@dataclass(frozen=True)
class Load:
    """How a run is driven; the same for all of a loop. ``distance_ms``: one way to the database."""

    duration_s: float = 45.0
    rate: float = 14.0
    guests: int = 100
    seed: int = 7
    latency_scale: float = 1.0
    distance_ms: float = 10.0
    scale: str = "demo"
    spread: float = 0.0  # of the mix of requests and hotels
    fail_rate: float = 0.02  # share of the model calls that the provider refuses at first

    @property
    def models(self) -> str:
        """How fast the models of the example's provider answer, in words."""
        times = "" if self.latency_scale == 1 else f"{self.latency_scale:g} times "
        return f"the models take about {times}as long to answer as the real services"


@dataclass(frozen=True, slots=True)
class Timed:
    """One request, by the name that is the same in every run."""

    label: str
    duration_s: float
    first_byte_s: float
    db_s: float
    model_s: float


@dataclass(frozen=True)
class Run:
    """What one variant came to. ``sums``: route -> metric -> sum over its requests."""

    flags: tuple[str, ...]
    store: Path
    sums: dict[str, dict[str, float]]
    times: dict[str, Timed]
    hits: float
    lookups: float
    output_usd: float  # what the answers of the models cost, without a token of input
    segments: dict[str, dict[str, float]] = field(default_factory=dict)  # of a trial: requests, tokens, money
    books: list[books.Row] = field(default_factory=list)
    order: int = 0  # which run of the loop it was

    @property
    def balanced(self) -> bool:
        return bool(self.books) and all(row.balanced for row in self.books)

    def total(self, metric: str, route: str | None = None) -> float:
        """A metric's sum on one route, or on all."""
        chosen = self.sums.values() if route is None else [self.sums.get(route, {})]
        return sum(each.get(metric, 0.0) for each in chosen)

    def quantile(self, share: float, of: Callable[[Timed], float] = lambda each: each.duration_s) -> float:
        """Of the durations of all requests (or of another time of theirs), in seconds."""
        values = sorted(map(of, self.times.values()))
        return values[min(len(values) - 1, int(share * len(values)))]


def run(
    load: Load,
    flags: Sequence[str],
    keep: Path,
    progress: Callable[[str], None] = lambda _: None,
    *,
    redis: str | None = None,
    order: int = 0,
) -> Run:
    """Run one variant from scratch; its span store is kept in ``keep``. ``redis``: the server's program.

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
        environment = {
            "DATABASE_URL": stack.postgres.dsn(SERVICE_ROLE).replace(
                f":{stack.postgres.port}/", f":{distance}/"
            ),
            "TAXIMETER_EVIDENCE_VALUES": "200",
            "TAXIMETER_EVIDENCE_CODE": "3",
            "TAXIMETER_REDIS_CACHES": "embedding:=shared",
            "HOTEL_FLAGS": ",".join(flags),
        }
        if redis and SHARED & set(flags):
            environment["HOTEL_REDIS_URL"] = _start_redis(stack, redis)
        _prepare(stack, load, flags)
        stack.reset_ledgers()
        stack.start_service(environment)
        _play(stack, load, progress)
        stack.supervisor.stop("service")
        stack.drain()
        rows = balance(stack)
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(stack.store, keep, ignore=shutil.ignore_patterns(".*"))
        guests = (json.loads(line) for line in stack.guests_log.read_text().splitlines())
        (keep / NAMES).write_text(json.dumps({each["trace_id"]: each["request"] for each in guests}))
    return read(keep, tuple(flags), rows, order)


def _prepare(stack: Stack, load: Load, flags: Sequence[str]) -> None:
    """What an administrator does before the service starts."""
    remember_yesterday(stack.postgres.dsn(), load.seed)
    if "fix.indexes" in flags:
        migrate(stack.postgres.dsn())
    if "fix.cache_warmup" in flags:
        to = stack.provider_env
        with OpenAI(base_url=to["OPENAI_BASE_URL"], api_key=to["OPENAI_API_KEY"]) as client:
            warm(stack.postgres.dsn(), client)


def _start_redis(stack: Stack, program: str) -> str:
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    spec = Spec("redis", [program, *options], cwd=stack.directory, healthy=port_open(port))
    stack.supervisor.start(spec)
    return f"redis://127.0.0.1:{port}/0"


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


def names_of(path: Path) -> dict[str, str]:
    """Trace id -> name of the request, of a kept run."""
    names: dict[str, str] = json.loads((path / NAMES).read_text())
    return names


def read(path: Path, flags: tuple[str, ...], rows: list[books.Row], order: int = 0) -> Run:
    """The sums of a kept span store."""
    names = names_of(path)
    with open_store(path) as store:
        select(store, Filters())
        sums = _sums(store)
        timed = store.rows(
            f"SELECT trace_hi, trace_lo, {LABEL}, duration_s, coalesce(first_byte_s, duration_s), "
            "coalesce(split_db_s, 0), coalesce(split_model_s, 0) FROM req"
        )
        times = {
            names[trace]: Timed(*each)
            for high, low, *each in timed
            if (trace := hex_trace(high, low)) in names
        }
        hits, lookups = store.rows(
            "SELECT count(*) FILTER (v LIKE '+%'), count(*) FROM (SELECT unnest(string_split("
            "regexp_extract(cache_keys, 'embedding=([^ ]+)', 1), ',')) AS v FROM requests) WHERE v <> ''"
        )[0]
        output = _output(store)
        segments = {
            name: {"requests": float(count), "input_tokens": float(tokens), "cost_usd": float(cost)}
            for name, count, tokens, cost in store.rows(_SEGMENTS)
        }
    return Run(flags, path, sums, times, hits, lookups, output, segments, rows, order)


_SEGMENTS = """
    SELECT q.segment, count(*), sum(r.input_tokens), sum(r.cost_usd)
    FROM req r JOIN requests q USING (trace_hi, trace_lo, span_id)
    WHERE q.segment IS NOT NULL AND r.model_calls > 0 GROUP BY 1 ORDER BY 1
"""


def _output(store: Store) -> float:
    """What the tokens of all answers cost."""
    book, _ = pricing.load()
    return sum(
        book.quote(provider or "", [model], pricing.Usage(output=tokens), when=time.time()).cost or 0.0
        for model, provider, tokens in store.rows(
            "SELECT coalesce(ai_response_model, ai_request_model), ai_provider, "
            "sum(ai_output_tokens)::BIGINT FROM spans WHERE ai_output_tokens > 0 GROUP BY ALL"
        )
    )


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
