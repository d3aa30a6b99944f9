"""All rules as Prometheus rule files.

Two files, so that tests of a week's history can feed recorded series: ``recording.yaml`` and
``alerts.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from taximeter_alerts import caches, database, money, pipeline, requests
from taximeter_alerts.model import PLATFORM_TEAM, SERVICE_TEAM, VARIABLES, Alert, encoded
from taximeter_alerts.profile import DEFAULT, Profile
from taximeter_alerts.recording import Record, records
from taximeter_alerts.thresholds import Thresholds, of_budget

HEADER = "# Rendered by `taximeter alerts render`: do not edit. {note}\n"
SUBJECTS = (requests, database, caches, money, pipeline)
"""One rule group each."""


@dataclass(frozen=True)
class Links:
    """Where links in alerts lead. ``runbooks`` is a folder's address, absolute where people click it."""

    grafana: str = "http://localhost:3000"
    runbooks: str = "docs/runbooks"

    def runbook(self, alert: Alert) -> str:
        return f"{self.runbooks.rstrip('/')}/{alert.name}.md"

    def dashboard(self, alert: Alert) -> str:
        chosen = "&".join(f"var-{VARIABLES[label]}={encoded(label)}" for label in alert.by)
        address = f"{self.grafana.rstrip('/')}/d/taximeter-{alert.dashboard}"
        return f"{address}?{chosen}" if chosen else address

    def traces(self, alert: Alert) -> str:
        """Grafana's Explore page with the search in it, encoded by Prometheus when it fires."""
        address = f"{self.grafana.rstrip('/')}/explore?schemaVersion=1&orgId=1&panes="
        query = alert.traces.replace('"', r"\\\"")
        template = query.replace("{{ $labels.", '" $labels.').replace(" }}", ' "')
        before = r"{\"t\":{\"datasource\":\"taximeter-tempo\",\"queries\":[{\"refId\":\"A\",\"queryType\":"
        before += r"\"traceql\",\"query\":\""
        after = r"\"}],\"range\":{\"from\":\"now-1h\",\"to\":\"now\"}}}"
        return f'{address}{{{{ print "{before}{template}{after}" | urlquery }}}}'


def all_alerts(thresholds: Thresholds | None = None, profile: Profile = DEFAULT) -> list[Alert]:
    """Every alert there is."""
    t = thresholds or of_budget()[0]
    return [alert for module in SUBJECTS for alert in module.alerts(t, profile)]


def recording_file(thresholds: Thresholds | None = None, profile: Profile = DEFAULT) -> str:
    """The recording rules as YAML."""
    rules = [_record(rule) for rule in records(thresholds or of_budget()[0], profile)]
    return _file(profile, [{"name": "taximeter-recording", "interval": profile.interval, "rules": rules}])


def alerts_file(
    thresholds: Thresholds | None = None, profile: Profile = DEFAULT, links: Links | None = None
) -> str:
    """The alerting rules as YAML, one group per subject."""
    t, where = thresholds or of_budget()[0], links or Links()
    groups = []
    for module in SUBJECTS:
        team = PLATFORM_TEAM if module is pipeline else SERVICE_TEAM
        found = [_alert(alert, team, where) for alert in module.alerts(t, profile)]
        name = module.__name__.rpartition(".")[2]
        groups.append({"name": f"taximeter-{name}", "interval": profile.interval, "rules": found})
    return _file(profile, groups)


def _record(rule: Record) -> dict[str, Any]:
    return {"record": rule.name, "expr": rule.expr}


def _alert(alert: Alert, team: str, links: Links) -> dict[str, Any]:
    annotations = {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": links.runbook(alert),
        "dashboard_url": links.dashboard(alert),
    }
    if alert.traces:
        annotations["traces_url"] = links.traces(alert)
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr, "for": alert.hold}
    if alert.keep != "0s":
        rule["keep_firing_for"] = alert.keep
    return {
        **rule,
        "labels": {"severity": alert.severity, "team": team},
        "annotations": annotations,
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a person can read the expressions."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _file(profile: Profile, groups: list[dict[str, Any]]) -> str:
    body = yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=110)
    return HEADER.format(note=profile.note) + body
