"""The way of a canary, step by step: each step finds it, or says why it was lost there and what to do.

The order is the order of the data: collector, Prometheus, rules, Alertmanager, Tempo, Grafana. A step
raises :class:`Lost`; later steps are not tried, because they could only repeat the reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import yaml

from taximeter_alerts.pipeline import WATCHDOG
from taximeter_cli.stack.canary import QUERY, Canary
from taximeter_cli.stack.files import PROMETHEUS_UID, TEMPO_UID
from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.grafana import Grafana, GrafanaError

PARTS = ("prometheus", "alertmanager", "tempo", "grafana")


class Lost(Exception):
    """The canary did not get through a step: why, and what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}. {remedy}")
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True)
class Where:
    """Addresses to ask. None: that part is left out, on purpose."""

    collector: str
    prometheus: str | None
    alertmanager: str | None
    tempo: str | None
    grafana: str | None
    grafana_token: str | None = None
    timeout: float = 90.0
    """Seconds that one step may wait: Prometheus tells a new Alertmanager of an alert within a minute."""


@dataclass(frozen=True)
class Step:
    """One step; ``find`` returns what was found, in words."""

    name: str
    find: Callable[[], str]


class Journey:
    """One canary and the steps it takes."""

    def __init__(self, where: Where, canary: Canary) -> None:
        self.where = where
        self.canary = canary
        self._http = httpx.Client(timeout=10)

    def steps(self) -> Iterator[Step]:
        """In the order of the data."""
        w = self.where
        yield Step("collector takes OTLP", self.collector)
        if w.prometheus:
            yield Step("Prometheus answers", self.prometheus_answers)
            yield Step("Prometheus has the scrape job", self.scrape_job)
            yield Step("Prometheus has the rules", self.rules)
            if w.alertmanager:
                yield Step("Prometheus has an Alertmanager", self.alerting)
            yield Step("Prometheus scrapes the collector", self.targets)
            yield Step("Prometheus has the canary", self.prometheus_has_it)
        if w.alertmanager:
            yield Step("Alertmanager answers", self.alertmanager_answers)
            if w.prometheus:
                yield Step("the watchdog alert arrives", self.watchdog)
        if w.tempo:
            yield Step("Tempo answers", self.tempo_answers)
            yield Step("Tempo has the canary's trace", self.tempo_has_it)
        if w.grafana:
            yield Step("Grafana answers", self.grafana_answers)
            yield Step("Grafana has the data sources", self.data_sources)
            if w.prometheus:
                yield Step("Grafana reads the canary", self.grafana_reads_it)
            yield Step("Grafana has the dashboards", self.dashboards)

    # --- collector --------------------------------------------------------------------
    def collector(self) -> str:
        url = self.where.collector
        try:
            self.canary.send(url)
        except httpx.HTTPStatusError as error:
            raise Lost(
                f"{url} answered {error.response.status_code} to an OTLP request",
                "503 is a full log or memory; 404 is another program on that port: see the collector's log.",
            ) from error
        except httpx.HTTPError as error:
            raise Lost(
                f"nothing takes OTLP at {url} ({error})",
                "Start it (`taximeter collector run`), or name its address with --collector.",
            ) from error
        return f"trace {self.canary.trace} sent to {url}"

    # --- Prometheus -------------------------------------------------------------------
    def prometheus_answers(self) -> str:
        return self._ready("Prometheus", self.where.prometheus, "/-/ready", "--prometheus")

    def scrape_job(self) -> str:
        job = next((job for job in self._config("scrape_configs") if job["job_name"] == c.SCRAPE_JOB), None)
        if job is None:
            raise Lost(
                f"Prometheus has no scrape job {c.SCRAPE_JOB!r}",
                "Add the job of deploy/config/prometheus.yml to its scrape_configs and reload it.",
            )
        if not job.get("honor_labels"):
            raise Lost(
                f"the scrape job {c.SCRAPE_JOB!r} does not honor labels, so every service is called that",
                "Set honor_labels: true in it: dashboards and alerts select services by job.",
            )
        return c.SCRAPE_JOB

    def alerting(self) -> str:
        config = yaml.safe_load(self._prometheus("status/config")["yaml"])
        if not (config.get("alerting") or {}).get("alertmanagers"):
            raise Lost(
                "Prometheus knows no Alertmanager",
                "Add alerting.alertmanagers of deploy/config/prometheus.yml and reload it.",
            )
        return "configured"

    def targets(self) -> str:
        target: dict[str, Any] = {"scrapeUrl": "its target", "lastError": "", "health": "unknown"}

        def up() -> bool:
            nonlocal target
            active = self._prometheus("targets", state="active")["activeTargets"]
            target = next((one for one in active if one["scrapePool"] == c.SCRAPE_JOB), target)
            return bool(target["health"] == "up")

        if not self._until(up):
            raise Lost(
                f"Prometheus cannot scrape {target['scrapeUrl']}: {target['lastError'] or 'not tried yet'}",
                "Let the address in scrape_configs be the collector's `exporters.prometheus.endpoint`.",
            )
        return str(target["scrapeUrl"])

    def prometheus_has_it(self) -> str:
        if self._until(lambda: self._newest(self._prometheus("query", query=QUERY)["result"])):
            return QUERY
        raise Lost(
            "Prometheus scrapes, but the canary is not in what it got",
            "Name the exporter `prometheus` in the collector's metrics pipeline, and scrape that exporter's "
            "port, not the collector's own metrics.",
        )

    def rules(self) -> str:
        groups = self._prometheus("rules")["groups"]
        ours = [group for group in groups if group["name"].startswith("taximeter-")]
        rules = [rule for group in ours for rule in group["rules"]]
        if not any(rule["name"] == WATCHDOG for rule in rules):
            raise Lost(
                "Prometheus has not loaded Taximeter's rules",
                "Name alerts/rules/*.yaml in rule_files (`taximeter alerts render` writes them) and reload "
                "it.",
            )
        bad = next((rule for rule in rules if rule.get("health") == "err"), None)
        if bad is not None:
            raise Lost(
                f"rule {bad['name']} fails: {bad.get('lastError')}", "Correct it and reload Prometheus."
            )
        return f"{len(rules)} rules"

    # --- Alertmanager -----------------------------------------------------------------
    def alertmanager_answers(self) -> str:
        return self._ready("Alertmanager", self.where.alertmanager, "/-/ready", "--alertmanager")

    def watchdog(self) -> str:
        def arrived() -> bool:
            found = self._get(f"{self.where.alertmanager}/api/v2/alerts", {"filter": f"alertname={WATCHDOG}"})
            return bool(found)

        if not self._until(arrived):
            urls = [one["url"] for one in self._prometheus("alertmanagers")["activeAlertmanagers"]]
            raise Lost(
                f"{WATCHDOG} fires in Prometheus and is not in {self.where.alertmanager}",
                f"Prometheus sends to {', '.join(urls)}: is that the same Alertmanager, and reachable from "
                f"it? "
                "prometheus_notifications_errors_total counts what failed.",
            )
        return WATCHDOG

    # --- Tempo ------------------------------------------------------------------------
    def tempo_answers(self) -> str:
        return self._ready("Tempo", self.where.tempo, "/ready", "--tempo")

    def tempo_has_it(self) -> str:
        url = f"{self.where.tempo}/api/traces/{self.canary.trace}"
        if not self._until(lambda: self._http.get(url).status_code == 200):
            raise Lost(
                "Tempo answers and does not have the trace",
                "Name an otlp exporter in the collector's traces pipeline with Tempo's OTLP port as "
                "endpoint; "
                "otelcol_exporter_queue_size and taximeter_collector_export_retries say whether it waits "
                "there.",
            )
        return url

    # --- Grafana ----------------------------------------------------------------------
    def grafana_answers(self) -> str:
        with self._asking() as grafana:
            health = grafana.health()
        return f"version {health.get('version', 'unknown')}"

    def data_sources(self) -> str:
        wanted = [PROMETHEUS_UID] + ([TEMPO_UID] if self.where.tempo else [])
        with self._asking() as grafana:
            missing = [uid for uid in wanted if grafana.data_source(uid) is None]
        for uid in missing:
            raise Lost(
                f"Grafana has no data source with the uid {uid}",
                "Dashboards and links select it by that uid: mount deploy/provisioning/datasources, or "
                "give "
                "your data source that uid.",
            )
        return ", ".join(wanted)

    def grafana_reads_it(self) -> str:
        def read() -> bool:
            with self._asking() as grafana:
                return float(self.canary.moment) in grafana.query(PROMETHEUS_UID, QUERY)

        try:
            found = self._until(read)
        except Lost as error:
            raise Lost(f"Grafana cannot query {PROMETHEUS_UID}: {error.why}", error.remedy) from error
        if not found:
            raise Lost(
                f"Grafana's data source {PROMETHEUS_UID} does not have the canary",
                f"Its URL leads to another Prometheus than {self.where.prometheus}: correct it.",
            )
        return PROMETHEUS_UID

    def dashboards(self) -> str:
        uids = [made.uid for made in dashboards()]
        with self._asking() as grafana:
            missing = [uid for uid in uids if grafana.dashboard(uid) is None]
        if missing:
            raise Lost(
                f"Grafana lacks the dashboards {', '.join(missing)}",
                "Mount deploy/provisioning/dashboards and dashboards/json, or `taximeter dashboards push`.",
            )
        return f"{len(uids)} dashboards"

    # --- asking -----------------------------------------------------------------------
    def _until(self, check: Callable[[], bool]) -> bool:
        """Try again until it holds or the step's time is over."""
        deadline = time.monotonic() + self.where.timeout
        while not check():
            if time.monotonic() > deadline:
                return check()
            time.sleep(0.5)
        return True

    def _newest(self, result: list[Any]) -> bool:
        return any(float(one["value"][1]) >= self.canary.moment for one in result)

    def _config(self, section: str) -> list[Any]:
        return list(yaml.safe_load(self._prometheus("status/config")["yaml"]).get(section) or ())

    def _prometheus(self, path: str, **params: str) -> Any:
        return self._get(f"{self.where.prometheus}/api/v1/{path}", params)["data"]

    def _get(self, url: str, params: dict[str, str] | None = None) -> Any:
        try:
            answer = self._http.get(url, params=params)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Lost(f"{url}: {error}", "See that program's log.") from error

    def _ready(self, name: str, url: str | None, path: str, option: str) -> str:
        def ready() -> bool:
            try:
                return self._http.get(f"{url}{path}").status_code == 200
            except httpx.HTTPError:
                return False

        if not ready() and not self._until(ready):
            raise Lost(
                f"{name} does not answer at {url}{path}", f"Start it, or name its address with {option}."
            )
        return str(url)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Grafana]:
        try:
            with Grafana(str(self.where.grafana), self.where.grafana_token) as grafana:
                yield grafana
        except GrafanaError as error:
            raise Lost(str(error), "docs/deploy.md says what verify needs of Grafana.") from error

    def close(self) -> None:
        self._http.close()
