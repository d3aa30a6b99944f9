"""The report computed a second time, from the raw OTLP of a run: plain Python, nothing of Taximeter's.

Every name is typed by hand, every figure is worked out the long way: no SQL, no column store, no
shared helper. `figures` returns the report's own tree (the documented JSON) as far as it is about the
run; a test holds the two against each other leaf by leaf.
"""

from __future__ import annotations

import gzip
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CLIENT, SERVER, ERROR = 3, 2, 2
ACCOUNT = {
    "db_calls": "taximeter.request.db.calls",
    "db_time_s": "taximeter.request.db.duration",
    "model_calls": "taximeter.request.model.calls",
    "model_attempts": "taximeter.request.model.attempts",
    "embedding_calls": "taximeter.request.embedding.calls",
    "input_tokens": "taximeter.request.tokens.input",
    "output_tokens": "taximeter.request.tokens.output",
    "cached_tokens": "taximeter.request.tokens.cached",
    "cost_usd": "taximeter.request.cost",
    "unpriced_calls": "taximeter.request.unpriced.calls",
    "cache_lookups": "taximeter.request.cache.lookups",
    "cache_hits": "taximeter.request.cache.hits",
    "embedding_inputs": "taximeter.request.embedding.inputs",
    "embedding_duplicates": "taximeter.request.embedding.duplicates",
}
SPREAD = ("db_calls", "model_calls", "embedding_calls", "input_tokens", "output_tokens", "cost_usd")
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
SLOW_NS, MIN_REPEATS, TOP = 2_000_000_000, 5, 10


@dataclass
class Span:
    """A span as it came."""

    trace: str
    id: bytes
    parent: bytes
    kind: int
    name: str
    start: int
    end: int
    failed: bool
    service: str
    attributes: dict[str, Any]
    calls: list[Span] = field(default_factory=list)  # of a server span

    @property
    def took(self) -> int:
        return self.end - self.start

    def get(self, name: str) -> Any:
        return self.attributes.get(name)

    @property
    def family(self) -> str:
        operation = self.get("gen_ai.operation.name")
        if operation == "embeddings":
            return "embedding"
        if operation is not None:
            return "model"
        if self.kind == CLIENT and self.get("db.system.name") is not None:
            return "db"
        return "http" if self.kind == CLIENT and self.get("http.request.method") else ""

    @property
    def label(self) -> str:
        return f"{self.get('http.request.method')} {self.get('http.route') or '(no route)'}"

    @property
    def error(self) -> bool:
        return self.failed or (self.get("http.response.status_code") or 0) >= 500


def messages(path: Path) -> Iterator[bytes]:
    """What stands after each length."""
    data, at = gzip.decompress(path.read_bytes()), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def read(bodies: Iterable[bytes]) -> list[Span]:
    """Every span once, however often it was sent."""
    spans: dict[tuple[bytes, bytes], Span] = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                for raw in scope.spans:
                    found = Span(
                        raw.trace_id.hex(), raw.span_id, raw.parent_span_id, raw.kind, raw.name,
                        raw.start_time_unix_nano, raw.end_time_unix_nano, raw.status.code == ERROR,
                        about["service.name"], {pair.key: _value(pair.value) for pair in raw.attributes},
                    )  # fmt: skip
                    spans.setdefault((raw.trace_id, raw.span_id), found)
    return list(spans.values())


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def requests_of(spans: list[Span]) -> tuple[list[Span], list[Span]]:
    """Server spans with the calls below them, and the calls that are below none."""
    by_id = {(span.trace, span.id): span for span in spans}
    outside: list[Span] = []
    for span in spans:
        span.calls.clear()
    for span in spans:
        if not span.family:
            continue
        above = by_id.get((span.trace, span.parent))
        while above is not None and above.kind != SERVER:
            above = by_id.get((above.trace, above.parent))
        (above.calls if above is not None else outside).append(span)
    return [span for span in spans if span.kind == SERVER], outside


