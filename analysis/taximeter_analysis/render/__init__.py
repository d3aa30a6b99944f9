"""A report as a person or a program reads it: terminal, HTML, Markdown, CSV, JSON.

Rich and Jinja are imported by what needs them: JSON for a program is there 0.15 s sooner.
"""

from __future__ import annotations

import json as _json
import re
from typing import TYPE_CHECKING

from taximeter_analysis.model import Report
from taximeter_analysis.render.csv import render_csv as csv
from taximeter_analysis.render.markdown import render_markdown as markdown

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["csv", "html", "json", "markdown", "terminal"]


def terminal(report: Report, console: Console) -> None:
    """Print the report on a rich console."""
    from taximeter_analysis.render.tables import print_report  # noqa: PLC0415

    print_report(report, console)


def html(report: Report) -> str:
    """One self-contained HTML document: no script, style, font or image from anywhere else."""
    from taximeter_analysis.render.page import render_page  # noqa: PLC0415

    return render_page(report)


def json(report: Report) -> str:
    """The report as JSON text (see `Report.to_dict`), ending in a newline. NaN is an error, not output."""
    text = _json.dumps(report.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # Lists of numbers on one line. A JSON string holds no line break, so none can look like such a list.
    return re.sub(r"\[\n\s+([-+.\deE,\s]+?)\n\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
