"""What the collector is doing now: one picture for the terminal, the page on loopback, and programs.

Rates are over the last minute at most, from counts taken every five seconds. The page shows errors of
destinations, so only this machine may see it, wherever the metrics are served.
"""

from __future__ import annotations

import asyncio
import html
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.errors import ConfigError, StartError
from taximeter_collector.export.pump import Pump
from taximeter_collector.listen import App, Receive, Scope, Send, respond
from taximeter_collector.log import Log
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process.stage import TailSamplingStage

_EVERY_S, _SAMPLES = 5.0, 13
_RATES = ("otelcol_receiver_accepted_", "otelcol_receiver_refused_", "otelcol_exporter_sent_")


class Status:
    """Gathers the picture. Used from the event loop."""

    def __init__(
        self,
        own: OwnMetrics,
        logs: Mapping[str, Log],
        pumps: list[Pump],
        stages: Mapping[str, TailSamplingStage],
        data: Path,
    ) -> None:
        self._own, self._logs, self._pumps, self._stages, self._data = own, logs, pumps, stages, data
        self._taken: deque[tuple[float, dict[str, float]]] = deque(maxlen=_SAMPLES)

    async def run(self) -> None:
        """Take counts now and then, until cancelled."""
        while True:
            self._taken.append((time.monotonic(), self._counts()))
            await asyncio.sleep(_EVERY_S)

    async def picture(self) -> dict[str, Any]:
        """Plain values: texts, numbers, lists and mappings of them."""
        gauges = {name: value for name, _, value in self._own.gauges()}
        return {
            "uptime_s": round(gauges["otelcol_process_uptime"], 1),
            "memory_bytes": int(gauges["otelcol_process_memory_rss"]),
            "data_directory": str(self._data.resolve()),
            "rates_per_s": self._rates(),
            "logs": [
                {"signal": name, "bytes": log.bytes_stored, "limit_bytes": log.max_bytes}
                for name, log in self._logs.items()
            ],
            "cursors": [await _cursor(pump) for pump in self._pumps],
            "open_traces": {stage.cursor: stage.open_traces for stage in self._stages.values()},
            "dead_letters": [
                {"file": path.name, "bytes": path.stat().st_size}
                for path in sorted((self._data / "dead-letters").glob("*.dead*"))
            ],
        }

    def _counts(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, labels, value in self._own.counters():
            if name.startswith(_RATES):
                who = labels.get("receiver") or labels.get("exporter", "")
                key = f"{name.removeprefix('otelcol_')} {who}"
                found[key] = found.get(key, 0) + value
        return found

    def _rates(self) -> dict[str, float]:
        now, counts = time.monotonic(), self._counts()
        then, before = self._taken[0] if self._taken else (now, counts)
        seconds = max(now - then, 1e-3)
        return {key: round((value - before.get(key, 0)) / seconds, 2) for key, value in counts.items()}


async def _cursor(pump: Pump) -> dict[str, Any]:
    waiting = await pump.oldest_waiting_s()
    at, words = pump.last_error or (0.0, "")
    return {
        "cursor": pump.cursor,
        "state": "failing" if pump.failing else "behind" if pump.lag else "idle",
        "waiting_requests": pump.lag,
        "oldest_waiting_s": round(waiting, 1),
        "last_error": words,
        "last_error_s_ago": round(time.time() - at, 1) if words else None,
    }


def app(own_page: Callable[[], tuple[int, str, str]], status: Callable[[], Status | None]) -> App:
    """``/metrics``, and for this machine ``/status`` and ``/status.json``."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path not in ("/metrics", "/status", "/status.json"):
            await respond(send, 404, b"not found; see /metrics, /status\n", "text/plain")
        elif scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"only GET\n", "text/plain", {"allow": "GET, HEAD"})
        elif path == "/metrics":
            code, kind, body = own_page()
            await respond(send, code, body.encode(), kind)
        elif (scope.get("client") or ("",))[0] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            await respond(send, 403, b"the status is for this machine only\n", "text/plain")
        elif (now := status()) is None:
            await respond(send, 503, b"starting\n", "text/plain", {"retry-after": "1"})
        else:
            picture = await now.picture()
            if path == "/status":
                await respond(send, 200, page(picture).encode(), "text/html; charset=utf-8")
            else:
                await respond(send, 200, json.dumps(picture).encode(), "application/json")

    return serve


def fetch(config: CollectorConfig) -> dict[str, Any]:
    """The picture of the collector that runs with this configuration.

    Raises:
        ConfigError: it serves none. StartError: nobody answers there.
    """
    endpoint = config.telemetry.metrics_endpoint
    if not endpoint:
        raise ConfigError("service.telemetry.metrics: is turned off, and the status is served with it")
    host, _, port = endpoint.rpartition(":")
    url = f"http://{'localhost' if host in ('', '0.0.0.0', '::', '[::]') else host}:{port}/status.json"  # noqa: S104
    try:
        answer = httpx.get(url, timeout=10, trust_env=False)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise StartError(f"{url}: no status ({error}): is the collector running?") from error
    return found


def text(picture: Mapping[str, Any]) -> str:
    """For a terminal."""
    return "\n\n".join(
        f"{title}\n" + "\n".join(f"  {line}" for line in _columns(rows)) for title, rows in _tables(picture)
    )


def page(picture: Mapping[str, Any]) -> str:
    """For a browser: it comes again every two seconds."""
    parts = [
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2>",
        "<title>Taximeter collector</title><style>table{border-collapse:collapse}",
        "body{font:14px system-ui;margin:2em;color:#222;background:#fff}",
        "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}",
        "td.failing{color:#b00020;font-weight:600}</style><h1>Taximeter collector</h1>",
    ]
    for title, (head, *rows) in _tables(picture):
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>")
        parts += [f"<th>{html.escape(cell)}</th>" for cell in head]
        for row in rows:
            parts.append("<tr>")
            parts += [
                f"<td{' class=failing' if cell == 'failing' else ''}>{html.escape(cell)}</td>" for cell in row
            ]
        parts.append("</table>")
    return "".join(parts)


def _tables(picture: Mapping[str, Any]) -> Iterable[tuple[str, list[list[str]]]]:
    yield (
        "process",
        [
            ["up", "memory", "data"],
            [
                f"{picture['uptime_s']:.0f} s",
                f"{picture['memory_bytes'] / 2**20:.0f} MiB",
                picture["data_directory"],
            ],
        ],
    )
    rates = [[key, f"{value:,.1f}"] for key, value in sorted(picture["rates_per_s"].items())]
    yield "rates, a second", [["what", "rate"], *rates]
    yield (
        "cursors",
        [
            ["pipeline | exporter", "state", "waiting", "oldest", "last error"],
            *(
                [
                    cursor["cursor"],
                    cursor["state"],
                    f"{cursor['waiting_requests']:,}",
                    f"{cursor['oldest_waiting_s']:.0f} s",
                    f"{cursor['last_error_s_ago']:.0f} s ago: {cursor['last_error']}"
                    if cursor["last_error"]
                    else "none",
                ]
                for cursor in picture["cursors"]
            ),
        ],
    )
    if picture["open_traces"]:
        opened = [[name, f"{count:,}"] for name, count in picture["open_traces"].items()]
        yield "traces that wait for a decision", [["pipeline | processor", "traces"], *opened]
    logs = [
        [log["signal"], f"{log['bytes'] / 2**20:.1f} MiB", f"{log['limit_bytes'] / 2**20:.0f} MiB"]
        for log in picture["logs"]
    ]
    yield "log", [["signal", "held", "limit"], *logs]
    letters = [[letter["file"], f"{letter['bytes']:,} bytes"] for letter in picture["dead_letters"]]
    yield "dead letters", [["file", "size"], *(letters or [["none", ""]])]


def _columns(rows: list[list[str]]) -> Iterable[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
