"""What is held against what: figures of one provider, day and model, on both sides, and why they differ.

Days are UTC. Input tokens include cached ones on both sides (Anthropic's exports leave them out; the
reader adds them). None means that a side does not tell.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

SCHEMA_VERSION = 1
FIGURES = ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost_usd")


@dataclass
class Figures:
    """Sums; None where nobody tells."""

    requests: Annotated[float | None, "calls that the provider answered"] = None
    input_tokens: Annotated[float | None, "cached ones included"] = None
    cached_tokens: Annotated[float | None, "the part of input_tokens read from the provider's cache"] = None
    output_tokens: float | None = None
    cost_usd: float | None = None

    def add(self, other: Figures) -> None:
        """Add what the other knows."""
        for name in FIGURES:
            more = getattr(other, name)
            if more is not None:
                setattr(self, name, (getattr(self, name) or 0.0) + more)

    @property
    def nothing(self) -> bool:
        return not any(getattr(self, name) for name in FIGURES)


@dataclass
class Side:
    """One side of a row, with what helps to explain a difference."""

    figures: Figures = field(default_factory=Figures)
    names: Annotated[set[str], "the models' names as this side has them"] = field(default_factory=set)
    batch: Annotated[Figures, "the part of it at the batch tier"] = field(default_factory=Figures)
    cache_written: Annotated[float, "the part of input_tokens written to a cache"] = 0.0
    unpriced: Annotated[int, "calls without a price"] = 0

    def add(self, other: Side) -> None:
        self.figures.add(other.figures)
        self.batch.add(other.batch)
        self.names |= other.names
        self.cache_written += other.cache_written
        self.unpriced += other.unpriced


@dataclass(frozen=True)
class Row:
    """One provider, day and model."""

    provider: str
    day: Annotated[str, "UTC"]
    model: Annotated[
        str, "as both sides have it, else without its date; (all) where an export is not by model"
    ]
    taximeter: Figures
    provider_says: Figures
    agrees: bool
    differing: Annotated[tuple[str, ...], "the figures that differ beyond the tolerance"]
    explanations: Annotated[tuple[str, ...], "what explains the difference, as far as the figures show it"]


@dataclass(frozen=True)
class Reconciliation:
    """All rows. ``agrees`` is the exit code's question."""

    sources: Annotated[tuple[str, ...], "the exports that were read, and what each is"]
    store: str
    tolerance: Annotated[float, "relative; money under half a cent always agrees"]
    agrees: bool
    rows: tuple[Row, ...]
    totals: Annotated[tuple[Row, ...], "by provider, over the days and models of the rows"]
    findings: Annotated[tuple[str, ...], "what holds of several rows at once"]
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ``schema_version`` first."""
        data = dataclasses.asdict(self)
        return {"schema_version": data.pop("schema_version"), **data}


Key = tuple[str, date, str]
