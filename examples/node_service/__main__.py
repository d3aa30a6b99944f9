"""``python -m examples.node_service``: a Node service's requests, against three hand-made ledgers.

Starts Postgres, the provider's stand-in, a stand-in for PostgREST that counts, the collector with
``pricing`` and ``request_account``, and ``app.js`` under OpenTelemetry's own auto-instrumentation.
Sends so many requests to every route, and compares what the span store and ``/metrics`` say, by route, with
what the routes are known to do, with ``pg_stat_statements`` and with the provider's ledger.

Needs node and npm; the packages are installed outside the clone, once.
"""

from __future__ import annotations

import argparse
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from examples.demo.figures import Sample, parse_exposition
from examples.demo.postgres import embedded_postgres, run_directory
from examples.demo.stack import SERVICE_ROLE, Stack
from taximeter_cli.supervise import Spec, StartFailed, Supervisor, free_port, port_open
from taximeter_collector.prometheus import catalogue

HERE = Path(__file__).parent
ROOMS = 5  # of the hotel: the N+1 sends one statement for each
#: By route: database calls, model calls, embedding calls of one request.
TRUTH = {
    "/rooms/:hotel": (1 + ROOMS, 0, 0),
    "/booking/:room": (1, 0, 0),
    "/chat": (1, 1, 1),
    "/supabase": (3, 0, 0),
}
PATHS = {
    "/rooms/:hotel": "/rooms/a",
    "/booking/:room": "/booking/1",
    "/chat": "/chat?q=towels",
    "/supabase": "/supabase",
}
_SCHEMA = f"""
CREATE ROLE {SERVICE_ROLE} LOGIN;
CREATE TABLE rooms (id int PRIMARY KEY, hotel text, taken int DEFAULT 0);
CREATE TABLE prices (room int PRIMARY KEY, price numeric);
INSERT INTO rooms SELECT n, 'a' FROM generate_series(1, {ROOMS}) n;
INSERT INTO prices SELECT n, n FROM generate_series(1, {ROOMS}) n;
GRANT ALL ON rooms, prices TO {SERVICE_ROLE};
CREATE EXTENSION pg_stat_statements;
"""
_SENT = """
SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE rolname = %s AND query !~* '^(begin|commit|rollback)'
"""


def node_modules() -> Path:
    """Where the npm packages are; installed on the first call. Raises StartFailed."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise StartFailed(f"{tool} is not installed: this proof needs Node.js 20 or later")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taximeter" / "node_service"
    cache.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package.json").read_text()
    if not (cache / "package.json").exists() or (cache / "package.json").read_text() != wanted:
        print("installing the npm packages", flush=True)
        (cache / "package.json").write_text(wanted)
        argv = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        if subprocess.run(argv, cwd=cache, check=False, timeout=600).returncode:
            (cache / "package.json").unlink()
            raise StartFailed("npm install failed; see above")
    return cache / "node_modules"


@contextmanager
def postgrest(counts: Counter[str]) -> Iterator[int]:
    """A stand-in for PostgREST that answers nothing and counts by table or function; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            counts[self.path.partition("?")[0].removeprefix("/rest/v1/")] += 1
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        do_GET = do_POST = answer  # noqa: N815  (names of the standard library)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Ledgers:
    """What the others counted: Postgres, PostgREST, the provider."""

    statements: int
    tables: Counter[str]
    provider: dict[str, Any]


