"""Dashboards as the JSON that Grafana provisions: the classic (v1) model.

Not the newer v2 model, which Grafana's file provisioning does not take (grafana/grafana#127928),
although the SDK calls v1 deprecated. The SDK numbers nothing, so ids of panels are given here, in order.
"""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import grafana_panels, promql
from taximeter_dashboards.catalogue import dashboards
from taximeter_dashboards.limits import Limits
from taximeter_dashboards.model import TAG, Dashboard, Variable

PROMETHEUS_UID = "taximeter-prometheus"
_EVERYTHING = ".*"  # also series without the label: requests that matched no route


def rendered(limits: Limits | None = None) -> dict[str, str]:
    """File name to JSON text, for every dashboard."""
    return {f"{made.uid}.json": text(made) for made in dashboards(limits)}


def text(dashboard: Dashboard) -> str:
    """One dashboard's JSON, with a stable order of keys."""
    return json.dumps(to_json(dashboard), indent=2, sort_keys=True) + "\n"


def to_json(dashboard: Dashboard, data_source: str = PROMETHEUS_UID) -> dict[str, Any]:
    """One dashboard as the object that Grafana's API and files take; ``data_source`` is chosen first."""
    titles = {other.name: other.title for other in dashboards()}
    made = build.Dashboard(dashboard.title)
    made.uid(dashboard.uid).description(dashboard.description).tags([TAG]).readonly()
    made.time(dashboard.since, "now").refresh("30s").timezone("browser")
    made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.with_variable(_data_source(data_source))
    for variable in dashboard.variables:
        made.with_variable(_variable(variable))
    made.annotation(_versions()).link(_others())
    number = 0
    for row in dashboard.rows:
        number += 1
        made.with_row(build.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made.with_panel(grafana_panels.build(panel, number, titles))
    found: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    return found


def _data_source(uid: str) -> build.DatasourceVariable:
    chosen = models.VariableOption(text="Prometheus", value=uid)
    return build.DatasourceVariable("datasource").label("Data source").type("prometheus").current(chosen)


def _variable(variable: Variable) -> build.QueryVariable | build.CustomVariable:
    if variable.options:
        first = models.VariableOption(selected=True, text=variable.options[0], value=variable.options[0])
        custom = build.CustomVariable(variable.name).label(variable.title)
        return custom.values(",".join(variable.options)).current(first)
    source = f'{variable.metric}{{{c.JOB}=~"$job"}}' if _depends_on_job(variable) else variable.metric
    query = f"label_values({source}, {variable.label})"
    made = (
        build.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(grafana_panels.PROMETHEUS)
        .query({"query": query, "refId": variable.name})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if not variable.many:
        return made
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    return made.multi(True).include_all(True).all_value(_EVERYTHING).current(everything)


def _depends_on_job(variable: Variable) -> bool:
    return variable.name != "job" and variable.metric != c.UPTIME


def _versions() -> build.AnnotationQuery:
    """A marker where a version of a chosen service appeared."""
    this = promql.select(c.TARGET_INFO, f'{c.VERSION}!=""', scope=promql.JOBS)
    by = f"count by ({c.JOB}, {c.VERSION})"
    expression = f"{by} ({this}) unless {by} ({this} offset 5m)"
    target = prometheus.Dataquery().expr(expression).ref_id("Anno").datasource(grafana_panels.PROMETHEUS)
    return (
        build.AnnotationQuery()
        .name("New versions")
        .datasource(grafana_panels.PROMETHEUS)
        .enable(True)
        .icon_color("blue")
        .expr(expression)
        .title_format(f"{{{{{c.JOB}}}}} {{{{{c.VERSION}}}}}")
        .text_format("first seen")
        .step("1m")
        .target(target.range())
    )


def _others() -> build.DashboardLink:
    return (
        build.DashboardLink("Taximeter")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
