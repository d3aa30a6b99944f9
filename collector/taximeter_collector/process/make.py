"""From a configured component to its processor, for those that change one request at a time."""

from __future__ import annotations

from collections.abc import Callable

from taximeter_collector.config.loader import Component
from taximeter_collector.process.attributes import Attributes, Resource
from taximeter_collector.process.chain import Processor
from taximeter_collector.process.filter import Filter
from taximeter_collector.process.head_sampling import HeadSampler
from taximeter_collector.process.pricing import Pricing
from taximeter_collector.process.redaction import Redaction

#: ``batch``, ``memory_limiter`` and ``tail_sampling`` are none of these: others do their work.
CHANGING: dict[str, Callable[[Component], Processor]] = {
    "attributes": lambda component: Attributes(component.values["actions"]),
    "filter": lambda component: Filter(component.id, component.values),
    "pricing": lambda component: Pricing(component.id, component.values),
    "probabilistic_sampler": lambda component: HeadSampler(component.values),
    "redaction": lambda component: Redaction(component.values),
    "resource": lambda component: Resource(component.values["attributes"]),
}


def make_processor(component: Component) -> Processor:
    """The processor ``processors.<id>``. Raises ConfigError where its files cannot be used."""
    return CHANGING[component.type](component)