def run(requests: int) -> list[tuple[str, float, float]]:
    """Everything, once: rows of (what, Taximeter, ledger)."""
    modules = node_modules()
    tables: Counter[str] = Counter()
    with (
        run_directory() as place,
        Supervisor(place / "logs") as supervisor,
        postgrest(tables) as supabase,
        embedded_postgres(supervisor, place / "postgres") as postgres,
    ):
        config = HERE / "collector.yaml"
        stack = Stack(supervisor, place, postgres, collector_config=config, latency_scale=0.05)
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(_SCHEMA)
        stack.start_provider()
        stack.start_collector()
        stack.reset_ledgers()
        port = free_port()
        environment = {
            **stack.provider_env,
            "NODE_PATH": str(modules),
            "PORT": str(port),
            "DATABASE_URL": postgres.dsn(SERVICE_ROLE),
            "SUPABASE_URL": f"http://127.0.0.1:{supabase}",
            "OTEL_SERVICE_NAME": "node-service",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        register = modules / "@opentelemetry/auto-instrumentations-node/build/src/register.js"
        argv = ["node", "--require", str(register), str(HERE / "app.js")]
        supervisor.start(Spec("service", argv, env=environment, healthy=port_open(port)))
        failed = _send(f"http://127.0.0.1:{port}", requests)
        supervisor.stop("service")  # its last spans go out
        stored = _stored(stack, requests * len(PATHS))
        shown = _shown(stack, requests * len(PATHS))
        with psycopg.connect(postgres.dsn()) as connection:
            row = connection.execute(_SENT, (SERVICE_ROLE,)).fetchone()
            assert row is not None
        provider = httpx.get(f"http://127.0.0.1:{stack.ports.provider}/ledger").json()
    ledgers = Ledgers(int(row[0]), tables, provider)
    return [
        ("failed requests", failed, 0),
        *_rows("store", stored, requests, ledgers),
        *_rows("/metrics", shown, requests, ledgers),
    ]


def _send(url: str, requests: int) -> int:
    failed = 0
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(requests):
            for path in PATHS.values():
                failed += client.get(path).status_code != 200
            if number % 10 == 9:
                print(f"  {(number + 1) * len(PATHS)} requests", flush=True)
    return failed


def _stored(stack: Stack, requests: int) -> dict[str, tuple[Any, ...]]:
    """By route: requests, database, model and embedding calls, tokens in and out, money."""
    query = f"""SELECT http_route, count(*), sum(db_calls), sum(model_calls), sum(embedding_calls),
        sum(input_tokens), sum(output_tokens), sum(cost_usd)
        FROM read_parquet('{stack.store}/requests/*.parquet', union_by_name=true) GROUP BY 1"""
    deadline = time.monotonic() + 60
    while True:
        if list((stack.store / "requests").glob("*.parquet")):
            found = {row[0]: row[1:] for row in duckdb.connect().execute(query).fetchall()}
            if sum(row[0] for row in found.values()) >= requests:
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {requests} requests in the store after 60 s: {stack.store}")
        time.sleep(0.5)


#: The same columns as metrics. The pages of a scrape have no order, so each is summed by route.
_METRICS = (
    catalogue.REQUESTS.count,
    catalogue.DB_CALLS.sum,
    catalogue.MODEL_CALLS,
    catalogue.EMBEDDING_CALLS,
    catalogue.TOKENS_INPUT,
    catalogue.TOKENS_OUTPUT,
    catalogue.COST,
)


def _shown(stack: Stack, requests: int) -> dict[str, tuple[Any, ...]]:
    """The same from ``/metrics``, as a scrape sees it."""
    deadline = time.monotonic() + 60
    while True:
        samples = parse_exposition(stack.scrape())
        if sum(s.value for s in samples if s.name == _METRICS[0]) >= requests:
            stack.drain()
            samples = parse_exposition(stack.scrape())
            return {route: tuple(_sum(samples, name, route) for name in _METRICS) for route in TRUTH}
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {requests} requests in /metrics after 60 s")
        time.sleep(0.5)


def _sum(samples: list[Sample], name: str, route: str) -> float:
    return sum(s.value for s in samples if s.name == name and s.labels.get(catalogue.ROUTE) == route)


def _rows(
    where: str, found: dict[str, tuple[Any, ...]], requests: int, ledgers: Ledgers
) -> list[tuple[str, float, float]]:
    rows: list[tuple[str, float, float]] = []
    whats = ("requests", "database calls", "model calls", "embedding calls")
    for route, truth in TRUTH.items():
        for what, got, expected in zip(whats, found.get(route, (0,) * 7), (1, *truth), strict=False):
            rows.append((f"{where}: {route}: {what}", got, expected * requests))
    sql = sum(row[1] for route, row in found.items() if route != "/supabase")
    rows.append((f"{where}: statements, by pg_stat_statements", sql, ledgers.statements))
    rows.append((f"{where}: PostgREST calls, by PostgREST", found["/supabase"][1], ledgers.tables.total()))
    for at, what, key in (
        (4, "input tokens", "input_tokens"),
        (5, "output tokens", "output_tokens"),
        (6, "money (USD)", "cost_usd"),
    ):
        ours = sum(row[at] or 0 for row in found.values())
        rows.append((f"{where}: {what}, by the provider", ours, float(ledgers.provider[key])))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.node_service", description=__doc__)
    parser.add_argument("--requests", type=int, default=50, help="to each of the four routes (default 50)")
    options = parser.parse_args()
    try:
        rows = run(options.requests)
    except (StartFailed, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    table = Table("what", "Taximeter", "ledger", "difference", title="A Node service without the agent")
    wrong = []
    for what, ours, theirs in rows:
        same = abs(ours - theirs) <= 1e-9 * max(abs(ours), abs(theirs))
        wrong += [] if same else [what]
        table.add_row(what, f"{ours:,.10g}", f"{theirs:,.10g}", "0" if same else f"{ours - theirs:g}")
    Console(emoji=False).print(table)
    print(f"differs: {', '.join(wrong)}" if wrong else f"{len(rows)} rows, every difference 0")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
