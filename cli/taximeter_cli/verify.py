"""``taximeter verify``: follow a canary through the whole pipeline, and say where it was lost.

Exit codes: 0 it went all the way; 1 it was lost (the step, the reason and the remedy are printed);
2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from taximeter_cli.stack.addresses import Addresses
from taximeter_cli.stack.canary import Canary
from taximeter_cli.stack.steps import PARTS, Journey, Lost, Where

TOKEN_VARIABLE = "TAXIMETER_GRAFANA_TOKEN"  # noqa: S105  (a variable's name)
_EPILOG = """\
examples:
  taximeter verify                                   everything, at the default addresses
  taximeter verify --without tempo,grafana           what is not there, on purpose
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter verify`` to its parser."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    local = Addresses()
    places = {
        "collector": local.otlp_http.url,
        "prometheus": local.prometheus.url,
        "alertmanager": local.alertmanager.url,
        "tempo": local.tempo.url,
        "grafana": local.grafana.url,
    }
    for name, url in places.items():
        parser.add_argument(f"--{name}", default=url, metavar="URL", help="default %(default)s")
    parser.add_argument("--without", default="", metavar="PARTS", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"Grafana's; else {TOKEN_VARIABLE}")
    parser.add_argument(
        "--timeout", type=float, default=90.0, metavar="SECONDS", help="for one step (default %(default)g)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    left_out = {name for name in args.without.split(",") if name}
    if unknown := left_out - set(PARTS):
        print(
            f"taximeter verify: --without {', '.join(unknown)}: known are {', '.join(PARTS)}", file=sys.stderr
        )
        return 2
    try:
        token = args.token_file.read_text().strip() if args.token_file else os.environ.get(TOKEN_VARIABLE)
    except OSError as error:
        print(f"taximeter verify: {args.token_file}: {error.strerror}", file=sys.stderr)
        return 2
    where = Where(
        collector=args.collector,
        **{name: None if name in left_out else getattr(args, name).rstrip("/") for name in PARTS},
        grafana_token=token or None,
        timeout=args.timeout,
    )
    journey = Journey(where, Canary())
    try:
        for step in journey.steps():
            try:
                print(f"ok    {step.name}: {step.find()}")
            except Lost as lost:
                print(f"LOST  {step.name}: {lost.why}\n      {lost.remedy}")
                return 1
    finally:
        journey.close()
    for name in sorted(left_out):
        print(f"      {name}: left out, as asked")
    print("The canary went all the way.")
    return 0
