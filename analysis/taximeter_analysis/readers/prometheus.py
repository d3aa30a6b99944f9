"""A report from a Prometheus that scrapes the collector: sums are exact, quantiles within their buckets.

The agent's metrics count every request, sampled or not. They are labelled by route and not by method,
so a route is one row with all its methods; single requests, queries, statements and tenants' requests
are in no metric and left out. Each of these limits is a note of the report.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any

from taximeter import semconv
from taximeter_analysis import course
from taximeter_analysis.figures import NO_ROUTE, quantiles, share
from taximeter_analysis.model import (
    Bucket,
    CacheUsage,
    ModelUsage,
    RepeatedStatements,
    Report,
    Route,
    Slow,
    SpanTotals,
    Spread,
    Timeline,
    Usage,
    Window,
)
from taximeter_analysis.readers.place import Place
from taximeter_analysis.readers.promql import LOOKBACK_S, Buckets, Growth, Key, text
from taximeter_analysis.readers.web import Web
from taximeter_analysis.store import NothingToReport
from taximeter_analysis.window import Filters
from taximeter_collector.prometheus import catalogue as names
from taximeter_collector.store.schema import MIN_REPEATS

DEFAULT_WINDOW_S = 24 * 3600.0
_ROUTE = (names.JOB, names.ROUTE)
_MODEL = (names.ANSWERED, names.MODEL, names.PROVIDER, names.OPERATION)
_NO_SPREAD = Spread(None, None, None, None, None, None)

#: Of `Usage`: the counter that holds it. Absent where nothing happened.
_COUNTERS = {
    "db_calls": names.DB_CALLS.sum,
    "db_time_s": names.DB_SECONDS,
    "model_calls": names.MODEL_CALLS,
    "model_attempts": names.MODEL_ATTEMPTS,
    "embedding_calls": names.EMBEDDING_CALLS,
    "input_tokens": names.TOKENS_INPUT,
    "output_tokens": names.TOKENS_OUTPUT,
    "cached_tokens": names.TOKENS_CACHED,
    "cost_usd": names.REQUEST_COST.sum,
    "cache_lookups": names.CACHE_LOOKUPS,
    "cache_hits": names.CACHE_HITS,
    "embedding_inputs": names.EMBEDDING_INPUTS,
    "embedding_duplicates": names.EMBEDDING_DUPLICATES,
    "unpriced_calls": names.REQUEST_UNPRICED,
}
_REAL = ("db_time_s", "cost_usd")


def report(
    where: Place,
    filters: Filters,
    *,
    slow_s: float,
    now: float,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Ask the Prometheus at ``where``.

    Raises:
        ValueError: a filter that its labels cannot answer.
        NothingToReport: no request in the window.
        StoreError: no answer, or none of Prometheus's.
    """
    for name in ("tenant", "version"):
        if getattr(filters, name) is not None:
            raise ValueError(
                f"{where}: requests are not labelled by {name} in Prometheus; ask the span store or a Tempo"
            )
    until = min(now, filters.until if filters.until is not None else now)
    since = filters.since if filters.since is not None else until - DEFAULT_WINDOW_S
    selector = f"{names.JOB}={text(filters.service)}" if filters.service is not None else ""
    with Web(where) as web:
        reader = _Reader(Growth(web, since, until, selector), slow_s, progress)
        return reader.report(str(where), filters, now)


