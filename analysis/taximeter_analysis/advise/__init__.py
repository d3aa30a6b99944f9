"""``taximeter advise``: what could be saved, predicted with bounds, and how each figure is known.

`material` reads requests and their calls with the evidence; each detector is a module with
``find(material)`` that yields `Finding`; `advice` runs them all and ranks; `output` prints.
"""

from taximeter_analysis.advise.advice import Advice, advise
from taximeter_analysis.advise.model import Estimate, Finding

__all__ = ["Advice", "Estimate", "Finding", "advise"]
