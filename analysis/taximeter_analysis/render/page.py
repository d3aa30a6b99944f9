"""The report as one self-contained page, for a browser, a printer and a screen reader.

Promises: no reference to anything outside the document (a Content-Security-Policy in the page
forbids it, so that even a mistake of ours could not load anything); every stranger's string is
escaped; the page works without JavaScript, which only adds sorting, filtering and folding.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from taximeter_analysis.highlights import highlights
from taximeter_analysis.model import Quantiles, Report, Route, Split, Waterfall, bounds_of
from taximeter_analysis.render import units
from taximeter_analysis.render.charts import LogAxis, percent_of, times

_TEMPLATES = Path(__file__).parent / "templates"

#: Longer lists fold behind a button (they are whole in print and without JavaScript).
FOLD = 20
_WORTH_IT = 5  # a button that hides two rows only annoys


def render_page(report: Report, *, stamp: str | None = None) -> str:
    """The whole document. With a ``stamp``, as `serve` shows it: linked, and following the store if asked."""
    return render_template(
        "report.html",
        stamp,
        report=report,
        highlights=highlights(report),
        several=len(report.services) > 1,
        sure_word="within" if report.latency.within else "95 % sure",
        fold=FOLD if len(report.routes) > FOLD + _WORTH_IT else len(report.routes),
        **_latency(report),
        **_split(report),
        **_queries(report),
        **_money(report),
        **_totals(report),
        times=times(report.timeline, with_money=bool(report.totals.cost_usd)),
        waterfall=bars_of(report.slowest) if report.slowest and len(report.slowest.bars) > 1 else None,
    )


def render_template(template: str, stamp: str | None, **context: Any) -> str:
    """One of our pages, with its script and style in it."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("seconds", "money", "count", "compact", "per_request", "percent", "clock", "plain", "limit"):
        environment.filters[name] = getattr(units, name)
    script, style = page_script(live=stamp is not None), _asset("report.css")
    return environment.get_template(template).render(
        script=Markup(script),  # noqa: S704  (our own file)
        style=Markup(style),  # noqa: S704
        script_hash=script_hash(live=stamp is not None),
        links=stamp is not None,
        stamp=stamp or "",
        route_link=route_link,
        pct=percent_of,
        sure=_sure,
        **context,
    )


def page_script(*, live: bool) -> str:
    return _asset("report.js") + (_asset("live.js") if live else "")


def script_hash(*, live: bool) -> str:
    """What the Content-Security-Policy allows: a browser hashes what stands between the tags."""
    return base64.b64encode(hashlib.sha256(page_script(live=live).encode()).digest()).decode()


def route_link(item: Any) -> str:
    """Where `serve` shows a route."""
    named = {name: getattr(item, name) for name in ("service", "method", "route")}
    return "/route?" + urlencode({name: value for name, value in named.items() if value is not None})


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _latency(report: Report) -> dict[str, Any]:
    measured = [route for route in report.routes if route.latency.count]
    by_p95 = sorted(measured, key=lambda route: route.latency.p95 or 0.0, reverse=True)
    figures = (route.latency for route in measured)
    axis = LogAxis(value for each in figures for value in (each.p50, each.p95, each.p99) if value is not None)
    return {"latency_routes": by_p95, "latency_axis": axis, "marks": _marks}


def _sure(item: Route | Report, q: float) -> str:
    """Between what a quantile lies; '-' where that is not known."""
    found = bounds_of(item.latency, item.ranked, q)
    return units.UNKNOWN if found is None else units.between(*found)


def _marks(latency: Quantiles, axis: LogAxis) -> dict[str, float]:
    at = {name: axis.at(getattr(latency, name) or 0.0) for name in ("p50", "p95", "p99")}
    return {**at, "span": round(at["p99"] - at["p50"], 3)}


def _split(report: Report) -> dict[str, Any]:
    known = [route for route in report.routes if route.split is not None]
    whole = sum(_sum(route.split) for route in known)
    return {"split_routes": known, "split_whole": whole, "split_sum": _sum}


def _sum(split: Split | None) -> float:
    return 0.0 if split is None else split.whole_s


def _queries(report: Report) -> dict[str, Any]:
    asking = [route for route in report.routes if route.db_calls_per_request]
    asking.sort(key=lambda route: route.db_calls_per_request or 0.0, reverse=True)
    repeating = {(item.service, item.label) for item in report.repeated.shown}

    def repeats(route: Route) -> bool:
        return (route.service, route.label) in repeating

    return {"query_routes": asking, "repeats": repeats}


def _money(report: Report) -> dict[str, Any]:
    routes = sorted(
        (route for route in report.routes if route.usage.cost_usd),
        key=lambda route: route.usage.cost_usd or 0.0,
        reverse=True,
    )
    tenants = [item for item in report.tenants if item.usage.cost_usd]
    groups = [
        (
            "By route",
            "Route",
            [(route.label, route.usage.cost_usd, route.cost_per_request_usd) for route in routes],
        ),
        (
            "By tenant",
            "Tenant",
            [
                (
                    item.tenant or "(none)",
                    item.usage.cost_usd,
                    (item.usage.cost_usd or 0.0) / item.usage.requests,
                )
                for item in tenants
            ],
        ),
        (
            "By model",
            "Model",
            [
                (item.model or "(unknown)", item.cost_usd, item.cost_usd / item.calls)
                for item in report.models
                if item.cost_usd
            ],
        ),
    ]
    return {"money_groups": [group for group in groups if group[2]]}


def _totals(report: Report) -> dict[str, Any]:
    """The two counts side by side: the requests' own accounts, and their spans."""
    account, spans = report.totals, report.totals_from_spans
    inside: list[tuple[str, float | None, float, bool]] = [
        ("Requests", account.requests, spans.requests, False),
        ("Database calls", account.db_calls, spans.db_calls - spans.outside_db_calls, False),
        ("Model calls", account.model_calls, spans.model_calls - spans.outside_model_calls, False),
        (
            "Embedding calls",
            account.embedding_calls,
            spans.embedding_calls - spans.outside_embedding_calls,
            False,
        ),
        ("Input tokens", account.input_tokens, spans.input_tokens, False),
        ("Output tokens", account.output_tokens, spans.output_tokens, False),
        ("Cached tokens", account.cached_tokens, spans.cached_tokens, False),
        ("AI cost", account.cost_usd, spans.cost_usd - spans.outside_cost_usd, True),
    ]
    retries = None
    if account.model_attempts is not None:
        retries = account.model_attempts - (account.model_calls or 0) - (account.embedding_calls or 0)
    return {"cross_check": inside, "retries": retries}


def bars_of(found: Waterfall | None) -> dict[str, Any] | None:
    """A waterfall's bars with their places in percent; None without anything to show."""
    if found is None or not found.bars:
        return None
    begin = min(0.0, *(bar.offset_s for bar in found.bars))
    end = max(found.duration_s, *(bar.offset_s + bar.duration_s for bar in found.bars))
    ticks = [
        (round(part * 100), units.seconds(begin + (end - begin) * part) if part else "0")
        for part in (0, 0.25, 0.5, 0.75, 1)
    ]
    bars = [
        (bar, percent_of(bar.offset_s - begin, end - begin), percent_of(bar.duration_s, end - begin))
        for bar in found.bars
    ]
    return {"trace": found, "bars": bars, "ticks": ticks}
