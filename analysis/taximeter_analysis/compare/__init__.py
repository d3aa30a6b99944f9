"""Before and after: what changed, by route and in all, how surely, and whether the targets are met.

::

    found = compare([before], [after])             # reports; several a side are runs or blocks
    found.total.figures                            # one `Figure` each: before, after, bounds, verdict
    found.targets                                  # the plan's success table, filled in
"""

from taximeter_analysis.compare.compute import compare
from taximeter_analysis.compare.model import Comparison, Figure, Subject, Target

__all__ = ["Comparison", "Figure", "Subject", "Target", "compare"]
