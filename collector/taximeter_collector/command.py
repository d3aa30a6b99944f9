"""``taximeter collector``: the arguments and what they start.

Exit codes: 0 stopped as asked, 2 the configuration or the installation must change, 1 the
machine refused (a port, a directory) or something broke. One clear line on stderr each.

Nothing heavy is imported until an action is chosen, so that the base install can show help.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taximeter_collector.errors import CollectorError, ConfigError

if TYPE_CHECKING:
    from taximeter_collector.config.loader import CollectorConfig

#: What runs without --config: OTLP in; the span store, Prometheus and a health check out.
DEFAULT_CONFIG = Path(__file__).with_name("default.yaml")

_NEEDED = {
    "yaml": "PyYAML",
    "grpc": "grpcio",
    "pyarrow": "pyarrow",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "httpx": "httpx",
    "opentelemetry.proto": "opentelemetry-proto",
    "google.rpc": "googleapis-common-protos",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions to ``taximeter collector``'s parser."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = actions.add_parser("run", help="receive, store and export telemetry until stopped")
    validate = actions.add_parser("validate", help="check a configuration and start nothing")
    letters = actions.add_parser(
        "dead-letters",
        help="list what no destination took, or send it again",
        description="What a destination refused for good lies in <data directory>/dead-letters. `replay` "
        "sends it to that exporter again (after its cause is mended); a running collector is not disturbed. "
        "Exit code 1: something was refused again and is still there.",
    )
    letters.add_argument("what", choices=("list", "replay"))
    letters.add_argument("exporters", nargs="*", metavar="EXPORTER", help="of these exporters only")
    status = actions.add_parser(
        "status",
        help="what the running collector is doing now: rates, lag, last errors, memory",
        description="Asks the collector that runs with this configuration on this machine; the same is at "
        "http://localhost:8888/status. Exit code 1: none answers.",
    )
    status.add_argument("--json", action="store_true", help="for programs")
    forget = actions.add_parser(
        "forget",
        help="erase traces, or all of a tenant, from the log, the dead letters, the state and the stores",
        description="Takes the data directory, so the collector must be stopped. What was delivered "
        "elsewhere is not reached. Files are written anew: nothing is left in freed space.",
    )
    what = forget.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--trace", action="append", metavar="ID", help="trace id, 32 hex digits; may be repeated"
    )
    what.add_argument(
        "--tenant", metavar="NAME", help="every trace, point and record of this taximeter.tenant"
    )
    forget.add_argument("--dry-run", action="store_true", help="only say what would be erased")
    for action in (run, validate, letters, status, forget):
        action.add_argument(
            "--config",
            type=Path,
            action="append",
            metavar="FILE",
            help="configuration in the official collector's YAML; repeat to merge files; "
            f"default: the built-in {DEFAULT_CONFIG}",
        )
    for action in (run, letters, forget):
        action.add_argument(
            "--data-dir",
            type=Path,
            metavar="DIR",
            help="where the data is kept, if file_storage does not say; default ./taximeter-data",
        )


def main(args: argparse.Namespace) -> int:
    """Do what :func:`configure`'s arguments ask; returns the exit code."""
    try:
        _require_extra()
        # Only now, when the extra is known to be there.
        from taximeter_collector.config.loader import load  # noqa: PLC0415

        files = args.config or [DEFAULT_CONFIG]
        config = load(files)
        if args.action == "validate":
            for note in config.notes:
                sys.stderr.write(f"note: {note}\n")
            sys.stdout.write(f"{', '.join(map(str, files))}: valid, {len(config.pipelines)} pipelines\n")
            return 0
        if args.action in _ACTIONS:
            return _ACTIONS[args.action](config, args)
        logging.basicConfig(
            level=config.telemetry.log_level,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        for noisy in ("httpx", "httpcore", "uvicorn", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from taximeter_collector.service import run  # noqa: PLC0415

        run(config, args.data_dir)
    except CollectorError as error:
        sys.stderr.write(f"taximeter collector: {error}\n")
        return error.exit_code
    return 0


def _dead_letters(config: CollectorConfig, args: argparse.Namespace) -> int:
    from taximeter_collector.replay import listing, replay  # noqa: PLC0415

    if args.what == "list":
        sys.stdout.write(listing(config, args.data_dir) + "\n")
        return 0
    left = replay(config, args.data_dir, args.exporters)
    sys.stdout.write(f"{left} requests were refused again\n" if left else "every letter was delivered\n")
    return 1 if left else 0


def _status(config: CollectorConfig, args: argparse.Namespace) -> int:
    from taximeter_collector.status import fetch, text  # noqa: PLC0415

    picture = fetch(config)
    sys.stdout.write((json.dumps(picture, indent=2) if args.json else text(picture)) + "\n")
    return 0


def _forget(config: CollectorConfig, args: argparse.Namespace) -> int:
    from taximeter_collector.forget import Wanted, forget  # noqa: PLC0415

    wanted = Wanted.of(args.trace or [], args.tenant)
    for line in forget(config, args.data_dir, wanted, dry_run=args.dry_run):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


_ACTIONS = {"dead-letters": _dead_letters, "status": _status, "forget": _forget}


def _require_extra() -> None:
    missing = []
    for module, package in _NEEDED.items():
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # the parent package is missing
            found = False
        if not found:
            missing.append(package)
    if missing:
        raise ConfigError(f"{', '.join(missing)} not installed: pip install 'taximeter[collector]'")
