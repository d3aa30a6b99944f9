"""Renders the agent's compact price table from the genai-prices data.

genai-prices is too heavy to import in a service, so the agent ships this table instead and
genai-prices stays its source and its test oracle. Models whose price depends on the time of
day, or on something else than tokens and searches, are left out: no price is better than a
wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from importlib.metadata import version
from typing import Any

#: Providers whose APIs services call directly. OpenRouter is not needed: it reports its prices itself.
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
    "together",
    "fireworks",
    "cerebras",
    "moonshotai",
)

_FIELDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cache_read_image",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
}
#: What a call may be asked for, by how genai-prices says it -> our service tier.
_TIERS = ("processing", "service_tier", "speed")


def render() -> dict[str, Any]:
    """The table as the agent reads it (see ``taximeter.pricing``)."""
    from genai_prices import data

    providers: dict[str, Any] = {}
    for provider in data.providers:
        if provider.id in PROVIDERS:
            models = [entry for model in provider.models if (entry := _model(model)) is not None]
            providers[provider.id] = {"models": models}
    return {
        "version": 1,
        "source": f"genai-prices {version('genai-prices')}",
        "unit": "USD per million tokens; searches per thousand",
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
    prices: list[dict[str, Any] | None] = []
    if conditional is None:
        prices.append(_price(model.prices))
    else:
        prices.extend(_dated(entry.constraint, _price(entry.prices)) for entry in conditional)
    for variant in model.price_variants or ():
        (how, tier), *more = variant.when.items()
        if more or how not in _TIERS:
            continue  # by route or kind of search, which no response tells
        price = _price(variant.prices)
        if price:  # none: the same as the standard one
            prices.append(_dated(variant.constraint, {"tier": tier, **price}))
    if any(price is None for price in prices):
        return None
    found = [price for price in prices if price is not None]
    if any("tier" not in price and "input" not in price and "output" not in price for price in found):
        return None
    return {"id": model.id, "match": list(_alternatives(model.match)), "prices": found}


def _dated(constraint: Any, price: dict[str, Any] | None) -> dict[str, Any] | None:
    if constraint is None or price is None:
        return price
    start = getattr(constraint, "start_date", None)
    return None if start is None else {"from": start.isoformat(), **price}  # None: by time of day


def _price(prices: Any) -> dict[str, Any] | None:
    """One price; ``None`` where it charges something that no usage report counts."""
    found: dict[str, Any] = {}
    for field, value in vars(prices).items():
        if value is None:
            continue
        if field not in _FIELDS:
            return None
        name = _FIELDS[field]
        if isinstance(value, Decimal):
            found[name] = _number(value)
        else:
            found[name] = [_number(value.base), *([tier.start, _number(tier.price)] for tier in value.tiers)]
    return {name: found[name] for name in _FIELDS.values() if name in found}


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
    raise SystemExit(
        f"genai-prices has a new way of matching, {match!r}: teach taximeter_cli/render_prices.py"
    )
