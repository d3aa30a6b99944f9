"""What of ``deploy/`` is rendered: ``python -m taximeter_cli.stack.deploy [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from taximeter_cli.stack import files
from taximeter_cli.stack.addresses import COMPOSE

FOLDER = Path(__file__).resolve().parents[3] / "deploy"


def rendered() -> dict[str, str]:
    """Path below ``deploy/`` to text."""
    return {
        "config/prometheus.yml": files.prometheus(
            COMPOSE, rules="/etc/prometheus/rules/*.yaml", tempo=True, alertmanager=True
        ),
        "config/tempo.yaml": files.tempo(COMPOSE, storage="/var/tempo"),
        "config/collector.yaml": files.collector(COMPOSE, data="/var/lib/taximeter", tempo=True),
        "provisioning/datasources/taximeter.yaml": files.data_sources(COMPOSE, tempo=True, alertmanager=True),
        "provisioning/dashboards/taximeter.yaml": files.dashboard_provider("/etc/grafana/taximeter"),
    }


def drifted() -> list[Path]:
    """Files that differ from what would be rendered."""
    return [
        FOLDER / name
        for name, text in rendered().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != text
    ]


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    if parser.parse_args().check:
        for path in drifted():
            print(f"{path} has drifted; run python -m taximeter_cli.stack.deploy", file=sys.stderr)
        return int(bool(drifted()))
    for name, text in rendered().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