class _Reader:
    """One report being put together."""

    def __init__(self, growth: Growth, slow_s: float, progress: Callable[[str], None]) -> None:
        self._growth, self._slow_s, self._progress = growth, slow_s, progress

    def report(self, where: str, filters: Filters, now: float) -> Report:
        growth = self._growth
        self._progress("requests")
        counted = growth.of(names.REQUESTS.count, *_ROUTE, names.METHOD, names.STATUS)
        if not counted:
            raise NothingToReport(
                f"{where}: no request in the window ({names.REQUESTS.count} did not grow); does it scrape "
                "the collector, with honor_labels: true?"
            )
        self._progress("the requests' accounts")
        sums = {field: growth.of(name, *_ROUTE) for field, name in _COUNTERS.items()}
        seen = growth.of(names.DB_CALLS.count, *_ROUTE)  # who has an account at all: there, absent means 0
        jobs = {key[0] for key in seen}
        latency = self._histogram(names.REQUESTS, _ROUTE)
        first = self._histogram(names.FIRST_BYTE, _ROUTE)
        streamed = growth.of(names.STREAMED, *_ROUTE)
        routes = []
        for key in sorted({key[:2] for key in counted}):
            mine = {rest: value for rest, value in counted.items() if rest[:2] == key}
            usage = _usage(mine, {field: found.get(key) for field, found in sums.items()}, key[0] in jobs)
            histograms = latency[key], first[key]
            routes.append(self._route(key, mine, usage, histograms, streamed.get(key, 0.0)))
        routes.sort(key=lambda route: -_time(latency[route.service or "", route.route or ""]))
        totals = _sum([route.usage for route in routes])
        timeline = self._timeline()
        busy = [bucket for bucket in timeline.buckets if bucket.requests]
        begin = busy[0].start if busy else growth.since
        end = min(busy[-1].start + timeline.step_s if busy else growth.until, growth.until)
        models = self._models()
        spans = self._call_totals(totals, models)
        whole, rate = _merged(latency.values()), share(totals.requests, end - begin)
        return Report(
            generated_at=now, store=where, window=Window(growth.since, growth.until, begin, end, end - begin),
            services=tuple(sorted({route.service for route in routes if route.service})),
            service_filter=filters.service, tenant_filter=None, version_filter=None, totals=totals,
            error_rate=share(totals.errors, totals.requests),
            requests_per_second=rate if totals.requests > 1 else None,
            spread=_NO_SPREAD, latency=whole.quantiles(), ranked=(), split=None, totals_from_spans=spans,
            routes=tuple(routes), tenants=(), models=models,
            slow=Slow(self._slow_s, whole.over(self._slow_s) or 0, 0, (), ()),
            repeated=RepeatedStatements(MIN_REPEATS, 0, ()),
            projection=course.projection(totals, spans, end - begin), timeline=timeline, slowest=None,
            notes=self._notes(filters, whole), caches=self._caches(),
        )  # fmt: skip

    def _histogram(self, histogram: names.Histogram, by: tuple[str, ...]) -> dict[Key, Buckets]:
        counts: dict[Key, dict[str, float]] = defaultdict(dict)
        for key, value in self._growth.of(histogram.bucket, *by, "le").items():
            counts[key[:-1]][key[-1]] = value
        found: dict[Key, Buckets] = defaultdict(lambda: Buckets((), ()))
        found.update({key: Buckets.of(each) for key, each in counts.items()})
        return found

    def _route(
        self,
        key: Key,
        counted: Mapping[Key, float],
        usage: Usage,
        histograms: tuple[Buckets, Buckets],
        streamed: float,
    ) -> Route:
        methods = sorted({rest[2] for rest in counted if rest[2]})
        service, route = key[0] or None, key[1] or None
        latency, first = histograms

        def each(figure: float | None) -> float | None:
            return share(figure, usage.requests)

        return Route(
            service=service, method=methods[0] if len(methods) == 1 else None, route=route,
            label=f"{', '.join(methods)} {route or NO_ROUTE}".strip(), usage=usage, spread=_NO_SPREAD,
            latency=latency.quantiles(), ranked=(), first_byte=first.quantiles(), split=None,
            error_rate=usage.errors / usage.requests, db_calls_per_request=each(usage.db_calls),
            db_time_share=None, model_time_share=None, model_calls_per_request=each(usage.model_calls),
            embedding_calls_per_request=each(usage.embedding_calls),
            cost_per_request_usd=each(usage.cost_usd),
            cache_hit_rate=share(usage.cache_hits, usage.cache_lookups),
            streamed_share=None if usage.db_calls is None else streamed / usage.requests,
            slow_requests=latency.over(self._slow_s) or 0,
        )  # fmt: skip

    def _models(self) -> tuple[ModelUsage, ...]:
        self._progress("models")
        growth = self._growth
        calls = growth.of(names.MODEL_SECONDS.count, *_MODEL, names.ERROR_TYPE)
        tokens = growth.of(names.MODEL_TOKENS.sum, *_MODEL, names.TOKEN_TYPE)
        money, priced = growth.of(names.MODEL_COST.sum, *_MODEL), growth.of(names.MODEL_COST.count, *_MODEL)
        latency = self._histogram(names.MODEL_SECONDS, _MODEL)
        groups: dict[tuple[str, str, str], set[Key]] = defaultdict(set)
        for key in {key[:4] for key in calls}:
            groups[key[0] or key[1], key[2], key[3]].add(key)
        found = []
        for (model, provider, operation), keys in groups.items():
            whole = sum(value for key, value in calls.items() if key[:4] in keys)
            failed = sum(value for key, value in calls.items() if key[:4] in keys and key[4])
            amounts = [money[key] for key in keys if key in money]
            spoken = {
                kind: [value for key, value in tokens.items() if key[:4] in keys and key[4] == kind]
                for kind in ("input", "output")
            }
            found.append(
                ModelUsage(
                    model=model or None, provider=provider or None, operation=operation or "other",
                    calls=round(whole), errors=round(failed),
                    **{f"{kind}_tokens": round(sum(each)) if each else None for kind, each in spoken.items()},
                    cached_tokens=None, cost_usd=math.fsum(amounts) if amounts else None,
                    unpriced_calls=max(0, round(whole - failed - sum(priced.get(key, 0.0) for key in keys))),
                    latency=_merged(latency[key] for key in keys).quantiles(),
                )
            )  # fmt: skip
        return tuple(sorted(found, key=lambda item: (-(item.cost_usd or 0.0), -item.calls, item.model or "")))

    def _caches(self) -> tuple[CacheUsage, ...]:
        lookups = self._growth.of(names.CACHE_LOOKUPS, names.CACHE)
        hits = self._growth.of(names.CACHE_HITS, names.CACHE)
        rows = [(key[0] or None, round(number), round(hits.get(key, 0.0))) for key, number in lookups.items()]
        rows.sort(key=lambda row: (-row[1], row[0] or ""))
        return tuple(CacheUsage(*row, share(row[2], row[1])) for row in rows)

    def _call_totals(self, totals: Usage, models: Iterable[ModelUsage]) -> SpanTotals:
        """The count from the calls' own instruments, beside that from the requests' accounts."""
        models = list(models)
        spent = math.fsum(self._growth.of(names.COST).values())
        outside = spent - (totals.cost_usd or 0.0)
        embeddings = sum(item.calls for item in models if item.operation == semconv.EMBEDDINGS)
        return SpanTotals(
            requests=totals.requests, db_calls=totals.db_calls or 0,
            model_calls=sum(item.calls for item in models) - embeddings, embedding_calls=embeddings,
            input_tokens=sum(item.input_tokens or 0 for item in models),
            output_tokens=sum(item.output_tokens or 0 for item in models),
            cached_tokens=totals.cached_tokens or 0, cost_usd=spent, outside_db_calls=0,
            outside_model_calls=0, outside_embedding_calls=0,
            outside_cost_usd=outside if outside > 1e-9 * spent else 0.0,
        )  # fmt: skip

    def _timeline(self) -> Timeline:
        self._progress("the course of things")
        growth, step = self._growth, course.step_for(self._growth.until - self._growth.since)
        matchers = growth.selector
        back = max(LOOKBACK_S, math.ceil(step))  # the last step may end after the window

        def grown(name: str, *by: str, more: str = "") -> dict[str, list[float]]:
            inner = ", ".join(part for part in (matchers, more) if part)
            found = {}
            for item in growth.steps(
                f"sum by ({', '.join(by)}) (last_over_time({name}{{{inner}}}[{back}s]))", step
            ):
                at = {round((float(t) - growth.since) / step): float(v) for t, v in item["values"]}
                values = [at.get(index, 0.0) for index in range(max(at) + 1)]
                label = item["metric"].get(by[0], "") if by else ""
                # What a series had before the window is its first value, or nothing when it began later.
                found[label] = [max(0.0, b - a) for a, b in pairwise(values)]
            return found

        requests = grown(names.REQUESTS.count).get("", [])
        errors = grown(names.REQUESTS.count, more=f'{names.STATUS}=~"5..|"').get("", [])
        money = grown(names.REQUEST_COST.sum).get("", [])
        bounds = grown(names.REQUESTS.bucket, "le")
        buckets = []
        for index, number in enumerate(requests):
            latency = Buckets.of({le: _at(values, index) for le, values in bounds.items()})
            found = latency.quantiles() if latency.count else quantiles(0, None, None)
            buckets.append(
                Bucket(
                    growth.since + index * step, round(number), round(_at(errors, index)), found.p50,
                    found.p95, _at(money, index),
                )
            )  # fmt: skip
        return Timeline(step, tuple(buckets))

    def _notes(self, filters: Filters, whole: Buckets) -> tuple[str, ...]:
        notes = [
            "from Prometheus: counts, tokens and money are exact for all scrapes in the window; each "
            "quantile is known to lie in a bucket of its histogram and shown by interpolation within",
            "a route is one row with all its methods; single requests, statements, time split and tenants "
            "are in no metric (ask the span store or a Tempo)",
        ]
        if filters.since is None:
            notes.append(f"no --since was given: the last {DEFAULT_WINDOW_S / 3600:.0f} h were read")
        if whole.over(self._slow_s) is None:
            bounds = ", ".join(f"{bound:g}" for bound in whole.bounds if not math.isinf(bound))
            notes.append(
                f"slow requests cannot be counted: {self._slow_s:g} s is no bound of the histogram ({bounds})"
            )
        return tuple(notes)


