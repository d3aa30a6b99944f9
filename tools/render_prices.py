"""Render the agent's compact price table from the genai-prices data.

    python tools/render_prices.py [--check] [FILE]

genai-prices is too heavy to import in a service, so the agent ships this table instead and
genai-prices stays its source and its test oracle. Models whose price depends on the time of
day, or that are not priced by token, are left out: no price is better than a wrong one.
``--check`` exits with 1 when FILE is not what would be rendered.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: Providers whose APIs services call directly. Resellers' lists would be ten times the size.
PROVIDERS = (
    "openai",
    "anthropic",
    "google",
    "azure",
    "aws",
    "mistral",
    "cohere",
    "deepseek",
    "groq",
    "x-ai",
    "voyageai",
)

DEFAULT = Path(__file__).resolve().parent.parent / "agent" / "taximeter" / "prices.json"

_FIELDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}


def render() -> dict[str, Any]:
    """The table as the agent reads it (see ``taximeter.pricing``)."""
    from genai_prices import data  # noqa: PLC0415  (slow to import, and only needed here)

    providers: dict[str, Any] = {}
    for provider in data.providers:
        if provider.id in PROVIDERS:
            models = [entry for model in provider.models if (entry := _model(model)) is not None]
            providers[provider.id] = {"models": models}
    return {
        "version": 1,
        "source": f"genai-prices {version('genai-prices')}",
        "unit": "USD per million tokens",
        "providers": providers,
    }


def dumps(table: dict[str, Any]) -> str:
    """One model a line, so that a price change is one line of a diff."""
    lines = ["{"]
    for key in ("version", "source", "unit"):
        lines.append(f"  {json.dumps(key)}: {json.dumps(table[key])},")
    lines.append('  "providers": {')
    blocks = []
    for name, provider in table["providers"].items():
        models = ",\n".join(f"      {json.dumps(model)}" for model in provider["models"])
        blocks.append(f'    {json.dumps(name)}: {{"models": [\n{models}\n    ]}}')
    lines.append(",\n".join(blocks))
    lines.append("  }\n}\n")
    return "\n".join(lines)


def _model(model: Any) -> dict[str, Any] | None:
    conditional = model.prices if isinstance(model.prices, list) else None
    prices: list[dict[str, Any]] = []
    if conditional is None:
        prices.append(_price(model.prices))
    else:
        for entry in conditional:
            price = _price(entry.prices)
            if entry.constraint is not None:
                start = getattr(entry.constraint, "start_date", None)
                if start is None:
                    return None  # by time of day
                price = {"from": start.isoformat(), **price}
            prices.append(price)
    if any("input" not in price and "output" not in price for price in prices):
        return None
    return {"id": model.id, "match": list(_alternatives(model.match)), "prices": prices}


def _price(prices: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, name in _FIELDS.items():
        value = getattr(prices, field, None)
        if value is None:
            continue
        if isinstance(value, Decimal):
            found[name] = _number(value)
        else:
            found[name] = [_number(value.base), *([tier.start, _number(tier.price)] for tier in value.tiers)]
    return found


def _number(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)


def _alternatives(match: Any) -> Iterable[list[Any]]:
    kind = type(match).__name__
    if kind == "ClauseOr":
        for clause in match.or_:
            yield from _alternatives(clause)
    else:
        yield _clause(match)


def _clause(match: Any) -> list[Any]:
    match type(match).__name__:
        case "ClauseEquals":
            return ["=", match.equals]
        case "ClauseStartsWith":
            return ["^", match.starts_with]
        case "ClauseEndsWith":
            return ["$", match.ends_with]
        case "ClauseContains":
            return ["*", match.contains]
        case "ClauseRegex":
            return ["~", match.regex]
        case "ClauseAnd":
            return ["&", [_clause(part) for part in match.and_]]
    raise SystemExit(f"genai-prices has a new way of matching, {match!r}: teach tools/render_prices.py")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 on a difference")
    options = parser.parse_args()
    text = dumps(render())
    if options.check:
        if options.file.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{options.file} is not what genai-prices renders: run tools/render_prices.py\n")
        return 1
    options.file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
