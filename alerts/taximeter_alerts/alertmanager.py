"""Alertmanager's configuration: who is told, how alerts are grouped, which silence others.

Pages go to every receiver given for pages, at once; tickets are gathered for longer. Secrets are
named by file, never written here. Valid for Alertmanager 0.25 and later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from taximeter_alerts import pipeline
from taximeter_alerts.model import PAGE, TICKET
from taximeter_alerts.profile import DEFAULT, Profile
from taximeter_collector.prometheus import catalogue as c

HEADER = "# Rendered by `taximeter alerts render`: do not edit. {note}\n"
TEMPLATES = "taximeter.tmpl"
TITLE = '{{ template "taximeter.title" . }}'
TEXT = '{{ template "taximeter.text" . }}'
FIRST_LINK = "{{{{ (index .Alerts 0).Annotations.{} }}}}"


@dataclass(frozen=True)
class Receivers:
    """Where notifications go; what is empty is left out. Files hold one secret each."""

    webhook: str = "http://localhost:9095/"
    heartbeat: str = ""
    """URL of the outside watcher that pages when it hears nothing."""
    slack_url_file: str = ""
    slack_channel: str = "#alerts"
    pagerduty_key_file: str = ""
    email_to: str = ""
    email_from: str = ""
    smtp: str = "localhost:25"
    teams: tuple[tuple[str, str], ...] = ()
    """Teams with a webhook of their own, in place of the common channels: (team, URL)."""


def alertmanager_file(receivers: Receivers | None = None, profile: Profile = DEFAULT) -> str:
    """The configuration as YAML."""
    body = yaml.safe_dump(configuration(receivers or Receivers(), profile), sort_keys=False, width=110)
    return HEADER.format(note=profile.note) + body


def configuration(receivers: Receivers, profile: Profile = DEFAULT) -> dict[str, Any]:
    """The configuration as a mapping."""
    short = profile.name != DEFAULT.name
    return {
        "global": {"resolve_timeout": "5m"},
        "templates": [TEMPLATES],
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", c.JOB, "team"],
            "group_wait": "0s" if short else "1m",
            "group_interval": "1s" if short else "10m",
            "repeat_interval": "1h" if short else "1d",
            "routes": [
                {
                    "matchers": [f'alertname="{pipeline.WATCHDOG}"'],
                    "receiver": "heartbeat",
                    "group_wait": "0s",
                    "group_interval": "1m",
                    "repeat_interval": "1m",
                },
                {
                    "matchers": [f'severity="{PAGE}"'],
                    "receiver": "pages",
                    "group_wait": "0s" if short else "15s",
                    "group_interval": "1s" if short else "1m",
                    "repeat_interval": "1h" if short else "4h",
                    **_by_team(receivers, "pages"),
                },
                {
                    "matchers": [f'severity="{TICKET}"'],
                    "receiver": "tickets",
                    **_by_team(receivers, "tickets"),
                },
            ],
        },
        "inhibit_rules": [
            # What the collector does not deliver cannot be judged.
            {
                "source_matchers": [f'alertname="{pipeline.COLLECTOR_DOWN}"'],
                "target_matchers": [
                    'alertname=~"Taximeter.+"',
                    f'alertname!~"{pipeline.COLLECTOR_DOWN}|{pipeline.WATCHDOG}"',
                ],
            },
            # A budget that burns fast burns slowly as well.
            *(
                {
                    "source_matchers": [f'alertname="Taximeter{what}BudgetBurn"'],
                    "target_matchers": [f'alertname="Taximeter{what}BudgetSlowBurn"'],
                    "equal": [c.JOB],
                }
                for what in ("Error", "Latency")
            ),
            # An N+1 query is more statements and more time, by the same cause.
            {
                "source_matchers": ['alertname="TaximeterRepeatedStatements"'],
                "target_matchers": [
                    'alertname=~"TaximeterDatabaseCallsRegression|TaximeterLatencyRegression"'
                ],
                "equal": [c.JOB, c.ROUTE],
            },
        ],
        "receivers": [
            {"name": "pages", **_channels(receivers, pages=True)},
            {"name": "tickets", **_channels(receivers, pages=False)},
            {"name": "heartbeat", **_heartbeat(receivers)},
            *(
                {"name": f"{kind}-{team}", "webhook_configs": [{"url": url, "send_resolved": True}]}
                for kind in ("pages", "tickets")
                for team, url in receivers.teams
            ),
        ],
    }


def _by_team(receivers: Receivers, kind: str) -> dict[str, Any]:
    routes = [{"matchers": [f'team="{team}"'], "receiver": f"{kind}-{team}"} for team, _ in receivers.teams]
    return {"routes": routes} if routes else {}


def _heartbeat(receivers: Receivers) -> dict[str, Any]:
    if not receivers.heartbeat:
        return {}
    return {"webhook_configs": [{"url": receivers.heartbeat, "send_resolved": False}]}


def _channels(receivers: Receivers, *, pages: bool) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    if receivers.webhook:
        channels["webhook_configs"] = [{"url": receivers.webhook, "send_resolved": True}]
    if receivers.slack_url_file:
        slack = {
            "api_url_file": receivers.slack_url_file,
            "channel": receivers.slack_channel,
            "send_resolved": True,
            "title": TITLE,
            "title_link": FIRST_LINK.format("dashboard_url"),
            "text": TEXT,
        }
        channels["slack_configs"] = [slack]
    if receivers.email_to:
        mail = {
            "to": receivers.email_to,
            "from": receivers.email_from or receivers.email_to,
            "smarthost": receivers.smtp,
            "send_resolved": True,
            "headers": {"Subject": TITLE},
            "html": "",
            "text": TEXT,
        }
        channels["email_configs"] = [mail]
    if receivers.pagerduty_key_file and pages:
        duty = {
            "routing_key_file": receivers.pagerduty_key_file,
            "description": TITLE,
            "severity": "critical",
            "client": "Taximeter",
            "client_url": FIRST_LINK.format("dashboard_url"),
            "links": [
                {"href": FIRST_LINK.format(f"{name}_url"), "text": text}
                for name, text in (("runbook", "Runbook"), ("dashboard", "Dashboard"), ("traces", "Traces"))
            ],
            "details": {"text": TEXT},
        }
        channels["pagerduty_configs"] = [duty]
    return channels


TEMPLATE_TEXT = """\
{{- /* Rendered by `taximeter alerts render`: what every channel says. */ -}}
{{ define "taximeter.title" -}}
{{ if eq .Status "resolved" }}Resolved\
{{ else if eq .CommonLabels.severity "critical" }}PAGE\
{{ else }}Ticket{{ end }}: \
{{ with index .Alerts 0 }}{{ .Annotations.summary }}{{ end }}\
{{ if gt (len .Alerts) 1 }} ({{ len .Alerts }} alerts){{ end }}
{{- end }}
{{ define "taximeter.text" -}}
{{ range .Alerts }}{{ .Annotations.summary }}
{{ .Annotations.description }}
{{ with .Annotations.runbook_url }}Runbook: {{ . }}
{{ end }}{{ with .Annotations.dashboard_url }}Dashboard: {{ . }}
{{ end }}{{ with .Annotations.traces_url }}Traces: {{ . }}
{{ end }}
{{ end }}
{{- end }}
"""
