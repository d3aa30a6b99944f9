"""A part of OTTL, the official collector's language of conditions, read strictly.

``or``, ``and``, ``not``, parentheses, ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``+``, ``-``; texts,
numbers, ``true``, ``false``, ``nil`` and the enums of OTLP; ``IsMatch``, ``HasPrefix``, ``HasSuffix``; and
the paths in :data:`PATHS`, with ``attributes["key"]`` of the item, ``resource`` and
``instrumentation_scope``. What is written otherwise is refused with its place. As officially, values of
different kinds are not equal, and nothing is less than a text that is no number.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from taximeter_collector.errors import ConfigError
from taximeter_collector.values import as_text, plain

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>\d+\.\d+|\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)'
    r"|(?P<sign>==|!=|<=|>=|[<>()\[\],+-]))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_METRIC_TYPES = ("NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY")
_METRIC_FORMS = {"": 0, "gauge": 1, "sum": 2, "histogram": 3, "exponential_histogram": 4, "summary": 5}
_ENUMS = {
    **dict(trace_pb2.Span.SpanKind.items()),
    **dict(trace_pb2.Status.StatusCode.items()),
    **dict(logs_pb2.SeverityNumber.items()),
    **{f"METRIC_DATA_TYPE_{name}": number for number, name in enumerate(_METRIC_TYPES)},
}


@dataclass(slots=True)
class Item:
    """What a condition is about, and what it lies in."""

    item: Any
    resource: Any
    scope: Any
    metric: Any = None


Value = Callable[[Item], Any]
Condition = Callable[[Item], bool]


def _point_value(item: Item) -> Any:
    kind = item.item.WhichOneof("value") if hasattr(item.item, "as_double") else None
    return getattr(item.item, kind) if kind else None


_SPAN: dict[str, Value] = {
    "name": lambda i: i.item.name,
    "kind": lambda i: i.item.kind,
    "kind.string": lambda i: trace_pb2.Span.SpanKind.Name(i.item.kind).removeprefix("SPAN_KIND_").title(),
    "status.code": lambda i: i.item.status.code,
    "status.message": lambda i: i.item.status.message,
    "trace_id.string": lambda i: i.item.trace_id.hex(),
    "span_id.string": lambda i: i.item.span_id.hex(),
    "parent_span_id.string": lambda i: i.item.parent_span_id.hex(),
    "trace_state": lambda i: i.item.trace_state,
    "start_time_unix_nano": lambda i: i.item.start_time_unix_nano,
    "end_time_unix_nano": lambda i: i.item.end_time_unix_nano,
}
_METRIC: dict[str, Value] = {
    "name": lambda i: i.item.name,
    "description": lambda i: i.item.description,
    "unit": lambda i: i.item.unit,
    "type": lambda i: _METRIC_FORMS[i.item.WhichOneof("data") or ""],
}
_POINT: dict[str, Value] = {
    "metric.name": lambda i: i.metric.name,
    "metric.unit": lambda i: i.metric.unit,
    "metric.type": lambda i: _METRIC_FORMS[i.metric.WhichOneof("data") or ""],
    "value_int": lambda i: v if isinstance(v := _point_value(i), int) else None,
    "value_double": lambda i: v if isinstance(v := _point_value(i), float) else None,
    "count": lambda i: getattr(i.item, "count", None),
    "sum": lambda i: getattr(i.item, "sum", None),
}
_LOG: dict[str, Value] = {
    "severity_number": lambda i: i.item.severity_number,
    "severity_text": lambda i: i.item.severity_text,
    "body": lambda i: plain(i.item.body),
    "body.string": lambda i: as_text(plain(i.item.body)),
    "event_name": lambda i: i.item.event_name,
    "trace_id.string": lambda i: i.item.trace_id.hex(),
    "span_id.string": lambda i: i.item.span_id.hex(),
}
_EVENT: dict[str, Value] = {"name": lambda i: i.item.name}
_AROUND: dict[str, Value] = {
    "instrumentation_scope.name": lambda i: i.scope.name,
    "instrumentation_scope.version": lambda i: i.scope.version,
    "scope.name": lambda i: i.scope.name,
    "scope.version": lambda i: i.scope.version,
}
#: context -> path -> value. The context's own name may stand before a path: ``span.name``.
PATHS: dict[str, dict[str, Value]] = {
    "span": _SPAN,
    "spanevent": _EVENT,
    "metric": _METRIC,
    "datapoint": _POINT,
    "log": _LOG,
    "resource": {},
}


def condition(text: str, context: str, path: str) -> Condition:
    """Compile one condition; ``path`` is the configuration key, for the message."""
    parser = _Parser(text, context, path)
    made = parser.either()
    if parser.word:
        raise parser.wrong(f"{parser.word!r} is not expected")
    return made


class _Parser:
    """Recursive descent; one token ahead."""

    def __init__(self, text: str, context: str, path: str) -> None:
        self._text, self._context, self._path = text, context, path
        self._at = 0
        self.kind = self.word = ""
        self._next()

    def wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._path}: {self._text!r}, before character {self._at + 1}: {what}")

    def _next(self) -> str:
        taken = self.word
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise self.wrong("is nothing that Taximeter's part of OTTL has")
            self.kind, self.word = "", ""
            return taken
        self.kind, self.word = found.lastgroup or "", found.group(found.lastgroup or 0)
        self._at = found.end()
        return taken

    def _expect(self, token: str) -> None:
        if self.word != token:
            raise self.wrong(f"{token!r} is expected, not {self.word or 'the end'!r}")
        self._next()

    def either(self) -> Condition:
        parts = [self._both()]
        while self.word == "or":
            self._next()
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda item: any(part(item) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self.word == "and":
            self._next()
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda item: all(part(item) for part in parts)

    def _one(self) -> Condition:
        if self.word == "not":
            self._next()
            inner = self._one()
            return lambda item: not inner(item)
        if self.word == "(":
            self._next()
            made = self.either()
            self._expect(")")
            return made
        left = self._value()
        if self.word in ("==", "!="):
            equal = self._next() == "=="
            right = self._value()
            return lambda item: _equal(left(item), right(item)) is equal
        if self.word in _COMPARE:
            compare = _COMPARE[self._next()]
            right = self._value()
            return lambda item: _ordered(compare, left(item), right(item))
        return lambda item: left(item) is True

    def _value(self) -> Value:
        made = self._single()
        while self.word in ("+", "-"):
            sign = 1 if self._next() == "+" else -1
            made = _sum(made, self._single(), sign)
        return made

    def _single(self) -> Value:
        kind, word = self.kind, self._next()
        constant: Any = None
        if kind == "text":
            constant = re.sub(r"\\(.)", r"\1", word[1:-1])
        elif kind == "number":
            constant = float(word) if "." in word else int(word)
        elif word == "-" and self.kind == "number":
            number = self._next()
            constant = -float(number) if "." in number else -int(number)
        elif kind != "name":
            raise self.wrong(f"a value is expected, not {word or 'the end'!r}")
        elif word in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[word]
        elif word in _ENUMS:
            constant = _ENUMS[word]
        elif self.word == "(":
            return self._call(word)
        else:
            return self._reached(word)
        return lambda item: constant

    def _call(self, name: str) -> Value:
        if name not in ("IsMatch", "HasPrefix", "HasSuffix"):
            raise self.wrong(f"the function {name} is not here; there are IsMatch, HasPrefix, HasSuffix")
        self._next()
        target = self._value()
        self._expect(",")
        if self.kind != "text":
            raise self.wrong(f"{name} takes a text as its second argument")
        wanted = re.sub(r"\\(.)", r"\1", self._next()[1:-1])
        self._expect(")")
        if name == "HasPrefix":
            return lambda item: isinstance(v := target(item), str) and v.startswith(wanted)
        if name == "HasSuffix":
            return lambda item: isinstance(v := target(item), str) and v.endswith(wanted)
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise self.wrong(f"{wanted!r} is no regular expression ({error})") from error
        return lambda item: (v := target(item)) is not None and bool(pattern.search(as_text(v)))

    def _reached(self, name: str) -> Value:
        paths = {**PATHS[self._context], **_AROUND}
        short = name.removeprefix(f"{self._context}.")
        if short == "attributes":
            return self._attribute(lambda item: item.item.attributes)
        if name == "resource.attributes":
            return self._attribute(lambda item: item.resource.attributes)
        if name in ("instrumentation_scope.attributes", "scope.attributes"):
            return self._attribute(lambda item: item.scope.attributes)
        if short not in paths:
            known = ", ".join(sorted({*paths, "attributes", "resource.attributes"}))
            raise self.wrong(f"the path {name} is not here; there are {known}")
        return paths[short]

    def _attribute(self, held: Callable[[Item], Any]) -> Value:
        self._expect("[")
        if self.kind != "text":
            raise self.wrong('an attribute is named in quotes: attributes["key"]')
        key = self._next()[1:-1]
        self._expect("]")

        def value(item: Item) -> Any:
            for pair in held(item):
                if pair.key == key:
                    return plain(pair.value)
            return None

        return value


def _sum(left: Value, right: Value, sign: int) -> Value:
    def value(item: Item) -> Any:
        a, b = left(item), right(item)
        return a + sign * b if _number(a) and _number(b) else None

    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: Any, right: Any) -> bool:
    if _number(left) and _number(right):
        return bool(left == right)
    return type(left) is type(right) and bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    if (_number(left) and _number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return compare(left, right)
    return False
