"""Alerts about models and money: budgets, forecasts, spikes, calls without a price, first chunks."""

from __future__ import annotations

from taximeter import semconv
from taximeter_alerts import recording as r
from taximeter_alerts.model import PAGE, TICKET, Alert, grown, ref
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
    """What the budget sets no limit for has no alert."""
    by_tenant = f"sum by ({c.JOB}, {c.TENANT})"
    found = []
    if t.usd_per_day is not None:
        found.append(
            Alert(
                "TaximeterDailyCostAboveBudget",
                TICKET,
                f"sum by ({c.JOB}) (increase({c.COST}[{p.day}])) > {t.usd_per_day:g}",
                p.brief,
                f"{ref(c.JOB)}: the day's money is spent",
                f"{USD} in the last {p.day}; the budget is {t.usd_per_day:g} USD a day.",
                "money",
            )
        )
    if t.usd_per_month is not None:
        pace = f"avg_over_time({r.JOB_COST}[{p.week}]) * {SECONDS_PER_DAY} * {DAYS_PER_MONTH}"
        found.append(
            Alert(
                "TaximeterMonthlyCostForecast",
                TICKET,
                f"{pace} > {t.usd_per_month:g}\nand {r.JOB_COST} offset {p.day}",
                p.hold,
                f"{ref(c.JOB)}: at this pace the month will cost more than its budget",
                f"{USD} a month at the pace of the last {p.week}; the budget is {t.usd_per_month:g} USD.",
                "money",
            )
        )
    if t.tenants:
        found.append(
            Alert(
                "TaximeterTenantCostAboveBudget",
                TICKET,
                "\nor\n".join(
                    f"{by_tenant} (increase({c.COST}{match.selector}[{p.day}])) > {match.limit:g}"
                    for match in t.tenants
                ),
                p.brief,
                f"{ref(c.JOB)}: tenant {ref(c.TENANT)} has spent its day's money",
                f"{USD} in the last {p.day}, more than the budget allows it in a day.",
                "money",
                by=(c.JOB, c.TENANT),
            )
        )
    return found


def _spike(t: Thresholds, p: Profile) -> str:
    """Dearer per request than usual, or more money than at the usual peak; and the difference is money.

    Money alone follows the day's rhythm, so its median would be passed every noon; and money per request
    alone does not see a crawler. The peak is known once there is a day of history.
    """
    per, cost, factor = r.MODEL_PER_REQUEST, r.MODEL_COST, t.cost_factor
    least = t.cost_delta_usd_per_hour / 3600
    peak = f"quantile_over_time(0.99, {cost}[{p.history}] offset {p.lag})"
    return (
        "3600 * (\n"
        f"  {cost}\n"
        f"    and {per} > {factor:g} * {median(per, p)}\n"
        f"    and {cost} * (1 - {median(per, p)} / {per}) > {least:.6g}\n"
        f"    and {known(per, p)}\n"
        "  or\n"
        f"  {cost} > {factor:g} * {peak}\n"
        f"    and {cost} - {peak} > {least:.6g}\n"
        f"    and {cost} offset {p.day}\n"
        ")"
    )


def _models(t: Thresholds, p: Profile) -> list[Alert]:
    return [
        Alert(
            "TaximeterCostSpike",
            PAGE,
            _spike(t, p),
            p.brief,
            f"{ref(c.JOB)}: {ref(c.MODEL)} costs much more than usual",
            f"{USD} an hour: more than {t.cost_factor:g} times as much per request as the median of the last "
            f"{p.history}, or as at its peak.",
            "money",
            by=(c.JOB, c.MODEL),
            keep=p.keep,
            traces=MODEL_TRACES,
        ),
        Alert(
            "TaximeterUnpricedModel",
            TICKET,
            grown(c.UNPRICED, f"{c.JOB}, {c.MODEL}", p.money),
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
