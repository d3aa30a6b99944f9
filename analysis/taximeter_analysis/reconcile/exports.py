"""The providers' usage and cost exports: what a file is shows in its content, not in its name.

=============================================  =====================================================
OpenAI ``/v1/organization/usage/completions``   pages of buckets, ``group_by=model`` (and ``batch``)
OpenAI ``/v1/organization/usage/embeddings``    the same
OpenAI ``/v1/organization/costs``               ``group_by=line_item``; amounts in dollars
OpenAI's dashboard                              CSV: ``num_model_requests``, or ``amount_value``
Anthropic ``.../usage_report/messages``         ``group_by[]=model``; input without cached tokens
Anthropic ``/v1/organizations/cost_report``     ``group_by[]=description``; amounts in cents, as texts
Anthropic's Console                             CSV: ``usage_input_tokens_no_cache``, or ``cost_usd``
=============================================  =====================================================

A JSON file holds one page, or a list of pages, or a page a line. That a further page is missing is
an error: half an export would look like a difference.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from taximeter_analysis.reconcile.model import Figures, Side

_MOST_BYTES = 256 << 20
OPENAI, ANTHROPIC = "openai", "anthropic"
ALL = "(all)"


class NotAnExport(ValueError):
    """The file is none of the exports; the message says which, why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One line of an export."""

    provider: str
    day: date
    model: str
    side: Side


@dataclass
class Export:
    """A file: what it is, its lines, and the days that it is about (those without a line as well)."""

    path: Path
    kind: str
    provider: str
    tells: tuple[str, ...]  # of model.FIGURES
    entries: list[Entry] = field(default_factory=list)
    days: set[date] = field(default_factory=set)

    def __str__(self) -> str:
        span = f"{min(self.days)} to {max(self.days)}" if self.days else "no day"
        return f"{self.path.name}: {self.kind}, {span}, {len(self.entries)} line(s)"


def read_export(path: Path) -> Export:
    """Read a file.

    Raises:
        NotAnExport: it cannot be read, is something else, or lacks a page or a grouping.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotAnExport(f"{path}: {path.stat().st_size} bytes are no export of usage by day")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotAnExport(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise NotAnExport(f"{path}: is no text; give the JSON or CSV that the provider exported") from None
    try:
        return _json(path, text) if text.lstrip()[:1] in ("{", "[") else _csv(path, text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, NotAnExport):
            raise
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise NotAnExport(f"{path}: is not as its provider documents it ({what}); export it again") from None


# --- JSON -------------------------------------------------------------------------------------------


def _pages(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    pages: list[dict[str, Any]] = found if isinstance(found, list) else [found]
    if pages and pages[-1].get("has_more"):
        raise NotAnExport(
            f"{path}: has more pages (next_page {pages[-1].get('next_page')!r}): fetch them, and give all "
            "pages as a list, or one a line"
        )
    return pages


def _json(path: Path, text: str) -> Export:
    buckets = [bucket for page in _pages(path, text) for bucket in page["data"]]
    if not buckets:
        raise NotAnExport(f"{path}: holds no day; ask for a longer window")
    if "starting_at" in buckets[0]:
        return _anthropic(path, buckets)
    kinds = {str(result["object"]) for bucket in buckets for result in bucket["results"]}
    if kinds <= {"organization.costs.result"} and kinds:
        return _openai_costs(path, buckets)
    if kinds <= {"organization.usage.completions.result", "organization.usage.embeddings.result"} and kinds:
        return _openai_usage(path, buckets)
    told = ", ".join(sorted(kinds)) or "nothing"
    raise NotAnExport(f"{path}: its results are {told}; give usage/completions, usage/embeddings or costs")


def _day(unix: float | str) -> date:
    return datetime.fromtimestamp(float(unix), UTC).date()


def _openai_usage(path: Path, buckets: list[dict[str, Any]]) -> Export:
    found = Export(
        path, "OpenAI usage", OPENAI, ("requests", "input_tokens", "cached_tokens", "output_tokens")
    )
    for bucket in buckets:
        day = _day(bucket["start_time"])
        found.days.add(day)
        found.entries += [Entry(OPENAI, day, _model(path, each, "group_by=model"), _openai_side(each))
                          for each in bucket["results"]]  # fmt: skip
    return found


def _openai_side(result: Mapping[str, Any]) -> Side:
    figures = Figures(
        requests=_number(result["num_model_requests"]),
        input_tokens=_number(result["input_tokens"]),
        cached_tokens=_number(result.get("input_cached_tokens")),
        output_tokens=_number(result.get("output_tokens")),
    )
    batch = str(result.get("batch")).lower() == "true"
    return Side(figures, batch=Figures(**vars(figures)) if batch else Figures())


def _openai_costs(path: Path, buckets: list[dict[str, Any]]) -> Export:
    found = Export(path, "OpenAI costs", OPENAI, ("cost_usd",))
    for bucket in buckets:
        day = _day(bucket["start_time"])
        found.days.add(day)
        for each in bucket["results"]:
            amount = each["amount"]
            _dollars(path, amount["currency"])
            found.entries.append(
                Entry(OPENAI, day, _line_item(each.get("line_item")), _money(amount["value"]))
            )
    return found


def _line_item(text: str | None) -> str:
    """``gpt-4o-2024-08-06, cached input`` is money of that model; without a grouping it is everything's."""
    return text.split(",", 1)[0].strip() if text else ALL


def _anthropic(path: Path, buckets: list[dict[str, Any]]) -> Export:
    results = [(bucket, result) for bucket in buckets for result in bucket["results"]]
    costs = any("amount" in result for _, result in results)
    usage = ("input_tokens", "cached_tokens", "output_tokens")
    kind, tells = ("Anthropic cost report", ("cost_usd",)) if costs else ("Anthropic usage report", usage)
    found = Export(path, kind, ANTHROPIC, tells)
    found.days = {datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date() for bucket in buckets}
    for bucket, result in results:
        day = datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date()
        if costs:
            _dollars(path, result["currency"])
            model = result.get("model") or (result.get("description") and result["description"]) or ALL
            found.entries.append(Entry(ANTHROPIC, day, model, _money(float(result["amount"]) / 100)))  # cents
        else:
            model = _model(path, result, "group_by[]=model")
            found.entries.append(Entry(ANTHROPIC, day, model, _anthropic_side(result)))
    return found


def _anthropic_side(result: Mapping[str, Any]) -> Side:
    written = sum(float(value or 0) for value in (result.get("cache_creation") or {}).values())
    read = float(result.get("cache_read_input_tokens") or 0)
    figures = Figures(
        input_tokens=float(result["uncached_input_tokens"]) + written + read,
        cached_tokens=read,
        output_tokens=float(result["output_tokens"]),
    )
    batch = result.get("service_tier") == "batch"
    return Side(figures, batch=Figures(**vars(figures)) if batch else Figures(), cache_written=written)


# --- CSV --------------------------------------------------------------------------------------------


def _csv(path: Path, text: str) -> Export:
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = set(rows[0]) if rows else set()
    if {"start_time", "num_model_requests", "input_tokens"} <= columns:
        tells = ("requests", "input_tokens", "cached_tokens", "output_tokens")
        found = Export(path, "OpenAI usage (CSV)", OPENAI, tells)
        for row in _begun(rows, "num_model_requests"):
            model = _model(path, row, "the model column")
            found.entries.append(Entry(OPENAI, _day(row["start_time"]), model, _openai_side(row)))
        found.days = {_day(row["start_time"]) for row in rows}
        return found
    if {"start_time", "amount_value"} <= columns:
        found = Export(path, "OpenAI costs (CSV)", OPENAI, ("cost_usd",))
        for row in _begun(rows, "amount_value"):
            _dollars(path, row.get("amount_currency") or "usd")
            model = _line_item(row.get("line_item"))
            found.entries.append(Entry(OPENAI, _day(row["start_time"]), model, _money(row["amount_value"])))
        found.days = {_day(row["start_time"]) for row in rows}
        return found
    if {"usage_date_utc", "usage_output_tokens"} <= columns:
        found = Export(
            path, "Anthropic usage (CSV)", ANTHROPIC, ("input_tokens", "cached_tokens", "output_tokens")
        )
        for row in rows:
            day = date.fromisoformat(row["usage_date_utc"][:10])
            found.entries.append(
                Entry(ANTHROPIC, day, row["model_version"] or ALL, _anthropic_side(_as_json(row)))
            )
            found.days.add(day)
        return found
    if {"usage_date_utc", "cost_usd"} <= columns:
        found = Export(path, "Anthropic cost (CSV)", ANTHROPIC, ("cost_usd",))
        for row in rows:
            day = date.fromisoformat(row["usage_date_utc"][:10])
            # web searches and code execution are of no model: lines of their own, not the day's sum
            model = (row["model"] or row.get("cost_type") or "(no model)") if "model" in columns else ALL
            found.entries.append(Entry(ANTHROPIC, day, model, _money(row["cost_usd"])))
            found.days.add(day)
        return found
    raise NotAnExport(
        f"{path}: its columns ({', '.join(sorted(columns)[:8]) or 'none'}) are of none of the exports that "
        "docs/reconcile.md lists"
    )


def _begun(rows: Iterable[dict[str, str]], column: str) -> Iterator[dict[str, str]]:
    """Rows that say something: the dashboard writes an empty one for a day without any."""
    return (row for row in rows if (row[column] or "").strip())


def _as_json(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of Anthropic's CSV under the names of its API."""

    def number(name: str) -> float:
        return float((row.get(name) or "0").replace(",", ""))

    return {
        "uncached_input_tokens": number("usage_input_tokens_no_cache"),
        "cache_creation": {  # _5m and _1h; older exports have one column
            name: number(name) for name in row if name.startswith("usage_input_tokens_cache_write")
        },
        "cache_read_input_tokens": number("usage_input_tokens_cache_read"),
        "output_tokens": number("usage_output_tokens"),
        "service_tier": row.get("usage_type"),
    }  # fmt: skip


def _model(path: Path, result: Mapping[str, Any], remedy: str) -> str:
    model = result.get("model")
    if not model:
        raise NotAnExport(f"{path}: is not by model; export it with {remedy}")
    return str(model)


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def _money(value: Any) -> Side:
    return Side(Figures(cost_usd=float(value)))


def _dollars(path: Path, currency: str) -> None:
    if currency.lower() != "usd":
        raise NotAnExport(f"{path}: amounts are in {currency}; Taximeter reckons in USD")
