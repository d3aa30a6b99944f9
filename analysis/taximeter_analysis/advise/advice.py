"""Runs every detector and ranks what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taximeter_analysis.advise import (
    answers,
    embeddings,
    parallel,
    pool,
    prompts,
    reads,
    repeated,
    retries,
    slow,
    streaming,
    transactions,
)
from taximeter_analysis.advise.material import LIMIT, Material, Request, read
from taximeter_analysis.advise.model import Finding
from taximeter_analysis.advise.worth import too_little, worth
from taximeter_analysis.pace import MIN_OBSERVED_S, MONTH_S
from taximeter_analysis.selection import select
from taximeter_analysis.store import NothingToReport, Store
from taximeter_analysis.window import Filters

DETECTORS: Mapping[str, Callable[[Material], Iterator[Finding]]] = {
    "repeated statements": repeated.find,
    "steady reads": reads.find,
    "slow statements": slow.find,
    "connection pool": pool.find,
    "transactions": transactions.find,
    "parallel calls": parallel.find,
    "embeddings": embeddings.find,
    "answers": answers.find,
    "prompts": prompts.find,
    "retries": retries.find,
    "streaming": streaming.find,
}


@dataclass(frozen=True)
class Advice:
    """All findings of a window, most worth first."""

    findings: tuple[Finding, ...]
    requests: int
    left_out: int  # earlier requests of the window that were not read
    observed_s: float
    totals: Mapping[str, float]  # by metric, over the requests that were read
    notes: tuple[str, ...]
    small: tuple[Finding, ...] = ()  # true, but too little to be worth a change (`worth.too_little`)

    @property
    def month_factor(self) -> float | None:
        """What a saving of the window is multiplied by for 30 days; None: too short a window."""
        return MONTH_S / self.observed_s if self.observed_s >= MIN_OBSERVED_S else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        factor = self.month_factor
        found = []
        for finding in self.findings:
            cost = finding.savings.get("cost_usd")
            month = None if cost is None or factor is None else cost.times(factor)
            found.append(
                finding.to_dict()
                | {
                    "saves_usd_per_month": None
                    if month is None
                    else {"value": month.value, "low": month.low, "high": month.high}
                }
            )
        return {
            "kind": "taximeter.advice",
            "version": 1,
            "requests": self.requests,
            "requests_left_out": self.left_out,
            "observed_s": self.observed_s,
            "totals": dict(self.totals),
            "notes": list(self.notes),
            "findings": found,
            "left_out_as_small": [finding.to_dict() for finding in self.small],
        }


def advise(store: Store, filters: Filters | None = None, limit: int = LIMIT) -> Advice:
    """Everything that the detectors find in the selected requests.

    Raises:
        NothingToReport: no request was selected.
    """
    chosen = filters or Filters()
    if select(store, chosen).requests == 0:
        asked = chosen.describe()
        what = "no requests" + (f" for {asked}" if asked else "")
        raise NothingToReport(f"{store.path}: {what}; there is nothing to advise upon")
    material = read(store, limit)
    totals = _totals(material.requests)
    by_route = {route: _totals(requests) for route, requests in material.by_route.items()}
    findings: list[Finding] = []
    small: list[Finding] = []
    for finding in (each for find in DETECTORS.values() for each in find(material)):
        scope = by_route.get((finding.service, finding.route or ""), totals)
        (small if too_little(finding, totals, scope) else findings).append(finding)
    findings.sort(key=lambda finding: (-worth(finding, totals), finding.kind, finding.route or ""))
    read_ = len(material.requests), material.left_out, material.observed_s
    return Advice(tuple(findings), *read_, totals, _notes(material), tuple(small))


def ceiling_of_embeddings(store: Store) -> float | None:
    """The hit rate that no cache of the selected requests' embedded texts goes beyond; None without any."""
    select(store, Filters())
    found = embeddings.stream_curve(read(store).requests)
    return found.ceiling if found.lookups else None


def _totals(requests: Sequence[Request]) -> dict[str, float]:
    paid = [call for request in requests for call in request.of("model", "embedding")]
    return {
        "duration_s": sum(request.duration_ns for request in requests) / 1e9,
        "first_byte_s": sum(
            request.duration_ns / 1e9 if request.first_byte_s is None else request.first_byte_s
            for request in requests
        ),
        "db_calls": sum(len(request.of("db")) for request in requests),
        "embedding_calls": sum(len(request.of("embedding")) for request in requests),
        "model_calls": sum(len(request.of("model")) for request in requests),
        "input_tokens": sum(call.input_tokens for call in paid),
        "cost_usd": sum(call.cost_usd for call in paid),
    }


def _notes(material: Material) -> tuple[str, ...]:
    notes = []
    if material.left_out:
        notes.append(
            f"{material.left_out:,} earlier requests of the window were not read (--limit): "
            "savings are those of the latest ones"
        )
    database = [call for _, call in material.calls("db")]
    if database and all(call.parameters is None for call in database):
        notes.append(
            "no parameter hashes are recorded: N+1 cannot be told from redundant reads (docs/evidence.md)"
        )
    if database and all(call.given is None for call in database):
        notes.append(
            "single values are not recorded (TAXIMETER_EVIDENCE_VALUES=200): nothing is said of calls that "
            "could run in parallel"
        )
    if 0 < material.observed_s < 3600:
        notes.append(f"{material.observed_s:.0f} s were observed: money per month is the pace of a moment")
    return tuple(notes)
