"""The ``taximeter`` command: a table of commands, each loaded only when it is called.

A command is a module with ``configure(parser)`` and ``main(args) -> exit code``. Loading lazily
keeps ``--help`` quick and lets the base install (the agent alone) say which extra a command needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

EXIT_USAGE = 2


@dataclass(frozen=True)
class Command:
    """Where a command lives, the extra that brings what it imports, and its line in ``--help``."""

    module: str
    extra: str
    help: str


COMMANDS = {
    "doctor": Command("taximeter_cli.doctor", "all", "what would be measured here, and what to install"),
    "prices": Command("taximeter_cli.prices", "all", "explain the price of a model, or update the table"),
    "collector": Command(
        "taximeter_collector.command",
        "collector",
        "run or validate the collector (official OpenTelemetry Collector YAML)",
    ),
    "advise": Command(
        "taximeter_analysis.advise.command",
        "analysis",
        "what could be saved in time, calls and money, predicted with bounds: from the span store",
    ),
    "budget": Command(
        "taximeter_analysis.budget.command",
        "analysis",
        "check a performance budget (the gate for CI), or suggest one",
    ),
    "compare": Command(
        "taximeter_analysis.compare.command",
        "analysis",
        "what changed between two windows, versions, runs or saved reports",
    ),
    "discover": Command(
        "taximeter_analysis.discover.command",
        "discover",
        "what a code base asks of databases and models, and what traces have never seen of it",
    ),
    "loadtest": Command(
        "taximeter_analysis.loadtest.command",
        "analysis",
        "send concurrent guests to a service, or to two in turn, and compare",
    ),
    "report": Command(
        "taximeter_analysis.command",
        "analysis",
        "where time and money went, by route: from the span store",
    ),
    "alerts": Command(
        "taximeter_alerts.command",
        "alerts",
        "render Prometheus rules and Alertmanager's configuration, list the alerts",
    ),
    "reconcile": Command(
        "taximeter_analysis.reconcile.command",
        "analysis",
        "tokens and money against the providers' usage and cost exports",
    ),
    "serve": Command(
        "taximeter_analysis.serve.command", "analysis", "the report live in a browser, on this machine only"
    ),
    "top": Command(
        "taximeter_analysis.top.command", "analysis", "the service in a terminal, second by second"
    ),
    "store": Command(
        "taximeter_analysis.store_command",
        "analysis",
        "look into the span store, compact it, or export from it",
    ),
    "up": Command(
        "taximeter_cli.up",
        "dashboards",
        "start the whole stack from the binaries on this machine, until Ctrl-C",
    ),
    "verify": Command(
        "taximeter_cli.verify",
        "dashboards",
        "follow a canary through collector, Prometheus, Alertmanager, Tempo and Grafana",
    ),
    "dashboards": Command(
        "taximeter_dashboards.command",
        "dashboards",
        "render the Grafana dashboards, or push them to a Grafana that exists",
    ),
}

EPILOG = """\
examples:
  opentelemetry-instrument uvicorn app:app            put the meter on a service
  taximeter doctor                                    in the service's environment: what is missing?
  taximeter prices gpt-4o-mini                        which rates apply, and since when
  taximeter collector run --config collector.yaml     receive, store and forward telemetry
  taximeter report --store ./spans --html report.html what it costs, and where
  taximeter advise --store ./spans                    what could be saved, and how much
"""


class MissingExtra(ImportError):
    """A command's dependencies are not installed; the message has the line that installs them."""


def load(name: str) -> ModuleType:
    """Import a command's module.

    Raises:
        MissingExtra: a third-party package that the command needs is not installed.
    """
    command = COMMANDS[name]
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = error.name or "a package"
        if missing.startswith("taximeter"):
            raise  # our own module is broken or gone: an error of ours, not a missing extra
        raise MissingExtra(
            f"'taximeter {name}' needs the package '{missing}', which is not installed: "
            f"pip install 'taximeter[{command.extra}]'"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 1 failed, 2 wrong usage)."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="taximeter",
        description="Puts the meter on every request: its time, its queries, its model calls, its money.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"taximeter {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    called = next((word for word in words if not word.startswith("-")), None)
    modules: dict[str, ModuleType] = {}
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        if name == called:  # only the command that is called is imported
            try:
                modules[name] = load(name)
            except MissingExtra as error:
                print(f"taximeter: {error}", file=sys.stderr)
                return EXIT_USAGE
            modules[name].configure(sub)
    args = parser.parse_args(words)
    try:
        return int(modules[args.command].main(args))
    except BrokenPipeError:  # `taximeter report | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _version() -> str:
    try:
        return version("taximeter")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
