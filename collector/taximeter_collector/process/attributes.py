"""The ``attributes`` and ``resource`` processors: actions on attributes, with the official meanings.

``insert`` adds where the key is absent, ``update`` changes where it is present, ``upsert`` does either,
``delete`` removes (a key, or all that match a pattern), ``hash`` replaces a value by its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from taximeter_collector.process.chain import Processor, holders, resources
from taximeter_collector.values import as_text, plain


class Action:
    """One action of the list."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._kind: str = values["action"]
        self._key: str = values["key"]
        self._value = values["value"]
        self._from: str = values["from_attribute"]
        self._pattern = re.compile(values["pattern"]) if values["pattern"] else None

    def apply(self, holder: Any) -> None:
        """Change the attributes of a span, data point, log record or resource."""
        matched = [pair for pair in holder.attributes if self._matches(pair.key)]
        if self._kind == "delete":
            for pair in matched:
                holder.attributes.remove(pair)
        elif self._kind == "hash":
            for pair in matched:
                pair.value.string_value = hashlib.sha256(as_text(plain(pair.value)).encode()).hexdigest()
        elif self._kind == "upsert" or bool(matched) == (self._kind == "update"):
            self._set(holder, matched)

    def _matches(self, key: str) -> bool:
        return bool(key == self._key or (self._pattern and self._pattern.search(key)))

    def _set(self, holder: Any, matched: Sequence[Any]) -> None:
        source = None
        if self._from:
            source = next((pair for pair in holder.attributes if pair.key == self._from), None)
            if source is None:
                return
        target = matched[0] if matched else holder.attributes.add(key=self._key)
        if source is not None:
            target.value.CopyFrom(source.value)
        else:
            _write(target.value, self._value)


class Attributes(Processor):
    """On every span, data point and log record."""

    def __init__(self, actions: Sequence[Mapping[str, Any]]) -> None:
        self._actions = [Action(values) for values in actions]

    def change(self, request: Any) -> None:
        for holder in holders(request):
            for action in self._actions:
                action.apply(holder)


class Resource(Attributes):
    """On every resource."""

    def change(self, request: Any) -> None:
        for group in resources(request):
            for action in self._actions:
                action.apply(group.resource)


def _write(target: Any, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    else:
        target.string_value = str(value)
