"""Numbers as people read them: three figures that count, a unit that fits, '-' for not known.

Shared by the terminal and the page, so that both say the same. Names and statements come from
strangers: `plain` takes out what could drive a terminal or garble a line.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

UNKNOWN = "-"


def _figures(value: float) -> str:
    """Three significant figures, never in exponent notation, for a value under 1,000."""
    if value <= 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:.{decimals}f}"
    # 9.996 rounds to 10.00: one figure too many
    return f"{value:.{decimals - 1}f}" if decimals and len(text.replace(".", "").lstrip("0")) > 3 else text


def seconds(value: float | None) -> str:
    """``850 µs``, ``12.3 ms``, ``1.23 s``, ``2 min 05 s``, ``3 h 20 min``, ``2.5 d``."""
    if value is None:
        return UNKNOWN
    if value < 59.95:
        return _short(value)
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{value / 86400:.1f} d"


def _short(value: float) -> str:
    if value <= 0:
        return "0 s"
    if value < 0.9995e-3:
        return f"{_figures(value * 1e6)} µs"
    return f"{_figures(value * 1e3)} ms" if value < 0.9995 else f"{_figures(value)} s"


def between(low: float | None, high: float | None) -> str:
    """Two bounds of a time in one unit: ``46.2-61.0 ms``, ``1.20-1.45 s``, ``over 2 s``, ``-`` for none."""
    if low is None and high is None:
        return UNKNOWN
    if low is None or high is None:
        return f"over {seconds(low)}" if high is None else f"under {seconds(high)}"
    if high >= 59.95:
        return f"{seconds(low)} to {seconds(high)}"
    unit, scale = ("µs", 1e6) if high < 0.9995e-3 else ("ms", 1e3) if high < 0.9995 else ("s", 1.0)
    return f"{_figures(low * scale)}-{_figures(high * scale)} {unit}"


def limit(value: float) -> str:
    """A threshold as it was set: ``2 s``, ``500 ms``."""
    return f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s"


def money(value: float | None) -> str:
    """``<$0.000001``, ``$0.000123``, ``$0.0150``, ``$1.23``, ``$1,235``; at most 6 decimals below $0.0001."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "$0"
    if abs(value) >= 999.995:
        return f"${value:,.0f}"
    if abs(value) >= 0.9995:
        return f"${value:.2f}"
    if abs(value) < 0.5e-6:
        return "<$0.000001"
    return f"${abs(value):.6f}" if abs(value) < 0.9995e-4 else f"${_figures(abs(value))}"


def count(value: float | None) -> str:
    """``12,345``."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """``987``, ``12.3k``, ``1.15M``, ``2.50B``: for tokens."""
    if value is None:
        return UNKNOWN
    for limit, unit, suffix in (
        (999.5, 1, ""),
        (999.5e3, 1e3, "k"),
        (999.5e6, 1e6, "M"),
        (math.inf, 1e9, "B"),
    ):
        if value < limit:
            return f"{value:,.0f}" if unit == 1 else f"{_figures(value / unit)}{suffix}"
    return f"{value:g}"  # pragma: no cover  (infinity is below nothing)


def per_request(value: float | None) -> str:
    """An average of a count: ``4``, ``0.52``, ``20.8``, ``1,234``."""
    if value is None:
        return UNKNOWN
    if value == round(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share of 1: ``0%``, ``<0.1%``, ``1.2%``, ``57%``."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.001:
        return "<0.1%"
    return f"{value * 100:.1f}%" if 0 < value < 0.0995 else f"{value * 100:.0f}%"


def clock(instant: float, *, date: bool = True) -> str:
    """An instant (Unix seconds) in UTC: ``23 Nov 2026, 08:15:03`` or ``08:15:03``."""
    moment = datetime.fromtimestamp(instant, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S}" if date else f"{moment:%H:%M:%S}"


def plain(text: str | None, limit: int = 4000) -> str:
    """A stranger's string on one line of at most ``limit`` characters.

    Control and direction-changing characters are shown as the replacement character.
    """
    if text is None:
        return UNKNOWN
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    joined = " ".join(cut.split())
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co") else letter
        for letter in joined
    )
