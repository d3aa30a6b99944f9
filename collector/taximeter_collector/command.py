"""``taximeter collector``: the arguments and what they start.

Exit codes: 0 stopped as asked, 2 the configuration or the installation must change, 1 the
machine refused (a port, a directory) or something broke. One clear line on stderr each.

Nothing heavy is imported until an action is chosen, so that the base install can show help.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from pathlib import Path

from taximeter_collector.errors import CollectorError, ConfigError

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
    for action in (run, validate):
        action.add_argument(
            "--config",
            type=Path,
            action="append",
            metavar="FILE",
            help="configuration in the official collector's YAML; repeat to merge files; "
            f"default: the built-in {DEFAULT_CONFIG}",
        )
    run.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the log is kept, if the file_storage extension does not say; default ./taximeter-data",
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
