"""Renders the tables in ``docs/`` that have a source in the code, so that they cannot drift.

``python tools/render_docs.py`` rewrites them; ``--check`` (part of the tests) only compares.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from taximeter.coverage import LIBRARIES
from taximeter.settings import SETTINGS

AGENT = Path(__file__).resolve().parents[1] / "docs" / "agent.md"
_SETTINGS = re.compile(r"(<!-- settings:[^>]*-->\n)(.*?)(<!-- /settings -->)", re.DOTALL)
_COVERAGE = re.compile(r"(<!-- coverage:[^>]*-->\n)(.*?)(<!-- /coverage -->)", re.DOTALL)


def settings_table() -> str:
    """The agent's settings as a Markdown table."""
    lines = ["| variable | default | what |", "| --- | --- | --- |"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default is not None else ""
        lines.append(f"| `{setting.name}` | {default} | {setting.doc} |")
    return "\n".join(lines) + "\n"


def coverage_table() -> str:
    """What serves what, as a Markdown table."""
    lines = ["| library | for | official instrumentor | added by Taximeter |", "| --- | --- | --- | --- |"]
    for library in LIBRARIES:
        base = " (base install)" if library.base else ""
        lines.append(
            f"| {library.package} | {library.kind} | `{library.instrumentor}` {library.version}{base} "
            f"| {library.adds} |"
        )
    return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
    """``docs/agent.md`` with its tables made anew."""
    text = _COVERAGE.sub(lambda found: found[1] + coverage_table() + found[3], text)
    return _SETTINGS.sub(lambda found: found[1] + settings_table() + found[3], text)


def main() -> int:
    """Rewrite or check; exit code 1 when a check finds drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 on drift")
    args = parser.parse_args()
    before = AGENT.read_text()
    after = rendered(before)
    if args.check:
        if before != after:
            sys.stderr.write(f"{AGENT}: the settings table has drifted; run python tools/render_docs.py\n")
        return int(before != after)
    AGENT.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