def figures(spans: list[Span]) -> dict[str, Any]:
    """The report of these spans, as its JSON has it."""
    requests, outside = requests_of(spans)
    calls = [call for request in requests for call in request.calls]
    first, last = min(r.start for r in requests), max(r.end for r in requests)
    observed = (last - first) / 1e9
    usage = _usage(requests)
    longest = max(requests, key=lambda r: (r.took, -r.start))
    return {
        "window": {"since": None, "until": None, "first": first / 1e9, "last": last / 1e9,
                   "observed_s": observed},
        "services": sorted({request.service for request in requests}),
        "totals": usage,
        "error_rate": usage["errors"] / usage["requests"],
        "requests_per_second": len(requests) / observed,
        "spread": _spread(requests),
        "latency": _quantiles([r.took for r in requests], 1e9),
        "ranked": _ranked([r.took for r in requests]),
        "split": _split(requests),
        "totals_from_spans": _span_totals(requests, calls, outside),
        "routes": _routes(requests),
        "tenants": [
            {"tenant": tenant, "usage": _usage(group)}
            for tenant, group in sorted(
                _groups(requests, lambda r: r.get("taximeter.tenant")).items(),
                key=lambda item: (-_usage(item[1])["cost_usd"], -len(item[1]), item[0] or "~"),
            )
        ],
        "models": _models(calls + outside),
        "caches": _caches(requests),
        "slow": _slow(requests),
        "repeated": _repeated(requests),
        "monthly_usd": None if observed < 30 else usage["cost_usd"] / observed * 30 * 86400,
        "timeline": _timeline(requests, first, last),
        "slowest": _waterfall(longest, [span for span in spans if span.trace == longest.trace]),
    }  # fmt: skip


def _groups(spans: Iterable[Span], key: Callable[[Span], Any]) -> dict[Any, list[Span]]:
    groups: dict[Any, list[Span]] = defaultdict(list)
    for span in spans:
        groups[key(span)].append(span)
    return groups


def _usage(requests: list[Span]) -> dict[str, Any]:
    sums: dict[str, Any] = {"requests": len(requests), "errors": sum(r.error for r in requests)}
    for name, attribute in ACCOUNT.items():
        values = [r.attributes[attribute] for r in requests]
        sums[name] = math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)
    return sums


def _spread(requests: list[Span]) -> dict[str, Any]:
    if len(requests) < 2:
        return dict.fromkeys(SPREAD)
    return {name: statistics.stdev(float(r.attributes[ACCOUNT[name]]) for r in requests) for name in SPREAD}


def _rank(q: Fraction, count: int) -> int:
    return math.ceil(q * count)


def _quantiles(values: list[Any], unit: float = 1.0) -> dict[str, Any]:
    ordered, count = sorted(values), len(values)
    found: dict[str, Any] = {"count": count, "within": [], "p95_weak": count < 59, "p99_weak": count < 299}
    for name, q in (("p50", Fraction(50, 100)), ("p95", Fraction(95, 100)), ("p99", Fraction(99, 100))):
        found[name] = ordered[_rank(q, count) - 1] / unit if count else None
    found["max"] = ordered[-1] / unit if count else None
    return found


def _ranked(nanoseconds: list[int]) -> list[dict[str, Any]]:
    """Each quantile with its exact binomial bounds: the k-th value is a bound as far as chance allows."""
    ordered, count, result = sorted(nanoseconds), len(nanoseconds), []
    for text in ("0.5", "0.95", "0.99"):
        q = Fraction(text)
        chances = [math.comb(count, k) * q**k * (1 - q) ** (count - k) for k in range(count + 1)]
        below = list(accumulate(chances))  # below[k]: at most k of the values lie under the quantile
        # The k-th smallest is under it when at least k values are: P(B >= k) = 1 - below[k - 1].
        lows = [k for k in range(1, count + 1) if 1 - below[k - 1] >= Fraction("0.95")]
        highs = [k for k in range(1, count + 1) if below[k - 1] >= Fraction("0.95")]
        result.append(
            {
                "q": float(q), "count": count, "value": ordered[_rank(q, count) - 1] / 1e9,
                "low": ordered[lows[-1] - 1] / 1e9 if lows else None,
                "high": ordered[highs[0] - 1] / 1e9 if highs else None,
            }
        )  # fmt: skip
    return result


def _covered(spells: list[tuple[int, int]]) -> int:
    """How many nanoseconds at least one spell covers."""
    length, reach = 0, 0
    for begin, end in sorted(spells):
        length += max(0, end - max(begin, reach))
        reach = max(reach, end)
    return length


def parts(request: Span) -> tuple[int, int, int, int]:
    """Nanoseconds of database, models, other calls and its own."""

    def spells(*families: str) -> list[tuple[int, int]]:
        cut = [
            (max(request.start, call.start), min(request.end, call.end))
            for call in request.calls
            if call.family in families
        ]
        return [spell for spell in cut if spell[1] > spell[0]]

    model = _covered(spells("model", "embedding"))
    either = _covered(spells("model", "embedding", "db"))
    busy = _covered(spells("model", "embedding", "db", "http"))
    return either - model, model, busy - either, request.took - busy


def _split(requests: list[Span]) -> dict[str, float]:
    sums = [sum(part) / 1e9 for part in zip(*map(parts, requests), strict=True)]
    return dict(zip(("db_s", "model_s", "http_s", "other_s"), sums, strict=True))


