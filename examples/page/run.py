"""``make page``: what an operator would live through, with the seconds it took.

Per fault: switch it on in the running service, wait for the notification at the webhook, check its
links, switch it off, wait for the resolve. The rules are the rendered ones with the demonstration's
windows, so the seconds are those of short windows; expressions and limits are the real ones.
Exit codes: 0 every page and resolve arrived, and a trace that shows the N+1; 1 one did not, or something did
not start; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from examples.demo import stack as demo
from examples.demo.stack import Progress, Stack, running_stack
from examples.page.evidence import Repeats, followed, repeated_statements
from examples.page.faults import FAULTS, N_PLUS_ONE, Fault
from examples.page.monitoring import Prometheus, start_alertmanager, start_prometheus
from examples.page.tempo import Tempo, find, with_tempo
from examples.page.webhook import Notice, Webhook
from taximeter_alerts.model import PAGE
from taximeter_alerts.profile import DEMO
from taximeter_cli.main import main as taximeter
from taximeter_cli.supervise import StartFailed, free_port, terminate_as_interrupt
from taximeter_collector.prometheus import catalogue as c

RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
BUDGET = Path(__file__).with_name("budget.yaml")
DEMO_CONFIG = Path(demo.__file__).with_name("collector.yaml")


@dataclass
class Outcome:
    """What happened to one fault. Seconds are None where nothing arrived in time."""

    fault: Fault
    page: Notice | None = None
    page_s: float | None = None
    resolve_s: float | None = None
    evidence: Repeats | None = None
    others: set[str] = field(default_factory=set)
    """Alerts that arrived meanwhile, beside the expected one."""

    @property
    def ok(self) -> bool:
        shown = self.evidence is not None or self.fault.name != N_PLUS_ONE
        return self.page_s is not None and self.resolve_s is not None and shown


@dataclass
class Rehearsal:
    """The running stack with everything that makes a page."""

    stack: Stack
    prometheus: Prometheus
    webhook: Webhook
    timeout: float
    tempo: Tempo | None = None

    def play(self, fault: Fault) -> Outcome:
        """Cause it, wait for the page; end it, wait for the resolve."""
        outcome = Outcome(fault)
        before = len(self.webhook.notices)
        caused = time.monotonic()
        self._switch(fault, on=True)
        outcome.page = self._wait(fault, firing=True, since=caused)
        if outcome.page is not None:
            outcome.page_s = outcome.page.at - caused
            if fault.name == N_PLUS_ONE:
                outcome.evidence = self._n_plus_one(outcome.page)
        ended = time.monotonic()
        self._switch(fault, on=False)
        if outcome.page is not None:
            resolved = self._wait(fault, firing=False, since=ended, about=outcome.page.labels)
            outcome.resolve_s = resolved.at - ended if resolved else None
        arrived = {notice.name for notice in self.webhook.notices[before:] if notice.firing}
        outcome.others = arrived - {fault.alert}
        return outcome

    def _switch(self, fault: Fault, *, on: bool) -> None:
        if fault.flag:
            self.stack.set_flags(**{fault.flag.replace(".", "_", 1): on})
        elif on:
            self.stack.supervisor.kill("collector")
        else:
            self.stack.start_collector()

    def _wait(
        self, fault: Fault, *, firing: bool, since: float, about: Mapping[str, str] | None = None
    ) -> Notice | None:
        wanted = dict(about or fault.labels).items()
        return self.webhook.wait(
            lambda notice: (
                notice.at >= since
                and notice.firing == firing
                and notice.name == fault.alert
                and wanted <= notice.labels.items()
            ),
            self.timeout,
        )

    def _n_plus_one(self, page: Notice) -> Repeats | None:
        """The trace behind the page: by its link where a Tempo runs, else by exemplars of its route."""
        route = page.labels[c.ROUTE]
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.tempo is not None:
                if evidence := followed(page.annotations["traces_url"], self.tempo):
                    return evidence
                time.sleep(0.5)
                continue
            now = time.time()
            series = self.prometheus.get(
                "query_exemplars",
                query=f'{c.DB_CALLS.bucket}{{{c.ROUTE}="{route}"}}',
                start=now - 120,
                end=now + 60,
            )
            ids = [found["labels"]["trace_id"] for each in series for found in each["exemplars"]]
            if evidence := repeated_statements(self.stack.store, route, ids):
                return evidence
            time.sleep(0.5)
        return None


def rehearse(
    faults: Sequence[Fault], *, rate: float, warm_up: float, timeout: float, tell: Progress
) -> tuple[list[Outcome], set[str]]:
    """Start everything, let history build up, then play every fault; stops all of it at the end.

    Also returns the alerts that arrived before the first fault.
    """
    with (
        Webhook() as webhook,
        tempfile.TemporaryDirectory(prefix="taximeter-page-") as folder,
        contextlib.ExitStack() as started,
    ):
        port = free_port()
        tempo = Tempo.on_free_ports(port) if find() else None
        config = DEMO_CONFIG if tempo is None else with_tempo(DEMO_CONFIG, tempo, Path(folder) / "c.yaml")
        stack = started.enter_context(
            running_stack(
                progress=tell,
                scale="small",
                latency_scale=0.2,
                service_env={"OTEL_METRIC_EXPORT_INTERVAL": "1000"},
                collector_config=config,
            )
        )
        if tempo is None:
            tell("no Tempo on PATH nor in TAXIMETER_TEMPO: traces are looked up in the span store")
        else:
            tell("starting Tempo")
            tempo.start(stack.supervisor, Path(folder))
        rules = stack.directory / "rules"
        render(rules, webhook.url)
        tell("starting Alertmanager and Prometheus with the rendered rules")
        alertmanager = start_alertmanager(stack.supervisor, rules, stack.directory / "alertmanager")
        prometheus = start_prometheus(
            stack.supervisor,
            rules,
            stack.directory / "prometheus",
            metrics=stack.ports.prometheus,
            telemetry=stack.ports.telemetry,
            alertmanager=alertmanager,
            port=port,
        )
        stack.start_guests(duration=warm_up + 3 * timeout * len(faults), rate=rate, guests=60)
        tell(f"normal traffic for {warm_up:g} s: the history that a regression is judged against")
        time.sleep(warm_up)
        normal = {notice.name for notice in webhook.notices if notice.firing}
        rehearsal = Rehearsal(stack, prometheus, webhook, timeout, tempo)
        outcomes = []
        for fault in faults:
            stack.supervisor.ensure_running()
            outcomes.append(rehearsal.play(fault))
            for line in describe(outcomes[-1]):
                tell(line)
        return outcomes, normal


def render(directory: Path, webhook: str) -> None:
    """What an operator would render, with the demonstration's windows."""
    words = ["alerts", "render", "--profile", "demo", "--output", str(directory), "--webhook", webhook]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if taximeter([*words, "--budget", str(BUDGET), "--runbooks-url", str(RUNBOOKS)]) != 0:
            raise StartFailed("the rules could not be rendered; run: taximeter " + " ".join(words))


