"""``make prove-n-plus-one``: precision and recall of N+1 on traces of real runs, ours and two peers'."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Sequence

from benchmarks.nplusone.peers import ALWAYS, VARIABLE, perf_sentinel, sentry, spans
from benchmarks.nplusone.record import Labelled, recorded
from benchmarks.nplusone.scenarios import N_PLUS_ONE
from taximeter_analysis.advise.material import read
from taximeter_analysis.advise.repeated import classify
from taximeter_analysis.selection import select
from taximeter_analysis.store import Store, open_store
from taximeter_analysis.window import Filters

WANTED = 0.98


def main() -> int:
    print("==> recording", file=sys.stderr, flush=True)
    with recorded() as (path, labelled), open_store(path) as store:
        traces = spans(store)
        known = [each for each in labelled if each.trace in traces]
        chosen = {each.trace: traces[each.trace] for each in known}
        rows: dict[str, Collection[str] | None] = {
            "Taximeter": ours(store),
            "Taximeter by its defaults": ours(store, values=False),
            "Sentry's rules": {each.trace for each in known if sentry(traces[each.trace])},
            "Sentry's rules without 50 ms": {each.trace for each in known if sentry(traces[each.trace], 0.0)},
            "perf-sentinel": perf_sentinel(chosen),
            "perf-sentinel, always": perf_sentinel(chosen, ALWAYS),
        }
    positives = sum(each.label == N_PLUS_ONE for each in known)
    print(f"{len(known)} of {len(labelled)} traces recorded: {positives} N+1, {len(known) - positives} not\n")
    print(f"{'detector':<30} precision  recall  found  false  missed")
    good = len(known) == len(labelled) >= 200
    for name, found in rows.items():
        if found is None:
            print(f"{name:<30} not here: name the program in {VARIABLE}")
            continue
        right, false, missed = _counts(known, found)
        precision, recall = right / max(1, right + false), right / max(1, right + missed)
        print(f"{name:<30} {precision:9.3f} {recall:7.3f} {right:6} {false:6} {missed:7}")
        if name == "Taximeter":
            good &= precision >= WANTED and recall >= WANTED
    _by_scenario(known, rows)
    print(f"\n{'holds' if good else 'does NOT hold'}: ours at least {WANTED} on at least 200 traces")
    return 0 if good else 1


def ours(store: Store, values: bool = True) -> set[str]:
    """Traces in which ours sees an N+1, each judged by itself; ``values``: with TAXIMETER_EVIDENCE_VALUES."""
    select(store, Filters())
    material = read(store)
    if not values:
        for request in material.requests:
            for call in request.calls:
                call.given = call.returned = None
    return {
        request.trace
        for request in material.requests
        if any(group.kind == "n_plus_one" for group in classify(request))
    }


def _counts(known: Sequence[Labelled], found: Collection[str]) -> tuple[int, int, int]:
    right = sum(each.label == N_PLUS_ONE and each.trace in found for each in known)
    false = sum(each.label != N_PLUS_ONE and each.trace in found for each in known)
    return right, false, sum(each.label == N_PLUS_ONE and each.trace not in found for each in known)


def _by_scenario(known: Sequence[Labelled], rows: dict[str, Collection[str] | None]) -> None:
    groups: dict[tuple[str, str, str], list[Labelled]] = defaultdict(list)
    for each in known:
        groups[each.label, each.scenario, each.driver].append(each)
    shown = {name: found for name, found in rows.items() if found is not None}
    print(f"\nflagged as N+1, of all:  {'  '.join(shown)}")
    for (label, name, driver), members in sorted(groups.items()):
        counts = "  ".join(
            f"{sum(each.trace in found for each in members)} of {len(members)}".rjust(len(title))
            for title, found in shown.items()
        )
        print(f"{label:<11} {name:<22} {driver:<11} {counts}")


if __name__ == "__main__":
    sys.exit(main())
