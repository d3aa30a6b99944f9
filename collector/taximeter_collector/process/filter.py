"""The ``filter`` processor: drops what any of its conditions is true of, and what is empty then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taximeter_collector.process.chain import Processor
from taximeter_collector.process.ottl import Condition, Item, condition

#: configuration section -> key -> context of its conditions
CONTEXTS = {
    "traces": {"resource": "resource", "span": "span", "spanevent": "spanevent"},
    "metrics": {"resource": "resource", "metric": "metric", "datapoint": "datapoint"},
    "logs": {"resource": "resource", "log_record": "log"},
}


class Filter(Processor):
    """Resources first, then spans, metrics or records, then what lies in them."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._conditions: dict[str, dict[str, list[Condition]]] = {
            section: {
                key: [
                    condition(text, context, f"processors.{name}.{section}.{key}[{at}]")
                    for at, text in enumerate(values[section][key])
                ]
                for key, context in keys.items()
            }
            for section, keys in CONTEXTS.items()
        }

    def change(self, request: Any) -> None:
        if hasattr(request, "resource_spans"):
            _each(request.resource_spans, self._conditions["traces"], "scope_spans", self._spans)
        elif hasattr(request, "resource_metrics"):
            _each(request.resource_metrics, self._conditions["metrics"], "scope_metrics", self._metrics)
        else:
            _each(request.resource_logs, self._conditions["logs"], "scope_logs", self._logs)

    def _spans(self, resource: Any, scope: Any) -> bool:
        conditions = self._conditions["traces"]
        _drop(scope.spans, conditions["span"], lambda span: Item(span, resource, scope.scope))
        if conditions["spanevent"]:
            for span in scope.spans:
                _drop(span.events, conditions["spanevent"], lambda event: Item(event, resource, scope.scope))
        return bool(scope.spans)

    def _metrics(self, resource: Any, scope: Any) -> bool:
        conditions = self._conditions["metrics"]
        _drop(scope.metrics, conditions["metric"], lambda metric: Item(metric, resource, scope.scope))
        if conditions["datapoint"]:
            empty = []
            for at, metric in enumerate(scope.metrics):
                form = metric.WhichOneof("data")
                if form:
                    points = getattr(metric, form).data_points
                    _drop(
                        points,
                        conditions["datapoint"],
                        lambda point, metric=metric: Item(point, resource, scope.scope, metric),  # type: ignore[misc]
                    )
                    empty += [] if points else [at]
            for at in reversed(empty):
                del scope.metrics[at]
        return bool(scope.metrics)

    def _logs(self, resource: Any, scope: Any) -> bool:
        conditions = self._conditions["logs"]["log_record"]
        _drop(scope.log_records, conditions, lambda record: Item(record, resource, scope.scope))
        return bool(scope.log_records)


def _each(
    groups: Any,
    conditions: Mapping[str, list[Condition]],
    scopes: str,
    filtered: Callable[[Any, Any], bool],
) -> None:
    _drop(groups, conditions["resource"], lambda group: Item(group.resource, group.resource, None))
    for at in range(len(groups) - 1, -1, -1):
        held = getattr(groups[at], scopes)
        for inner in range(len(held) - 1, -1, -1):
            if not filtered(groups[at].resource, held[inner]):
                del held[inner]
        if not held:
            del groups[at]


def _drop(held: Any, conditions: Iterable[Condition], item: Callable[[Any], Item]) -> None:
    for at in range(len(held) - 1, -1, -1) if conditions else ():
        about = item(held[at])
        if any(condition(about) for condition in conditions):
            del held[at]
