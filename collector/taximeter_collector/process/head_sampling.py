"""The ``probabilistic_sampler``: keeps a share of the spans, and whole traces of them, and says which share.

The official modes. ``proportional`` and ``equalizing`` compare 56 bits of the trace id, or an explicit
``rv``, with a threshold; ``hash_seed`` (when a seed is given) compares a hash of the trace id. The threshold
goes into tracestate (``ot=th:``), where tail sampling, ``span_metrics`` and ``request_metrics`` read for how
many a span stands. ``sampling.priority`` wins: 0 drops, more keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from taximeter_collector.process.chain import Processor, resources
from taximeter_collector.values import plain

_MOST = 1 << 56
_DIGITS = 14


class HeadSampler(Processor):
    """Traces only."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._ratio = min(values["sampling_percentage"], 100.0) / 100
        self._seed, self._precision = values["hash_seed"], values["sampling_precision"]
        self._mode = values["mode"] or ("hash_seed" if self._seed else "proportional")
        self._fail_closed: bool = values["fail_closed"]

    def change(self, request: Any) -> None:
        groups = request.resource_spans
        for group in resources(request):
            for scope in group.scope_spans:
                for at in range(len(scope.spans) - 1, -1, -1):
                    if not self._keep(scope.spans[at]):
                        del scope.spans[at]
            for at in range(len(group.scope_spans) - 1, -1, -1):
                if not group.scope_spans[at].spans:
                    del group.scope_spans[at]
        for at in range(len(groups) - 1, -1, -1):
            if not groups[at].scope_spans:
                del groups[at]

    def _keep(self, span: Any) -> bool:
        for pair in span.attributes:
            if pair.key == "sampling.priority":
                priority = plain(pair.value)
                if isinstance(priority, int | float):
                    return priority > 0
        if not self._ratio:
            return False
        others, fields = _read(span.trace_state)
        threshold = _hex(fields.get("th"))
        explicit = _hex(fields.get("rv"))
        wrong = (threshold is None and "th" in fields) or (explicit is None and "rv" in fields)
        if self._mode == "hash_seed":
            wrong = wrong or bool(fields.keys() & {"th", "rv"})
            hashed = fnv32a(self._seed.to_bytes(4, "little") + span.trace_id)
            reject = 0x4000 - int(self._ratio * 0x4000)
            kept = (hashed & 0x3FFF) < 0x4000 - reject
            limit = reject << 42
            randomness = _randomness(hashed)
        else:
            randomness = explicit if explicit is not None else int.from_bytes(span.trace_id[-7:])
            wrong = wrong or not any(span.trace_id) or (threshold is not None and threshold > randomness)
            known = 1 - (threshold or 0) / _MOST
            share = known * self._ratio if self._mode == "proportional" else min(known, self._ratio)
            limit = threshold_of(share, self._precision)
            if self._mode == "equalizing" and threshold is not None:
                limit = max(limit, threshold)
            kept = limit <= randomness
        if wrong:
            return not self._fail_closed
        if kept:
            if self._mode == "hash_seed":
                fields["rv"] = f"{randomness:014x}"
            fields["th"] = f"{limit:014x}".rstrip("0") or "0"
            ours = ";".join(f"{key}:{fields[key]}" for key in ("th", "rv") if key in fields)
            rest = [f"{key}:{value}" for key, value in fields.items() if key not in ("th", "rv")]
            span.trace_state = ",".join([f"ot={';'.join([ours, *rest])}", *others])
        return kept


def threshold_of(share: float, precision: int) -> int:
    """The rejection threshold of a probability, rounded to so many significant hex digits; official rule."""
    if share >= 1:
        return 0
    share = max(share, 1 / _MOST)
    digits = precision
    for near in (share, 1 - share):
        digits = max(digits, precision + -math.frexp(near)[1] // 4)
    threshold = _MOST - round(share * _MOST)
    shift = 4 * (_DIGITS - min(_DIGITS, digits))
    if shift:
        threshold = (threshold + (1 << (shift - 1))) >> shift << shift
    return min(threshold, _MOST - 1)


def fnv32a(data: bytes) -> int:
    """FNV-1a, 32 bits."""
    found = 0x811C9DC5
    for byte in data:
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return found


def _randomness(hashed: int) -> int:
    """56 bits that any consistent sampler judges as the 14 bits of the hash are judged here."""
    low, unused = hashed & 0x3FFF, hashed >> 18
    return (0x3FFF - low) << 42 | (unused ^ unused << 10) << 14 & ((1 << 42) - 1) | low


def _read(trace_state: str) -> tuple[list[str], dict[str, str]]:
    others: list[str] = []
    fields: dict[str, str] = {}
    for member in trace_state.split(",") if trace_state else ():
        vendor, _, value = member.strip().partition("=")
        if vendor == "ot":
            fields |= {
                key: text for key, _, text in (pair.partition(":") for pair in value.split(";")) if key
            }
        else:
            others.append(member.strip())
    return others, fields


def _hex(digits: str | None) -> int | None:
    try:
        return int(digits.ljust(_DIGITS, "0"), 16) if digits and len(digits) <= _DIGITS else None
    except ValueError:
        return None
