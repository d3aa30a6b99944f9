"""The ledger as the providers' own exports would have it: what `taximeter reconcile` is tried on.

    python -m examples.provider.exports LEDGER.jsonl FOLDER

writes the pages that the two providers' usage and cost APIs would answer, and the CSV of their usage
dashboards. The shapes are typed by hand from the providers' API references (OpenAI:
organization usage and costs; Anthropic: usage report and cost report): days are UTC, OpenAI's input
counts cached tokens and Anthropic's does not, Anthropic's amounts are cents in a text.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from .models import BY_NAME

Line = dict[str, Any]


def write(lines: Iterable[Line], folder: Path) -> list[Path]:
    """Write all files of these ledger lines."""
    days: dict[datetime, dict[tuple[str, str, str], list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["model"] and line["status"] == 200:
            moment = datetime.fromtimestamp(line["ts_ns"] // 10**9, UTC)
            model = BY_NAME[line["model"]]
            kind = "embeddings" if model.embedding else "completions"
            day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            days[day][line["api"], kind, model.snapshot].append(line)
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "openai-completions.json": [
            _openai_bucket(day, _usage(groups, "completions")) for day, groups in days.items()
        ],
        "openai-embeddings.json": [
            _openai_bucket(day, _usage(groups, "embeddings")) for day, groups in days.items()
        ],
        "openai-costs.json": [_openai_bucket(day, _costs(groups)) for day, groups in days.items()],
        "anthropic-usage.json": [_anthropic_bucket(day, _messages(groups)) for day, groups in days.items()],
        "anthropic-costs.json": [_anthropic_bucket(day, _amounts(groups)) for day, groups in days.items()],
    }
    written = []
    for name, buckets in pages.items():
        page: dict[str, Any] = {"data": buckets, "has_more": False, "next_page": None}
        if name.startswith("openai"):
            page = {"object": "page", **page}
        (folder / name).write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
        written.append(folder / name)
    openai, anthropic = pages["openai-completions.json"], pages["anthropic-usage.json"]
    written.append(
        _table(folder / "openai-usage.csv", [_openai_row(b, r) for b in openai for r in b["results"]])
    )
    written.append(
        _table(folder / "anthropic-usage.csv", [_row(b, r) for b in anthropic for r in b["results"]])
    )
    return written


def _sum(lines: list[Line], name: str) -> int:
    return sum(int(line[name]) for line in lines)


def _money(lines: list[Line]) -> Decimal:
    return sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0))


def _usage(groups: dict[tuple[str, str, str], list[Line]], kind: str) -> list[dict[str, Any]]:
    results = []
    for (api, which, model), lines in sorted(groups.items()):
        if api != "openai" or which != kind:
            continue
        result: dict[str, Any] = {
            "object": f"organization.usage.{kind}.result",
            "input_tokens": _sum(lines, "input_tokens"),
            "num_model_requests": len(lines),
            "project_id": None, "user_id": None, "api_key_id": None, "model": model,
        }  # fmt: skip
        if kind == "completions":
            result |= {
                "output_tokens": _sum(lines, "output_tokens"),
                "input_cached_tokens": _sum(lines, "cached_tokens"),
                "batch": None,
            }
        results.append(result)
    return results


def _costs(groups: dict[tuple[str, str, str], list[Line]]) -> list[dict[str, Any]]:
    return [
        {
            "object": "organization.costs.result",
            "amount": {"value": float(_money(lines)), "currency": "usd"},
            "line_item": model,
            "project_id": None,
        }
        for (api, _, model), lines in sorted(groups.items())
        if api == "openai"
    ]


def _messages(groups: dict[tuple[str, str, str], list[Line]]) -> list[dict[str, Any]]:
    results = []
    for (api, _, model), lines in sorted(groups.items()):
        if api != "anthropic":
            continue
        written, hour = _sum(lines, "cache_write_tokens"), _sum(lines, "cache_write_1h_tokens")
        read = _sum(lines, "cached_tokens")
        results.append(
            {
                "uncached_input_tokens": _sum(lines, "input_tokens") - written - read,
                "cache_creation": {
                    "ephemeral_1h_input_tokens": hour, "ephemeral_5m_input_tokens": written - hour,
                },
                "cache_read_input_tokens": read,
                "output_tokens": _sum(lines, "output_tokens"),
                "server_tool_use": {"web_search_requests": 0},
                "api_key_id": None, "workspace_id": None, "model": model, "service_tier": "standard",
                "context_window": "0-200k",
            }
        )  # fmt: skip
    return results


def _amounts(groups: dict[tuple[str, str, str], list[Line]]) -> list[dict[str, Any]]:
    return [
        {
            "currency": "USD", "amount": format(_money(lines) * 100, "f"), "workspace_id": None,
            "description": f"{model} Usage", "cost_type": "tokens", "context_window": "0-200k",
            "model": model, "service_tier": "standard", "token_type": None,
        }
        for (api, _, model), lines in sorted(groups.items())
        if api == "anthropic"
    ]  # fmt: skip


def _openai_bucket(day: datetime, results: list[dict[str, Any]]) -> dict[str, Any]:
    start = int(day.timestamp())
    return {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": results}


def _anthropic_bucket(day: datetime, results: list[dict[str, Any]]) -> dict[str, Any]:
    form = "%Y-%m-%dT%H:%M:%SZ"
    end = day + timedelta(days=1)
    return {"starting_at": day.strftime(form), "ending_at": end.strftime(form), "results": results}


def _openai_row(bucket: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    start, end = bucket["start_time"], bucket["end_time"]
    return {
        "start_time": start, "end_time": end,
        "start_time_iso": datetime.fromtimestamp(start, UTC).isoformat(),
        "end_time_iso": datetime.fromtimestamp(end, UTC).isoformat(),
        **{name: "" if value is None else value for name, value in result.items() if name != "object"},
    }  # fmt: skip


def _row(bucket: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {
        "usage_date_utc": bucket["starting_at"][:10], "model_version": result["model"], "api_key": "local",
        "workspace": "Default", "usage_type": "standard", "context_window": "≤ 200k",
        "usage_input_tokens_no_cache": result["uncached_input_tokens"],
        "usage_input_tokens_cache_write_5m": result["cache_creation"]["ephemeral_5m_input_tokens"],
        "usage_input_tokens_cache_write_1h": result["cache_creation"]["ephemeral_1h_input_tokens"],
        "usage_input_tokens_cache_read": result["cache_read_input_tokens"],
        "usage_output_tokens": result["output_tokens"], "web_search_count": 0,
    }  # fmt: skip


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else [])
        table.writeheader()
        table.writerows(rows)
    return path


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    for each in write((json.loads(line) for line in text.splitlines()), Path(sys.argv[2])):
        sys.stdout.write(f"{each}\n")