def _span_totals(requests: list[Span], calls: list[Span], outside: list[Span]) -> dict[str, Any]:
    everything = calls + outside

    def of(spans: list[Span], family: str) -> int:
        return sum(span.family == family for span in spans)

    def tokens(name: str) -> int:
        return sum(span.get(f"gen_ai.usage.{name}") or 0 for span in everything)

    def money(spans: list[Span]) -> float:
        return math.fsum(span.get("gen_ai.usage.cost.amount") or 0.0 for span in spans)

    return {
        "requests": len(requests), "db_calls": of(everything, "db"), "model_calls": of(everything, "model"),
        "embedding_calls": of(everything, "embedding"), "input_tokens": tokens("input_tokens"),
        "output_tokens": tokens("output_tokens"), "cached_tokens": tokens("cache_read.input_tokens"),
        "cost_usd": money(everything), "outside_db_calls": of(outside, "db"),
        "outside_model_calls": of(outside, "model"), "outside_embedding_calls": of(outside, "embedding"),
        "outside_cost_usd": money(outside),
    }  # fmt: skip


def _routes(requests: list[Span]) -> list[dict[str, Any]]:
    groups = _groups(requests, lambda r: (r.service, r.get("http.request.method"), r.get("http.route")))
    rows = []
    for (service, method, route), group in groups.items():
        usage, split, size = _usage(group), _split(group), len(group)
        whole = sum(r.took for r in group) / 1e9
        first = [r.attributes["taximeter.request.first_byte"] for r in group
                 if "taximeter.request.first_byte" in r.attributes]  # fmt: skip
        rows.append(
            {
                "service": service, "method": method, "route": route, "label": group[0].label,
                "usage": usage, "spread": _spread(group), "latency": _quantiles([r.took for r in group], 1e9),
                "ranked": _ranked([r.took for r in group]), "first_byte": _quantiles(first), "split": split,
                "error_rate": usage["errors"] / size, "db_calls_per_request": usage["db_calls"] / size,
                "db_time_share": split["db_s"] / whole, "model_time_share": split["model_s"] / whole,
                "model_calls_per_request": usage["model_calls"] / size,
                "embedding_calls_per_request": usage["embedding_calls"] / size,
                "cost_per_request_usd": usage["cost_usd"] / size,
                "cache_hit_rate": usage["cache_hits"] / usage["cache_lookups"] if usage["cache_lookups"]
                else None,
                "streamed_share": sum(r.attributes["taximeter.request.streamed"] for r in group) / size,
                "slow_requests": sum(r.took >= SLOW_NS for r in group),
                "_order": (-sum(r.took for r in group), method, route),
            }
        )  # fmt: skip
    rows.sort(key=lambda row: row.pop("_order"))
    return rows


def _models(calls: list[Span]) -> list[dict[str, Any]]:
    groups = _groups(
        (call for call in calls if call.family in ("model", "embedding")),
        lambda c: (
            c.get("gen_ai.response.model") or c.get("gen_ai.request.model"),
            c.get("gen_ai.provider.name"),
            c.get("gen_ai.operation.name"),
        ),
    )
    rows = []
    for (model, provider, operation), group in groups.items():

        def tokens(name: str, group: list[Span] = group) -> int | None:
            values = [c.get(f"gen_ai.usage.{name}") for c in group]
            known = [value for value in values if value is not None]
            return sum(known) if known else None

        money = [c.get("gen_ai.usage.cost.amount") for c in group]
        rows.append(
            {
                "model": model, "provider": provider, "operation": operation, "calls": len(group),
                "errors": sum(c.failed for c in group), "input_tokens": tokens("input_tokens"),
                "output_tokens": tokens("output_tokens"), "cached_tokens": tokens("cache_read.input_tokens"),
                "cost_usd": math.fsum(amount for amount in money if amount is not None),
                "unpriced_calls": sum(c.get("gen_ai.usage.cost.amount") is None and not c.failed
                                      for c in group),
                "latency": _quantiles([c.took for c in group], 1e9),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row["cost_usd"], -row["calls"], row["model"]))


def _caches(requests: list[Span]) -> list[dict[str, Any]]:
    """From ``name=+hash,-hash/normalised other=...`` on each request."""
    seen: dict[str, list[bool]] = defaultdict(list)
    for request in requests:
        for part in (request.get("taximeter.cache.lookups") or "").split():
            name, _, looks = part.partition("=")
            seen[name] += [look.startswith("+") for look in looks.split(",")]
    rows = [
        {"name": name, "lookups": len(hits), "hits": sum(hits), "hit_rate": sum(hits) / len(hits)}
        for name, hits in seen.items()
    ]
    return sorted(rows, key=lambda row: (-int(str(row["lookups"])), str(row["name"])))


