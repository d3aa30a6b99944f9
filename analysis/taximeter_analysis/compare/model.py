"""A comparison as data: the contract of ``taximeter compare --format json``.

Times are seconds, money USD, shares parts of 1. None means not known, which is not 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from taximeter_analysis.budget.model import Unit

SCHEMA_VERSION = 1

Verdict = Literal["better", "worse", "same", "not enough data"]
Met = Literal["reached", "not reached", "not certain"]


@dataclass(frozen=True)
class Figure:
    """One figure of one route (or of all requests) on both sides."""

    name: Annotated[str, "as in budget.yaml: latency_p95, db_calls, ..."]
    unit: Unit
    before: float | None
    after: float | None
    change: Annotated[float | None, "after / before - 1; None when there is no before"]
    low: Annotated[float | None, "lower bound of the change, holding with 95 % confidence"]
    high: Annotated[float | None, "upper bound of the change, holding with 95 % confidence"]
    p: Annotated[float | None, "two-sided, corrected over the table (Benjamini and Hochberg)"]
    verdict: Verdict
    count: Annotated[int, "units of the smaller side"]
    counted: Annotated[str, "requests, or runs"]
    needs: Annotated[
        int | None, "units a side that would show the smallest change that matters, 4 times in 5"
    ]


@dataclass(frozen=True)
class Subject:
    """A route, or all requests together."""

    label: str
    service: str | None
    requests_before: int
    requests_after: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Target:
    """One line of the plan's success table."""

    title: str
    name: Annotated[str, "the figure it is about"]
    unit: Unit
    target: Annotated[float, "a change (-0.4), or a least share (0.8)"]
    absolute: Annotated[bool, "the target is a value, not a change"]
    before: float | None
    after: float | None
    low: Annotated[float | None, "lower bound of the change (of the value), 95 %"]
    high: Annotated[float | None, "upper bound of the change (of the value), 95 %"]
    met: Met


@dataclass(frozen=True)
class Comparison:
    """Everything ``taximeter compare`` says."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    paired: Annotated[bool, "run by run: the first with the first"]
    effect: Annotated[float, "the smallest change that matters: surely smaller is `same`"]
    total: Subject
    routes: Annotated[tuple[Subject, ...], "in both; most requests first"]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    targets: tuple[Target, ...]
    notes: tuple[str, ...]
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ``schema_version`` first."""
        data = dataclasses.asdict(self)
        return {"schema_version": data.pop("schema_version"), **data}
