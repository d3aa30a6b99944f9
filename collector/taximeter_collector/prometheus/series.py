"""What one exposed series is, and its form in the checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family: ``name`` as in plain text, ``_total`` included; kind as in a TYPE line or ``info``."""

    name: str
    kind: str
    help: str


@dataclass(slots=True)
class Exemplar:
    """The newest one of a counter or of a bucket."""

    value: float
    time_ns: int
    labels: Labels


@dataclass(slots=True)
class Series:
    """The newest state of one series: a number, a histogram's buckets, or a summary's quantiles."""

    labels: Labels
    start_ns: int = 0
    time_ns: int = 0
    received_ns: int = 0
    value: float = 0  # of a histogram or summary: the sum
    count: int = 0
    bounds: list[float] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)  # one more than bounds, not cumulated
    quantiles: list[tuple[float, float]] = field(default_factory=list)
    exemplars: dict[int, Exemplar] = field(default_factory=dict)  # by bucket; 0 of a counter
    extra: Labels = ()  # target_info's attributes: not part of the identity
    scale: int | None = None  # of an exponential histogram: bounds are powers of 2 ** 2 ** -scale
    offset: int = 0  # ... from this power on
    born_ns: int = 0  # when it first came, while a 0 at that moment is still to be shown

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Series:
        data = json.loads(text)
        data["labels"] = _labels(data["labels"])
        data["extra"] = _labels(data["extra"])
        data["quantiles"] = [(q, v) for q, v in data["quantiles"]]
        data["exemplars"] = {
            int(k): Exemplar(e["value"], e["time_ns"], _labels(e["labels"]))
            for k, e in data["exemplars"].items()
        }
        return cls(**data)


def _labels(pairs: list[list[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)
