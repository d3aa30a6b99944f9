"""The nearest peer that installs: Arize Phoenix, which keeps OTLP spans in SQLite and is asked by GraphQL.

A program of its own (``TAXIMETER_PHOENIX``, else ``phoenix`` on the PATH), given the same spans over
OTLP/HTTP on loopback, and asked for what it and a report both have: requests and P50, P95 and P99 of each
route, all tokens, all money. It takes spans in slowly, so it gets fewer of them, and Taximeter the same few.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx

from benchmarks.analysis.generate import ROUTES
from benchmarks.analysis.otlp import requests_of
from taximeter_analysis.loadtest.run import free_port
from taximeter_analysis.readers.spans import write_store

SPANS = 20_000  # it takes a few hundred a second
_PATIENCE_S = 900.0


class _Cost(Protocol):
    @property
    def seconds(self) -> float: ...


def run(
    store: Path,
    folder: Path,
    say: Callable[[str], None],
    report_cost: Callable[[Path], _Cost],
    spans: int = SPANS,
) -> None:
    """Start it, fill it, ask it, stop it; then `taximeter report` over the same spans."""
    program = os.environ.get("TAXIMETER_PHOENIX") or shutil.which("phoenix")
    if not program:
        say(
            "\nPhoenix: not installed (arize-phoenix in an environment of its own; TAXIMETER_PHOENIX=program)"
        )
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    port = free_port()
    settings = {
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false",
    }  # fmt: skip
    with (folder / "phoenix.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve"], env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        sent, asked = _measure(store, folder, f"http://127.0.0.1:{port}", say, spans)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    same = folder / "same"
    write_store(same, (body for _, body in requests_of(store, spans)), lambda number: None)
    ours = statistics.median(report_cost(same).seconds for _ in range(3))
    size = sum(path.stat().st_size for path in same.rglob("*.parquet"))
    say(
        f"  the same {sent:,} spans with `taximeter report`, start of Python included: {ours:.2f} s, "
        f"{asked / ours:.1f} times as fast; {size / sent:,.0f} bytes a span, not compacted"
    )


def _measure(
    store: Path, folder: Path, url: str, say: Callable[[str], None], spans: int
) -> tuple[int, float]:
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        _until(lambda: client.get("/healthz").is_success, "Phoenix to answer")
        begin, sent = time.monotonic(), 0
        for count, body in requests_of(store, spans):
            headers = {"content-type": "application/x-protobuf"}
            while client.post("/v1/traces", content=body, headers=headers).status_code in (429, 503):
                time.sleep(0.5)
            sent += count
        _until(lambda: _stored(client) >= sent, f"Phoenix to store {sent:,} spans")
        filled = time.monotonic() - begin
        begin = time.monotonic()
        for question in _QUESTIONS:
            _ask(client, question)
        asked = time.monotonic() - begin
    size = sum(path.stat().st_size for path in folder.glob("phoenix.db*"))
    say(
        f"\nPhoenix, {sent:,} spans\n"
        f"  filled at {sent / filled:,.0f} spans/s, {size / sent:,.0f} bytes a span\n"
        f"  requests and P50, P95, P99 of {len(ROUTES)} routes, tokens, money: {asked:.1f} s"
    )
    return sent, asked


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if done():
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"waited {_PATIENCE_S:.0f} s for {what}: see its log (--keep)")
        time.sleep(1)


def _ask(client: httpx.Client, fields: str) -> dict[str, Any]:
    query = "{ projects { edges { node { name " + fields + " } } } }"
    answer = client.post("/graphql", json={"query": query}).raise_for_status().json()
    if answer.get("errors"):
        raise SystemExit(f"Phoenix: {answer['errors'][0]['message']}")
    return {edge["node"]["name"]: edge["node"] for edge in answer["data"]["projects"]["edges"]}


def _stored(client: httpx.Client) -> int:
    return int(_ask(client, "recordCount").get("default", {"recordCount": 0})["recordCount"])


def _of_route(number: int, name: str) -> str:
    which = f"filterCondition: {json.dumps(f'name == {name!r}')}"
    return f"n{number}: recordCount({which}) " + " ".join(
        f"p{q}_{number}: spanLatencyMsQuantile(probability: 0.{q}, {which})" for q in (50, 95, 99)
    )


_AT_ONCE = 12  # routes: it takes 50 aliases in a question
_QUESTIONS = (
    "recordCount traceCount tokenCountTotal costSummary { total { cost } }",
    *(
        " ".join(_of_route(number, f"{route[0]} {route[1]}") for number, route in part)
        for part in (tuple(enumerate(ROUTES))[:_AT_ONCE], tuple(enumerate(ROUTES))[_AT_ONCE:])
    ),
)
