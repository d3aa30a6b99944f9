"""Routes, tenants, caches and models as CSV: one line each, every figure, plain units in the heading.

Nothing is rounded; empty means not known. A text that a spreadsheet would run as a formula gets an
apostrophe.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

from taximeter_analysis.model import Report
from taximeter_analysis.pace import per_day, per_month

_QUANTILES = ("p50", "p95", "p99")


def render_csv(report: Report) -> str:
    """The whole table; the first column says what a line is about: total, route, tenant, cache or model."""
    observed = report.window.observed_s
    rows = [
        {
            "kind": "total",
            **_usage(report.totals),
            **_latency(report.latency, (*report.ranked, *report.latency.within)),
        }
    ]
    for route in report.routes:
        rows.append(
            {
                "kind": "route",
                "name": route.label,
                "service": route.service,
                **_usage(route.usage),
                **_latency(route.latency, (*route.ranked, *route.latency.within)),
                "slow_requests": route.slow_requests,
                "streamed_share": route.streamed_share,
                "first_byte_p50_s": route.first_byte.p50,
                **(
                    {}
                    if route.split is None
                    else {f"time_{name}": value for name, value in vars(route.split).items()}
                ),
            }
        )
    rows += [{"kind": "tenant", "name": item.tenant, **_usage(item.usage)} for item in report.tenants]
    rows += [
        {"kind": "cache", "name": item.name, "cache_lookups": item.lookups, "cache_hits": item.hits}
        for item in report.caches
    ]
    for model in report.models:
        fields = (
            "calls",
            "errors",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "cost_usd",
            "unpriced_calls",
        )
        rows.append(
            {
                "kind": "model",
                "name": model.model,
                "operation": model.operation,
                "provider": model.provider,
                **{name: getattr(model, name) for name in fields},
                **_latency(model.latency, ()),
            }
        )
    for row in rows:
        row["cost_usd_per_day"] = per_day(row.get("cost_usd"), observed)
        row["cost_usd_per_month"] = per_month(row.get("cost_usd"), observed)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _usage(usage: Any) -> dict[str, Any]:
    return dataclasses.asdict(usage)


def _latency(latency: Any, ranked: Any) -> dict[str, Any]:
    found = {f"{name}_s": getattr(latency, name) for name in (*_QUANTILES, "max")}
    for each in ranked:
        found |= {f"p{each.q * 100:.0f}_low_s": each.low, f"p{each.q * 100:.0f}_high_s": each.high}
    return found


def _plain(value: Any) -> Any:
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )
