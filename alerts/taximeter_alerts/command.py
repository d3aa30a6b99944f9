"""``taximeter alerts``: render the rules and Alertmanager's configuration, or list the alerts.

Exit codes: 0 written, or unchanged with ``--check``; 1 drift, or a file cannot be written; 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from taximeter_alerts import files
from taximeter_alerts.alertmanager import TEMPLATE_TEXT, TEMPLATES, Receivers, alertmanager_file
from taximeter_alerts.model import HEARTBEAT, PAGE, TEAMS
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.rules import Links, alerts_file, all_alerts, recording_file
from taximeter_alerts.thresholds import of_budget
from taximeter_analysis.budget import BudgetError, load_budget

DEFAULT_OUTPUT = Path("taximeter-alerts")
EPILOG = """\
examples:
  taximeter alerts render --output /etc/prometheus/taximeter --grafana-url https://grafana.example.org
  taximeter alerts render --slack-url-file /etc/alertmanager/slack --pagerduty-key-file /etc/alertmanager/duty
  taximeter alerts list

what is written: recording.yaml and alerts.yaml (Prometheus rule_files), alertmanager.yml, taximeter.tmpl
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter alerts`` to its parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    actions.add_parser("list", help="every alert of the delivered budget: page, ticket or heartbeat")
    render = actions.add_parser("render", help="write rule files and Alertmanager's configuration")
    add = render.add_argument
    add("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to (default %(default)s)")
    add("--check", action="store_true", help="write nothing; exit 1 if the files differ")
    add(
        "--profile",
        choices=sorted(PROFILES),
        default="default",
        help="demo: windows of seconds instead of hours, for a demonstration (default %(default)s)",
    )
    add(
        "--budget", type=Path, metavar="FILE", help="budget.yaml with the limits (default: the delivered one)"
    )
    add("--grafana-url", default=Links.grafana, help="for links to dashboards (default %(default)s)")
    add("--runbooks-url", default=Links.runbooks, help="for links to runbooks (default %(default)s)")
    add("--webhook", default=Receivers.webhook, help="URL told of pages and tickets (default %(default)s)")
    add("--heartbeat", default="", metavar="URL", help="outside watcher of the watchdog alert")
    add("--slack-url-file", default="", metavar="FILE", help="file with Slack's webhook address")
    add("--slack-channel", default=Receivers.slack_channel, help="default %(default)s")
    add(
        "--pagerduty-key-file",
        default="",
        metavar="FILE",
        help="file with PagerDuty's routing key; pages only",
    )
    add(
        "--team-webhook",
        action="append",
        type=_team,
        default=[],
        metavar="TEAM=URL",
        help=f"a team's own webhook, in place of the common channels; teams: {', '.join(TEAMS)}",
    )
    add("--email-to", default="", metavar="ADDRESS")
    add("--email-from", default="", metavar="ADDRESS")
    add("--smtp", default=Receivers.smtp, metavar="HOST:PORT", help="default %(default)s")


def _team(text: str) -> tuple[str, str]:
    team, _, url = text.partition("=")
    if team not in TEAMS or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not TEAM=URL with a team of {', '.join(TEAMS)}")
    return team, url


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if args.action == "list":
        return _list()
    try:
        wanted = rendered(args)
    except (BudgetError, ValueError) as error:
        print(f"taximeter alerts: {error}", file=sys.stderr)
        return 2
    try:
        if args.check:
            changed = files.drifted(args.output, wanted)
            for path in changed:
                print(f"{path} differs from what would be rendered", file=sys.stderr)
            return int(bool(changed))
        for path in files.write(args.output, wanted):
            print(path)
    except OSError as error:
        print(f"taximeter alerts: cannot write to {args.output}: {error}", file=sys.stderr)
        return 1
    if args.profile != "default":
        print(f"note: {PROFILES[args.profile].note}", file=sys.stderr)
    return 0


def rendered(args: argparse.Namespace) -> dict[str, str]:
    """File name to text."""
    profile = PROFILES[args.profile]
    thresholds, notes = of_budget(load_budget(args.budget) if args.budget else None)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    receivers = Receivers(
        webhook=args.webhook,
        heartbeat=args.heartbeat,
        slack_url_file=args.slack_url_file,
        slack_channel=args.slack_channel,
        pagerduty_key_file=args.pagerduty_key_file,
        email_to=args.email_to,
        email_from=args.email_from,
        smtp=args.smtp,
        teams=tuple(args.team_webhook),
    )
    return {
        "recording.yaml": recording_file(thresholds, profile),
        "alerts.yaml": alerts_file(thresholds, profile, Links(args.grafana_url, args.runbooks_url)),
        "alertmanager.yml": alertmanager_file(receivers, profile),
        TEMPLATES: TEMPLATE_TEXT,
    }


def _list() -> int:
    kind = {PAGE: "page", HEARTBEAT: "heartbeat"}
    for alert in all_alerts():
        print(f"{kind.get(alert.severity, 'ticket'):10} {alert.name}")
    return 0
