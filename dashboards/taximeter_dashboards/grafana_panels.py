"""Panels as Grafana's SDK builds them: one function per kind, the same look for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as commons
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from taximeter_dashboards.model import PREFIX, Limit, Panel, Query

PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, RED, LINE = "green", "red", "transparent"

#: What all four panel builders have in common; the SDK has no base class for it.
AnyPanel = Any


def build(panel: Panel, number: int, titles: dict[str, str]) -> Builder[models.Panel]:
    """The SDK's builder of a panel; ``titles`` are the dashboards' by name, for its links."""
    made: AnyPanel = _KINDS[panel.kind](panel)
    made.id(number).title(panel.title).description(_description(panel)).datasource(PROMETHEUS)
    made.unit(panel.unit).span(panel.width).height(panel.height).thresholds(_thresholds(panel))
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    for index, query in enumerate(panel.queries):
        made.with_target(_target(query, chr(ord("A") + index), panel))
    made.links([_link(name, titles[name]) for name in panel.see])
    builder: Builder[models.Panel] = made
    return builder


def _timeseries(panel: Panel) -> AnyPanel:
    made = (
        timeseries.Panel()
        .min(0)
        .line_width(1)
        .fill_opacity(25 if panel.stacked else 8)
        .show_points(commons.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(commons.LegendDisplayMode.TABLE)
            .placement(commons.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
            .sort_by("Mean")
            .sort_desc(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(commons.TooltipDisplayMode.MULTI)
            .sort(commons.SortOrder.DESCENDING)
        )
    )
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(commons.StackingMode.NORMAL).group("A"))
    if panel.limit is not None:
        style = commons.GraphThresholdsStyleMode.DASHED
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        made.axis_soft_max(1.2 * panel.limit.value)  # the line is seen although all is far from it
    elif panel.unit == "percentunit":
        made.axis_soft_max(0.1)
    return made


def _stat(panel: Panel) -> AnyPanel:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    mode = commons.BigValueColorMode.VALUE if panel.limit else commons.BigValueColorMode.NONE
    return stat.Panel().reduce_options(reduce).color_mode(mode).graph_mode(commons.BigValueGraphMode.AREA)


def _bars(panel: Panel) -> AnyPanel:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = (
        bargauge.Panel()
        .reduce_options(reduce)
        .orientation(commons.VizOrientation.HORIZONTAL)
        .display_mode(commons.BarGaugeDisplayMode.BASIC)
        .text(common.VizTextDisplayOptions().title_size(13).value_size(18))
        .no_value("no data")
        .min(panel.ends[0])  # else the smallest has no bar
    )
    return made if panel.ends[1] is None else made.max(panel.ends[1])


def _table(panel: Panel) -> AnyPanel:
    made = table.Panel().filterable(True)
    made.with_transformation(models.DataTransformerConfig("merge", options={}))
    names = {f"Value #{chr(ord('A') + index)}": query.legend for index, query in enumerate(panel.queries)}
    names |= panel.headings
    made.with_transformation(
        models.DataTransformerConfig(
            "organize", options={"excludeByName": {"Time": True}, "renameByName": names}
        )
    )
    for heading in panel.headings.values():
        made.override_by_name(heading, [models.DynamicConfigValue("custom.width", 360)])
    for column, unit in panel.units_by_column.items():
        made.override_by_name(column, [models.DynamicConfigValue("unit", unit)])
    if panel.sort_by:
        made.sort_by([common.TableSortByFieldState().display_name(panel.sort_by).desc(True)])
    return made


_KINDS: dict[str, Callable[[Panel], AnyPanel]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "bars": _bars,
    "table": _table,
}


def _description(panel: Panel) -> str:
    words = [panel.description]
    if panel.limit is not None:
        words.append(f"Line: {panel.limit.value:g} ({panel.limit.source}).")
    reasons = dict.fromkeys(query.empty_when_healthy for query in panel.queries if query.empty_when_healthy)
    if reasons:
        words.append(f"Empty when {' or '.join(reasons)}.")
    return " ".join(words)


def _thresholds(panel: Panel) -> ThresholdsConfig:
    limit: Limit | None = panel.limit
    first, then = (RED, GREEN) if limit is not None and limit.worse == "below" else (GREEN, RED)
    steps = [models.Threshold(None, first)]
    if limit is not None:
        steps.append(models.Threshold(limit.value, then))
    return ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: Query, letter: str, panel: Panel) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(PROMETHEUS)
    target.legend_format(query.legend or "__auto")
    if panel.kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    if panel.kind == "bars" or ("$__range" in query.expr and panel.kind != "timeseries"):
        return target.instant()
    return target.range().exemplar(query.exemplars)


def _link(name: str, title: str) -> DashboardLink:
    address = f"/d/{PREFIX}{name}?${{datasource:queryparam}}&${{job:queryparam}}&${{__url_time_range}}"
    return DashboardLink(title).type(models.DashboardLinkType.LINK).url(address)
