"""Reads the span store and says where time and money went.

The public API, as the command line and the demo use it::

    with open_store("spans") as store:
        found = report(store, Filters(tenant="alpenhof"))
    render.terminal(found, Console())
    Path("report.html").write_text(render.html(found), encoding="utf-8")
    Path("report.json").write_text(render.json(found), encoding="utf-8")
"""

from taximeter_analysis.model import Report
from taximeter_analysis.report import report
from taximeter_analysis.store import NothingToReport, Store, StoreError, open_store
from taximeter_analysis.window import Filters

__all__ = ["Filters", "NothingToReport", "Report", "Store", "StoreError", "open_store", "report"]
