"""``taximeter up``: the stack from the binaries on this machine, until Ctrl-C.

Whatever is not installed is named, with how to get it, and the rest starts. Configuration, data and logs
lie in one folder; rules and dashboards are rendered into it, so a change of the budget is a restart away.

Exit codes: 0 stopped as asked; 1 something did not start, or ended by itself; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

from taximeter_alerts.alertmanager import TEMPLATE_TEXT, TEMPLATES, Receivers, alertmanager_file
from taximeter_alerts.profile import PROFILES
from taximeter_alerts.rules import Links, alerts_file, recording_file
from taximeter_alerts.thresholds import of_budget
from taximeter_analysis.budget import Budget, BudgetError, default_budget, load_budget
from taximeter_cli.stack import files, programs
from taximeter_cli.stack.addresses import Addresses, Place
from taximeter_cli.supervise import StartFailed, Supervisor, free_port, port_open, terminate_as_interrupt
from taximeter_dashboards.limits import from_budget as limits_from
from taximeter_dashboards.render import rendered

_EPILOG = """\
examples:
  taximeter up                          then start services with opentelemetry-instrument
  taximeter up --budget budget.yaml     thresholds of alerts and dashboards from your budget
  taximeter verify                      in another terminal: does it work, all the way?
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter up`` to its parser."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--folder",
        type=Path,
        default=Path("taximeter-up"),
        help="configuration, data, logs (default %(default)s)",
    )
    add("--budget", type=Path, metavar="FILE", help="budget.yaml")
    add("--profile", choices=sorted(PROFILES), default="default", help="of the alerts (default %(default)s)")
    add("--webhook", default="", metavar="URL", help="told of pages and tickets (default: nobody is)")
    add("--free-ports", action="store_true", help="other ports than the programs' own, all printed")
    add("--check", action="store_true", help="only say what is here and what is missing")


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    found = {program.name: program.find() for program in programs.PROGRAMS}
    for program in programs.PROGRAMS:
        if found[program.name] is None:
            print(f"missing  {program.name}: {program.without}.\n         Get it: {program.how_to_get}")
        elif args.check:
            print(f"here     {program.name}: {found[program.name]}")
    if args.check:
        return 0
    try:
        budget = load_budget(args.budget) if args.budget else default_budget()
    except BudgetError as error:
        print(f"taximeter up: {error}", file=sys.stderr)
        return 2
    addresses = _free() if args.free_ports else Addresses()
    if taken := [f"{name} {port}" for name, port in listeners(addresses, found) if port_open(port)()]:
        print(
            f"taximeter up: in use already: {', '.join(taken)}. Stop what listens there (Debian's packages "
            "start Prometheus and Alertmanager by themselves: systemctl stop), or give --free-ports.",
            file=sys.stderr,
        )
        return 1
    folder = args.folder.resolve()
    try:
        write(folder, addresses, {name for name, binary in found.items() if binary}, budget, args)
        with terminate_as_interrupt(), Supervisor(folder / "logs") as supervisor:
            _start(supervisor, addresses, folder, found)
            while True:
                supervisor.ensure_running()
                time.sleep(0.5)
    except KeyboardInterrupt:
        print("stopped; data and logs are kept in", folder)
        return 0
    except (StartFailed, OSError) as error:
        print(f"taximeter up: {error}", file=sys.stderr)
        return 1


def listeners(a: Addresses, found: dict[str, str | None]) -> list[tuple[str, int]]:
    """Name and port of everything that will listen."""
    ports = [
        *(("OTLP", a.otlp_grpc), ("OTLP", a.otlp_http), ("collector's metrics", a.metrics)),
        *(("collector's own metrics", a.own_metrics), ("collector's health", a.health)),
        *((name, getattr(a, name)) for name, binary in found.items() if binary),
        *((("Tempo's OTLP", a.tempo_otlp),) if found.get("tempo") else ()),
    ]
    return [(name, place.port) for name, place in ports]


def _free() -> Addresses:
    whole = Addresses()
    names = [one.name for one in fields(Addresses) if getattr(whole, one.name) is not None]
    return replace(whole, **{name: replace(getattr(whole, name), port=free_port()) for name in names})


def write(folder: Path, a: Addresses, here: set[str], budget: Budget, args: argparse.Namespace) -> None:
    """Every configuration file, rules and dashboards below ``folder``. Raises OSError."""
    tempo, alertmanager = "tempo" in here, "alertmanager" in here
    profile = PROFILES[args.profile]
    thresholds, _ = of_budget(budget)
    texts = {
        "collector.yaml": files.collector(a, data=str(folder / "data"), tempo=tempo),
        "prometheus.yml": files.prometheus(
            a,
            rules=str(folder / "rules" / "*.yaml"),
            tempo=tempo,
            alertmanager=alertmanager,
            interval="15s" if args.profile == "default" else "1s",
        ),
        "tempo.yaml": files.tempo(a, storage=str(folder / "tempo")),
        "provisioning/datasources/taximeter.yaml": files.data_sources(
            a, tempo=tempo, alertmanager=alertmanager
        ),
        "provisioning/dashboards/taximeter.yaml": files.dashboard_provider(str(folder / "dashboards")),
        "rules/recording.yaml": recording_file(thresholds, profile),
        "rules/alerts.yaml": alerts_file(thresholds, profile, Links(grafana=a.grafana.url)),
        "rules/alertmanager.yml": alertmanager_file(Receivers(webhook=args.webhook), profile),
        f"rules/{TEMPLATES}": TEMPLATE_TEXT,
        **{f"dashboards/{name}": text for name, text in rendered(limits_from(budget)).items()},
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _start(supervisor: Supervisor, a: Addresses, folder: Path, found: dict[str, str | None]) -> None:
    places = {
        "alertmanager": a.alertmanager,
        "prometheus": a.prometheus,
        "tempo": a.tempo,
        "grafana": a.grafana,
    }
    for program in programs.PROGRAMS:
        binary = found[program.name]
        if binary is not None:
            supervisor.start(program.spec(binary, a, folder))
            print(f"up       {program.name}: {places[program.name].url}", flush=True)
    supervisor.start(programs.collector(a, folder))
    print(f"up       collector: OTLP at {a.otlp_http.url} and {a.otlp_grpc.address}", flush=True)
    given = {"collector": a.otlp_http, **{name: place for name, place in places.items() if found[name]}}
    options = "".join(
        f" --{name} {place.url}" for name, place in given.items() if place.port != _default(name)
    )
    absent = ",".join(name for name in places if not found[name])
    options += f" --without {absent}" if absent else ""
    print(f"send     OTEL_EXPORTER_OTLP_ENDPOINT={a.otlp_http.url} opentelemetry-instrument ...")
    print(f"check    taximeter verify{options}")
    print(f"logs and data: {folder}. Ctrl-C stops everything.", flush=True)


def _default(name: str) -> int:
    place: Place = getattr(Addresses(), "otlp_http" if name == "collector" else name)
    return place.port
