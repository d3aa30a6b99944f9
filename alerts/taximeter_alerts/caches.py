"""Alerts about embeddings and the service's caches."""

from __future__ import annotations

from taximeter import semconv
from taximeter_alerts import recording as r
from taximeter_alerts.model import TICKET, Alert, ref
from taximeter_alerts.profile import Profile
from taximeter_alerts.requests import ROUTE_TRACES, busy, known, median, regressed
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """Embedding calls per request, and hit rates: against the budget, and against what they were."""
    return [
        Alert(
            "TaximeterEmbeddingCallsSpike",
            TICKET,
            f"{regressed(r.ROUTE_EMBEDDINGS, t.embedding_factor, t.embedding_delta, p)}\n{busy(t)}",
            p.hold,
            f"{ref(c.JOB)} {ref(c.ROUTE)}: more embedding calls per request",
            'A request makes {{ $value | printf "%.2f" }} embedding calls, more than '
            f"{t.embedding_factor:g} times the median of the last {p.history}.",
            "caches",
            by=(c.JOB, c.ROUTE),
            keep=p.keep,
            traces=f"{ROUTE_TRACES} && span.{semconv.REQUEST_EMBEDDING_CALLS} > 0 }}",
        ),
        *_below_target(t, p),
        Alert(
            "TaximeterCacheHitRateDropped",
            TICKET,
            f"{median(r.CACHE_RATIO, p)} - {r.CACHE_RATIO} > {t.cache_drop:g}\n"
            f"and on ({c.JOB}, {c.CACHE}) {r.CACHE_LOOKUPS} > {t.min_requests_per_second:g}\n"
            f"and {known(r.CACHE_RATIO, p)}",
            p.hold,
            f"{ref(c.JOB)}: cache {ref(c.CACHE)} hits less than it used to",
            f"Its hit rate is {{{{ $value | humanizePercentage }}}} (points) below the median of the last "
            f"{p.history}.",
            "caches",
            by=(c.JOB, c.CACHE),
            keep=p.keep,
        ),
    ]


def _below_target(t: Thresholds, p: Profile) -> list[Alert]:
    """Over a day and by lookups, so that neither a cold start nor a quiet night decides."""
    if not t.caches:
        return []
    by = f"sum by ({c.JOB}, {c.CACHE})"

    def ratio(selector: str) -> str:
        lookups = f"{by} (increase({c.CACHE_LOOKUPS}{selector}[{p.day}]))"
        hits = f"({by} (increase({c.CACHE_HITS}{selector}[{p.day}])) or 0 * {lookups})"
        return f"{hits}\n  / ({lookups} > {t.min_lookups:g})"

    return [
        Alert(
            "TaximeterCacheHitRateLow",
            TICKET,
            "\nor\n".join(f"(\n  {ratio(match.selector)}\n) < {match.limit:g}" for match in t.caches),
            p.hold,
            f"{ref(c.JOB)}: cache {ref(c.CACHE)} is below its target",
            f"It hit {{{{ $value | humanizePercentage }}}} of its lookups in the last {p.day}, less than "
            "the budget asks.",
            "caches",
            by=(c.JOB, c.CACHE),
            keep=p.keep,
        )
    ]
