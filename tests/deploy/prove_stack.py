"""``make prove-stack``: one run of the example, watched by Prometheus 2.42 and 3.x in every way, and Tempo.

Every server must answer every query of the dashboards and record what every rule records, must hold the same
sums, and must raise the same page when an N+1 query comes in. Every exemplar and every TraceQL search of an
alert must lead to a trace in Tempo. Exit codes: 0 all of it holds, 1 something does not, or did not start.
"""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from examples.demo import stack as demo
from examples.demo.stack import Stack, running_stack
from examples.page.evidence import query_of
from examples.page.tempo import Tempo
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.recording import records
from taximeter_alerts.rules import alerts_file, all_alerts, recording_file
from taximeter_alerts.thresholds import Thresholds
from taximeter_cli.supervise import StartFailed, terminate_as_interrupt
from taximeter_collector.prometheus import catalogue as c
from tests.dashboards.queries import every_query, filled
from tests.deploy.watchers import OTLP, SCRAPE, Server, collector_config, exemplars, servers

WINDOWS = {"__rate_interval": "20s", "__range": "10m", "ago": "20s", "before": "1.0.0", "after": "2.0.0"}
PATIENCE = float(os.environ.get("PROVE_STACK_PATIENCE", "120"))
PAGE = "TaximeterRepeatedStatements"
SUMS = {
    "requests": c.REQUESTS.count,
    "of them within 2 s": f"{c.REQUESTS.bucket}{{{c.at_most(2)}}}",
    "database calls": c.DB_CALLS.sum,
    "input tokens": c.TOKENS_INPUT,
    "USD": c.COST,
}
"""Of which every server must hold the same sum."""
SERVICE_GRAPH = "sum(traces_service_graph_request_total)"
PROFILE = replace(PROFILES["demo"], history="1m")
_failures: list[str] = []


def tell(text: str) -> None:
    print(text, flush=True)


def verdict(what: str, left: list[str], of: int) -> None:
    """One line, and what is missing below it. Nothing to check is a failure: it would show nothing."""
    tell(f"  {what}: {of - len(left)} of {of}")
    if of == 0:
        left = [f"{what}: there was nothing to check"]
    for one in left:
        tell(f"    MISSING {one}")
        _failures.append(one)


def until_none(found: Callable[[], list[str]]) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while (left := found()) and time.monotonic() < deadline:
        time.sleep(1)
    return left


def run() -> None:
    found = servers()
    with tempfile.TemporaryDirectory(prefix="taximeter-stack-") as name:
        folder = Path(name)
        writable = next(server for server in found if server.modern and server.way == SCRAPE)
        tempo = Tempo.on_free_ports(writable.port)
        config = folder / "collector.yaml"
        collector_config(found, tempo, Path(demo.__file__).with_name("collector.yaml"), config)
        (folder / "rules-recording.yaml").write_text(recording_file(profile=PROFILE))
        (folder / "rules-alerts.yaml").write_text(alerts_file(profile=PROFILE))
        quick = {"OTEL_METRIC_EXPORT_INTERVAL": "2000"}
        version = {**quick, "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.0.0"}
        with running_stack(
            scale="small", latency_scale=0.2, service_env=version, collector_config=config, progress=tell
        ) as stack:
            tell("starting Tempo")
            tempo.start(stack.supervisor, folder)
            for server in found:
                tell(f"starting {server}")
                server.start(stack.supervisor, folder, folder / "rules-*.yaml", stack, tempo.at.tempo)
            guests = stack.start_guests(duration=20, rate=12, guests=50)
            guests.popen.wait(300)
            stack.start_service({**quick, "OTEL_RESOURCE_ATTRIBUTES": "service.version=2.0.0"})
            stack.start_guests(duration=1200, rate=12, guests=50)
            for server in found:
                tell(str(server))
                answers(server)
            tell(f"fault.n_plus_one_rooms and fault.errors are switched on: {PAGE} must fire everywhere")
            stack.set_flags(fault_n_plus_one_rooms=True, fault_errors=True)
            links: dict[str, str] = {}
            for server in found:
                verdict(f"{server}: page", until_none(partial(not_firing, server, links)), 1)
            traces(found, tempo, links)
            graph = until_none(
                lambda: [] if any(s.value for s in writable.api.query(SERVICE_GRAPH)) else [SERVICE_GRAPH]
            )
            verdict("Tempo's service graph, written to Prometheus 3", graph, 1)
            sums(stack, found)