def _at(values: list[float], index: int) -> float:
    """A step's value; a series that ended before has none."""
    return values[index] if index < len(values) else 0.0


def _usage(counted: Mapping[Key, float], sums: Mapping[str, float | None], has_account: bool) -> Usage:
    values: dict[str, Any] = {item.name: None for item in fields(Usage)}
    values["requests"] = round(sum(counted.values()))
    values["errors"] = round(sum(value for key, value in counted.items() if not "100" <= key[3] < "500"))
    for name, value in sums.items():
        known = (0.0 if has_account else None) if value is None else value
        values[name] = known if known is None or name in _REAL else round(known)
    return Usage(**values)


def _sum(parts: list[Usage]) -> Usage:
    values: dict[str, Any] = {}
    for item in fields(Usage):
        known = [value for part in parts if (value := getattr(part, item.name)) is not None]
        values[item.name] = (math.fsum(known) if item.name in _REAL else sum(known)) if known else None
    return Usage(**values)


def _merged(parts: Iterable[Buckets]) -> Buckets:
    """Several histograms as one; all have the same bounds, or the coarser one's counts are carried on."""
    sums: dict[float, float] = defaultdict(float)
    parts = list(parts)
    for bound in sorted({bound for part in parts for bound in part.bounds}):
        for part in parts:
            reached = [count for edge, count in zip(part.bounds, part.at_most, strict=True) if edge <= bound]
            sums[bound] += reached[-1] if reached else 0.0
    return Buckets(tuple(sorted(sums)), tuple(sums[bound] for bound in sorted(sums)))


def _time(latency: Buckets) -> float:
    """About how much time a route took in all: it only puts the routes in order."""
    found, before, total = latency, 0.0, 0.0
    for bound, reached in zip(found.bounds, found.at_most, strict=True):
        total += (reached - before) * (0.0 if math.isinf(bound) else bound)
        before = reached
    return total
