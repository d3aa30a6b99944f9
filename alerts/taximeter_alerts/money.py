"""Alerts about models and money: budgets, forecasts, spikes, calls without a price, first chunks."""

from __future__ import annotations

from taximeter import semconv
from taximeter_alerts import recording as r
from taximeter_alerts.model import PAGE, TICKET, Alert, ref
from taximeter_alerts.profile import Profile
from taximeter_alerts.requests import known, median
from taximeter_alerts.thresholds import Thresholds
from taximeter_collector.prometheus import catalogue as c

SECONDS_PER_DAY = 86_400
DAYS_PER_MONTH = 30
USD = '{{ $value | printf "%.2f" }} USD'
MODEL_TRACES = (
    f'{{ resource.{semconv.SERVICE_NAME} = "{ref(c.JOB)}" '
    f'&& span.{semconv.GEN_AI_REQUEST_MODEL} = "{ref(c.MODEL)}" }}'
)


def alerts(t: Thresholds, p: Profile) -> list[Alert]:
    """Budgets, spikes and what has no price."""
    return [*_budgets(t, p), *_models(t, p)]


def _budgets(t: Thresholds, p: Profile) -> list[Alert]:
    by_tenant = f"sum by ({c.JOB}, {c.TENANT})"
    return [
        Alert(
            "TaximeterDailyCostAboveBudget",
            TICKET,
            f"sum by ({c.JOB}) (increase({c.COST}[{p.day}])) > {t.usd_per_day:g}",
            p.brief,
            f"{ref(c.JOB)}: the day's money is spent",
            f"{USD} in the last {p.day}; the budget is {t.usd_per_day:g} USD a day.",
            "money",
        ),
        Alert(
            "TaximeterMonthlyCostForecast",
            TICKET,
            f"avg_over_time({r.JOB_COST}[{p.week}]) * {SECONDS_PER_DAY} * {DAYS_PER_MONTH} "
            f"> {t.usd_per_month:g}",
            p.hold,
            f"{ref(c.JOB)}: at this pace the month will cost more than its budget",
            f"{USD} a month at the pace of the last {p.week}; the budget is {t.usd_per_month:g} USD.",
            "money",
        ),
        Alert(
            "TaximeterTenantCostAboveBudget",
            TICKET,
            f'{by_tenant} (increase({c.COST}{{{c.TENANT}!=""}}[{p.day}])) > {t.tenant_usd_per_day:g}',
            p.brief,
            f"{ref(c.JOB)}: tenant {ref(c.TENANT)} has spent its day's money",
            f"{USD} in the last {p.day}; the budget is {t.tenant_usd_per_day:g} USD a day.",
            "money",
            by=(c.JOB, c.TENANT),
        ),
    ]


def _models(t: Thresholds, p: Profile) -> list[Alert]:
    usual = median(r.MODEL_COST, p)
    per_second = t.cost_delta_usd_per_hour / 3600
    return [
        Alert(
            "TaximeterCostSpike",
            PAGE,
            f"3600 * (\n  {r.MODEL_COST} > {t.cost_factor:g} * {usual}\n"
            f"  and {r.MODEL_COST} - {usual} > {per_second:.6g}\n"
            f"  and {known(r.MODEL_COST, p)}\n)",
            p.brief,
            f"{ref(c.JOB)}: {ref(c.MODEL)} costs much more than usual",
            f"{USD} an hour, more than {t.cost_factor:g} times the median of the last {p.history}.",
            "money",
            by=(c.JOB, c.MODEL),
            keep=p.keep,
            traces=MODEL_TRACES,
        ),
        Alert(
            "TaximeterUnpricedModel",
            TICKET,
            f"sum by ({c.JOB}, {c.MODEL}) (increase({c.UNPRICED}[{p.money}])) > 0\n"
            f"or sum by ({c.JOB}, {c.MODEL}) ({c.UNPRICED} unless {c.UNPRICED} offset {p.money}) > 0",
            "0s",
            f"{ref(c.JOB)}: no price is known for {ref(c.MODEL)}",
            '{{ $value | printf "%.0f" }} calls without a price: what they cost is in no figure. '
            "Give the price in TAXIMETER_PRICES_FILE.",
            "money",
            by=(c.JOB, c.MODEL),
            traces=MODEL_TRACES,
        ),
        Alert(
            "TaximeterFirstChunkSlow",
            TICKET,
            f"{r.FIRST_CHUNK_P95} > {t.first_chunk_seconds:g}",
            p.hold,
            f"{ref(c.JOB)}: {ref(c.MODEL)} takes long to begin its answer",
            "P95 of the time to the first chunk is {{ $value | humanizeDuration }}; "
            f"{t.first_chunk_seconds:g} s is the limit.",
            "streaming",
            by=(c.JOB, c.MODEL),
            keep=p.keep,
            traces=MODEL_TRACES,
        ),
    ]