def describe(outcome: Outcome) -> Iterator[str]:
    """What one fault brought, for a person to read."""
    fault, page = outcome.fault, outcome.page
    yield f"fault: {fault.name}" + (f" ({fault.flag} switched on)" if fault.flag else " (kill -9)")
    if page is None:
        yield f"  NOTHING arrived: {fault.alert} was expected"
        return
    kind = "page" if page.labels["severity"] == PAGE else "ticket"
    yield f"  {kind} after {outcome.page_s:.1f} s: {page.annotations['summary']}"
    yield f"    {page.annotations['description']}"
    for name in ("runbook_url", "dashboard_url", "traces_url"):
        if name in page.annotations:
            link = page.annotations[name].replace(str(RUNBOOKS), "docs/runbooks")
            yield f"    {name.removesuffix('_url'):9} {link}"
    if outcome.evidence:
        yield f"    {outcome.evidence}"
    elif fault.name == N_PLUS_ONE:
        yield "    NO TRACE that shows it was found"
    if outcome.resolve_s is None:
        yield "  NO RESOLVE arrived"
    else:
        yield f"  fault ended; resolved after {outcome.resolve_s:.1f} s"
    if outcome.others:
        yield f"  arrived meanwhile: {', '.join(sorted(outcome.others))}"


def main() -> int:
    """Run the rehearsal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.page", description=__doc__.splitlines()[0])
    parser.add_argument("--fault", choices=FAULTS, action="append", help="this one alone (may be repeated)")
    parser.add_argument("--rate", type=float, default=25.0, help="requests per second (default %(default)s)")
    parser.add_argument("--warm-up", type=float, default=75.0, help="seconds before the first fault")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for a notification")
    args = parser.parse_args()
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    try:
        with terminate_as_interrupt():
            outcomes, normal = rehearse(
                [FAULTS[name] for name in args.fault or FAULTS],
                rate=args.rate,
                warm_up=args.warm_up,
                timeout=args.timeout,
                tell=tell,
            )
    except (StartFailed, TimeoutError, httpx.HTTPError) as error:
        print(f"The rehearsal could not go on: {error}")
        return 1
    except KeyboardInterrupt:
        print("interrupted: everything was stopped and removed")
        return 130
    print(f"\nin normal traffic arrived: {', '.join(sorted(normal)) or 'nothing'}\n")
    print(f"{'fault':18}{'alert':32}{'kind':8}{'to notice':>10}{'to resolve':>12}")
    for outcome in outcomes:
        kind = "page" if outcome.page and outcome.page.labels["severity"] == PAGE else "ticket"
        row = f"{outcome.fault.name:18}{outcome.fault.alert:32}{kind:8}"
        print(f"{row}{_seconds(outcome.page_s):>10}{_seconds(outcome.resolve_s):>12}")
    print(f"\nwindows: {DEMO.note}")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
