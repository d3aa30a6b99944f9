"""``taximeter prices``: explains a price, lists what is known, renders the built-in table anew."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from taximeter import genai, pricing, usage
from taximeter.pricefile import LIKE
from taximeter.pricing import CALL_RATES, Model, NoRate, Rate

EXIT_UNKNOWN = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explain the price of a model: which entry and date apply, and each rate; with --usage, each part "
        "of one call's bill. Contract prices (TAXIMETER_PRICES_FILE or --prices) go first."
    )
    parser.epilog = (
        "'taximeter prices update' renders the built-in table from the installed genai-prices package. "
        "Exit codes: 0 found, 1 no such price, 2 wrong usage."
    )
    parser.add_argument("model", metavar="MODEL|update", help="a model's name, or 'update'")
    parser.add_argument(
        "--provider", help="who serves it (openai, anthropic, aws.bedrock, ...); default: all"
    )
    parser.add_argument("--tier", default="", help="service tier: batch, flex, priority, fast")
    parser.add_argument("--at", metavar="DATE", help="the price on this day (UTC), like 2026-01-31")
    parser.add_argument(
        "--usage", metavar="FILE", help="a provider's response as JSON ('-': standard input): what it costs"
    )
    parser.add_argument("--prices", metavar="FILE", default=os.environ.get("TAXIMETER_PRICES_FILE"))
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--output", metavar="FILE", type=Path, help="of 'update': where to write the table")
    parser.add_argument(
        "--check", action="store_true", help="of 'update': compare only; exit 1 on a difference"
    )


def main(args: argparse.Namespace) -> int:
    if args.model == "update":
        return _update(args.output or pricing.builtin_path(), check=args.check)
    book, problem = pricing.load(args.prices)
    if problem:
        print(f"taximeter: {problem}", file=sys.stderr)
        return 2
    try:
        when = time.time() if args.at is None else _day(args.at)
        reading = None if args.usage is None else usage.read(_response(args.usage), tier=args.tier)
    except (OSError, ValueError) as error:
        print(f"taximeter prices: {error}", file=sys.stderr)
        return 2
    tier = args.tier or (reading.tier if reading else "")
    found = [
        _explain(provider, entry, tier, when, reading)
        for provider, entry in _entries(book, args.provider, args.model)
    ]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for text in map(_rendered, found):
            print(text)
    if not found:
        served = f" from {args.provider}" if args.provider else ""
        print(
            f"taximeter: no price is known for {args.model!r}{served}. Its calls are counted in "
            "taximeter.unpriced.calls, without cost. Give a price in TAXIMETER_PRICES_FILE.",
            file=sys.stderr,
        )
    return 0 if any("unpriced" not in one for one in found) else EXIT_UNKNOWN


def _entries(book: pricing.PriceBook, provider: str | None, model: str) -> Iterator[tuple[str, Model]]:
    """``(provider, entry)``; each entry once, by the first provider whose table holds it."""
    names = [genai.normal(provider)] if provider else sorted({name for _, name, _ in book.providers()})
    seen: set[int] = set()
    for name in names:
        entry = book.find(name, model)
        if entry is not None and id(entry) not in seen:
            seen.add(id(entry))
            yield name, entry


def _explain(
    provider: str, entry: Model, tier: str, when: float, reading: usage.Reading | None
) -> dict[str, object]:
    found: dict[str, object] = {
        "provider": provider,
        "model": entry.id,
        "table": entry.source,
        "tier": tier or "standard",
        "tiers": sorted(entry.prices),
    }
    rates = entry.rates(tier, when)
    if rates is None:
        return found | {"unpriced": f"no price for the tier {tier!r} at that time"}
    found["since"] = _date(rates.start)
    found["changes"] = [_date(dated.start) for dated in entry.prices[tier] if dated.start]
    given = rates.rates
    derived = {name for name, like in LIKE if name in given and given[name] is given.get(like)}
    found["rates"] = {name: _rate(name, rate) for name, rate in given.items() if name not in derived}
    if reading is None:
        return found
    if reading.cost is not None:
        return found | {"cost": reading.cost, "source": "provider"}
    if reading.usage is None:
        return found | {"unpriced": "the response reports no usage"}
    try:
        parts = rates.parts(reading.usage)
    except NoRate as missing:
        return found | {"unpriced": f"no rate for {missing}"}
    factors = [1.0 if part.name in CALL_RATES else reading.factor for part in parts]
    lines = [
        {"part": part.name, "quantity": part.quantity, "usd": part.quantity * part.rate * factor}
        for part, factor in zip(parts, factors, strict=True)
    ]
    return found | {
        "parts": lines,
        "factor": reading.factor,
        "cost": pricing.total(parts, reading.factor),
        "source": "local",
    }


def _rendered(found: dict[str, object]) -> str:
    lines = [f"{found['provider']} {found['model']}  ({found['table']})"]
    tiers = found["tiers"]
    assert isinstance(tiers, list)
    others = ", ".join(tier or "standard" for tier in tiers)
    lines.append(f"  tier {found['tier']} (known: {others}), since {found.get('since') or 'the beginning'}")
    rates = found.get("rates", {})
    assert isinstance(rates, dict)
    lines += [f"  {name:<18} {text}" for name, text in rates.items()]
    parts = found.get("parts", [])
    assert isinstance(parts, list)
    if parts:
        lines.append("  this call:")
        lines += [f"    {part['part']:<16} {part['quantity']:>10,}  ${part['usd']:.8f}" for part in parts]
        if found["factor"] != 1:
            lines.append(f"    (token rates times {found['factor']}: inference in the US only)")
    if "cost" in found:
        lines.append(f"  cost: ${found['cost']:.8f} ({found['source']})")
    if "unpriced" in found:
        lines.append(f"  not priced: {found['unpriced']}")
    return "\n".join(lines)


def _rate(name: str, rate: Rate) -> str:
    per, unit = (1e3, "thousand calls") if name in CALL_RATES else (1e6, "million tokens")
    text = f"${rate.base * per:.10g} per {unit}"
    for start, dearer in reversed(rate.tiers):
        text += f"; ${dearer * per:.10g} when the whole input is over {start:,} tokens"
    return text


def _date(start: float) -> str | None:
    return datetime.fromtimestamp(start, UTC).date().isoformat() if start else None


def _day(text: str) -> float:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--at {text!r} is no date like 2026-01-31") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _response(path: str) -> object:
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--usage {path} is not JSON: {error}") from None


def _update(path: Path, *, check: bool) -> int:
    try:
        from taximeter_cli import render_prices

        text = render_prices.dumps(render_prices.render())
    except ImportError as error:
        print(
            f"taximeter prices update needs the package genai-prices ({error}): pip install -U genai-prices",
            file=sys.stderr,
        )
        return 2
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if check:
            print(f"{path}: {'up to date' if old == text else 'not what genai-prices renders'}")
            return 0 if old == text else 1
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"taximeter prices update: {path}: {error.strerror}. Give another --output.", file=sys.stderr)
        return 2
    was, now = old.count('{"id"'), text.count('{"id"')
    print(f"{path}: {now} models (before: {was})")
    return 0