def answers(server: Server) -> None:
    """Every query and every rule has data, without an error."""
    queries = [one for one in every_query() if not one.query.empty_when_healthy and not one.query.needs]

    def silent() -> list[str]:
        queries_left = []
        for one in queries:
            values = [sample.value for sample in server.api.query(filled(one.query.expr, WINDOWS))]
            if all(math.isnan(value) for value in values):
                queries_left.append(str(one))
        return queries_left

    verdict("queries of the dashboards with data", until_none(silent), len(queries))
    wanted = [rule.name for rule in records(Thresholds(), PROFILE) if not rule.empty_when_healthy]
    verdict(
        "recording rules with data",
        until_none(lambda: [name for name in wanted if not server.api.query(name)]),
        len(wanted),
    )
    answer = demo._http.get(f"{server.api.url}/api/v1/rules").raise_for_status().json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    bad = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    verdict("rules evaluated without an error", bad, len(rules))


def not_firing(server: Server, links: dict[str, str]) -> list[str]:
    """Nothing once the page fires there; its link to traces is kept, as whoever is paged has it."""
    alerts = demo._http.get(f"{server.api.url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    for one in alerts:
        if one["labels"]["alertname"] == PAGE and one["state"] == "firing":
            links[str(server)] = one["annotations"]["traces_url"]
            return []
    return [PAGE]


def traces(found: list[Server], tempo: Tempo, links: dict[str, str]) -> None:
    """Exemplars of every panel that shows them, and the searches of alerts, lead to traces."""
    tell("links to traces")
    panels = [one for one in every_query() if one.query.exemplars]
    for server in found:
        ids = {str(one): exemplars(server, filled(one.query.expr, WINDOWS)) for one in panels}
        none = [name for name, some in ids.items() if not some]
        verdict(f"{server}: panels whose exemplars exist", none, len(ids))
        some = sorted({trace_id for every in ids.values() for trace_id in every[:: max(1, len(every) // 3)]})
        verdict(f"{server}: exemplars found in Tempo", until_none(partial(not_in, tempo, some)), len(some))
    searches = list(searches_of_alerts())
    left = until_none(
        lambda: [f"{name}: {one}" for name, query in searches for one in not_found(tempo, query)]
    )
    verdict("TraceQL searches of alerts that find traces in Tempo", left, len(searches))
    for name, link in links.items():
        left = until_none(partial(not_found, tempo, query_of(link)))
        verdict(f"{name}: the page's own link, decoded, finds traces", left, 1)


def not_in(tempo: Tempo, trace_ids: list[str]) -> list[str]:
    return [trace_id for trace_id in trace_ids if not tempo.has(trace_id)]


def not_found(tempo: Tempo, query: str) -> list[str]:
    return [] if tempo.search(query) else [query]


def searches_of_alerts() -> Iterator[tuple[str, str]]:
    """Each alert's search with the example's labels in it."""
    labels = {c.JOB: "hotel-chat", c.ROUTE: "/hotels/{hotel}/rooms", c.MODEL: "gpt-4o", c.VERSION: "2.0.0"}
    embedding = {**labels, c.ROUTE: "/hotels/{hotel}/faq/search"}
    for alert in all_alerts(Thresholds(), PROFILE):
        values = embedding if "Embedding" in alert.name else labels
        if alert.traces:
            query = re.sub(r"\{\{ \$labels\.(\w+) \}\}", partial(value_of, values), alert.traces)
            # Limits in seconds are those of a slow service; the example's requests take a tenth of that.
            yield alert.name, re.sub(r"duration > [\d.]+s", "duration > 1ms", query)


def value_of(values: dict[str, str], label: re.Match[str]) -> str:
    return values[label[1]]


def sums(stack: Stack, found: list[Server]) -> None:
    """With the service stopped and the collector's queues empty, every server holds the same."""
    tell("the same sums everywhere")
    stack.supervisor.stop("guests")
    stack.supervisor.stop("service")
    stack.drain(300)
    time.sleep(10)  # a scrape more
    for name, selector in SUMS.items():
        query = f"sum(last_over_time({selector}[30m]))"
        values = {str(server): server.api.query(query)[0].value for server in found}
        first = values[str(found[0])]
        wrong = [f"{who}: {value!r}" for who, value in values.items() if abs(value - first) > 1e-9 * first]
        tell(f"  {name}: {first!r} at {found[0]}")
        verdict(f"{name}, equal", wrong, len(values))


def main() -> int:
    try:
        with terminate_as_interrupt():
            run()
    except StartFailed as error:
        print(f"prove-stack: {error}", file=sys.stderr)
        return 1
    skipped = (
        ""
        if any(server.way not in {SCRAPE, OTLP} for server in servers())
        else " Remote write was not tried."
    )
    tell(f"{len(_failures)} failures.{skipped}" if _failures else f"All of it holds.{skipped}")
    return int(bool(_failures))


if __name__ == "__main__":
    sys.exit(main())
