"""OTLP names and units as Prometheus names: the official translation (underscores, with suffixes).

``http.server.request.duration`` in ``s`` is ``http_server_request_duration_seconds``;
``taximeter.cost_usd`` in ``{USD}``, a monotonic sum, is ``taximeter_cost_usd_total``.
"""

from __future__ import annotations

import re

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
    "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes",
    "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes",
    "TBy": "terabytes", "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts",
    "g": "grams", "Cel": "celsius", "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER = {
    "s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year",
}  # fmt: skip
#: Labels that an exposition gives itself: one sample must not have them twice.
RESERVED = frozenset({"le", "quantile", "job", "instance"})
_NAME_BREAK = re.compile(r"[^a-zA-Z0-9:]+")
_LABEL_BAD = re.compile(r"[^a-zA-Z0-9_]")


def metric_name(
    name: str, unit: str, *, monotonic: bool, gauge: bool, namespace: str = "", suffixes: bool = True
) -> str:
    """The Prometheus name, ``_total`` of a monotonic sum included."""
    if not suffixes:
        plain = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
        full = f"{namespace}_{plain}" if namespace else plain
        return f"_{full}" if full[:1].isdigit() else full
    words = [word for word in _NAME_BREAK.split(name) if word]
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    if main and "{" not in main:
        word = _UNITS.get(main, _clean(main))
        if word and word not in words:
            words.append(word)
    if per and "{" not in per:
        word = _PER.get(per, _clean(per))
        if word and word not in words:
            words += ["per", word]
    if monotonic:
        words = [word for word in words if word != "total"] + ["total"]
    if gauge and unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    if namespace:
        words.insert(0, namespace)
    full = "_".join(words)
    return f"_{full}" if full[:1].isdigit() else full


def label_name(name: str) -> str:
    """A valid label name: ``http.route`` is ``http_route``, ``2xx`` is ``key_2xx``."""
    clean = _LABEL_BAD.sub("_", name)
    if not clean or clean[:1].isdigit():
        return f"key_{clean}"
    if clean.startswith("_"):  # "__" is Prometheus's own
        return f"key{clean}"
    if clean in RESERVED:
        return f"exported_{clean}"
    return clean


def _clean(text: str) -> str:
    return "_".join(word for word in _NAME_BREAK.split(text) if word)