def _slow(requests: list[Span]) -> dict[str, Any]:
    slow = sorted((r for r in requests if r.took >= SLOW_NS), key=lambda r: (-r.took, r.start))
    queries = [
        (c, r) for r in requests for c in r.calls if c.family == "db" and c.took >= SLOW_NS
    ]  # fmt: skip
    return {
        "threshold_s": SLOW_NS / 1e9,
        "requests_total": len(slow),
        "queries_total": len(queries),
        "requests": [
            {
                "trace_id": r.trace, "service": r.service, "label": r.label, "start": r.start / 1e9,
                "duration_s": r.took / 1e9, "status": r.get("http.response.status_code"), "error": r.error,
                "tenant": r.get("taximeter.tenant"), "split": _split([r]),
                "db_calls": r.attributes[ACCOUNT["db_calls"]],
                "model_calls": r.attributes[ACCOUNT["model_calls"]],
                "cost_usd": r.attributes[ACCOUNT["cost_usd"]],
            }
            for r in slow[:TOP]
        ],
        "queries": [
            {
                "trace_id": c.trace, "span_id": c.id.hex(), "service": c.service, "label": r.label,
                "start": c.start / 1e9, "duration_s": c.took / 1e9, "statement": c.get("db.query.text"),
                "rows": c.get("db.response.returned_rows"),
            }
            for c, r in sorted(queries, key=lambda pair: (-pair[0].took, pair[0].start))[:TOP]
        ],
    }  # fmt: skip


def _repeated(requests: list[Span]) -> dict[str, Any]:
    runs: dict[tuple[str, str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for request in requests:
        by_text = _groups((c for c in request.calls if c.family == "db"), lambda c: c.get("db.query.text"))
        for text, group in by_text.items():
            if text is not None and len(group) >= MIN_REPEATS:
                runs[request.service, request.label, text].append(
                    (len(group), sum(c.took for c in group), request.trace)
                )
    rows = [
        {
            "service": service, "label": label, "statement": text, "requests": len(found),
            "repeats_median": statistics.median(times for times, _, _ in found),
            "repeats_max": max(times for times, _, _ in found),
            "time_per_request_s": sum(ns for _, ns, _ in found) / 1e9 / len(found),
            "total_time_s": sum(ns for _, ns, _ in found) / 1e9, "calls": sum(times for times, _, _ in found),
            "trace_id": max(found)[2],
        }
        for (service, label, text), found in runs.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: (-float(str(row["total_time_s"])), row["label"], row["statement"]))
    return {"min_repeats": MIN_REPEATS, "total": len(rows), "shown": rows[:TOP]}


def _timeline(requests: list[Span], first: int, last: int) -> dict[str, Any]:
    step = next(step for step in STEPS if (last - first) / 1e9 / step <= 60)
    groups = _groups(requests, lambda r: (r.start - first) // (step * 10**9))
    buckets = []
    for index in range(max(groups) + 1):
        group = groups.get(index, [])
        latency = _quantiles([r.took for r in group], 1e9)
        buckets.append(
            {
                "start": (first + index * step * 10**9) / 1e9, "requests": len(group),
                "errors": sum(r.error for r in group), "p50": latency["p50"], "p95": latency["p95"],
                "cost_usd": math.fsum(r.attributes[ACCOUNT["cost_usd"]] for r in group),
            }
        )  # fmt: skip
    return {"step_s": float(step), "buckets": buckets}


def _waterfall(request: Span, spans: list[Span]) -> dict[str, Any]:
    by_id = {span.id: span for span in spans}

    def path(span: Span) -> list[Span]:
        above = by_id.get(span.parent)
        return [*(path(above) if above else []), span]

    def detail(span: Span) -> Any:
        names = ("db.query.text", "gen_ai.response.model", "gen_ai.request.model")
        return next((span.get(name) for name in names if span.get(name) is not None), None)

    groups = {"model": "model", "embedding": "model", "db": "db", "http": "http"}
    ordered = sorted(spans, key=lambda span: [(step.start, step.id) for step in path(span)])
    return {
        "trace_id": request.trace, "label": request.label, "duration_s": request.took / 1e9,
        "spans_total": len(spans),
        "bars": [
            {
                "name": span.name, "detail": detail(span), "service": span.service,
                "group": "request" if span.kind == SERVER else groups.get(span.family, "other"),
                "depth": len(path(span)) - 1, "offset_s": (span.start - request.start) / 1e9,
                "duration_s": span.took / 1e9, "error": span.failed,
                "cost_usd": span.get("gen_ai.usage.cost.amount"),
            }
            for span in ordered[:200]
        ],
    }  # fmt: skip
