"""``taximeter collector status`` and its page: what each part is doing, and what went wrong last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.collector.support import (
    Collector,
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    trace_request,
    wait_for,
)


def status(made: Collector, *args: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "taximeter_collector",
        "status",
        "--config",
        str(made.folder / "collector.yaml"),
    ]
    return subprocess.run([*command, *args], capture_output=True, text=True, timeout=60, check=False)


def picture(made: Collector) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{made.ports['own']}/status.json").json()
    return found


def test_lag_errors_and_dead_letters_of_each_cursor(tmp_path: Path) -> None:
    port = free_port()
    exporters = {"otlp_grpc": backend_exporter(port), "debug": None}
    with collector(tmp_path, exporters, {"traces": ["otlp_grpc", "debug"]}) as made:
        made.start()
        for number in range(3):
            assert made.post(trace_request(number)).status_code == 200

        def failing() -> bool:
            cursor = picture(made)["cursors"][0]
            return bool(cursor["state"] == "failing" and cursor["oldest_waiting_s"] > 0)

        wait_for(failing, "a failing cursor")
        dead, idle = picture(made)["cursors"]
        assert (dead["cursor"], dead["waiting_requests"]) == ("traces|otlp_grpc", 3)
        assert "Connection refused" in dead["last_error"]
        assert (idle["cursor"], idle["last_error"]) == ("traces|debug", "")
        told = status(made)
        assert told.returncode == 0
        for words in (
            "traces|otlp_grpc",
            "failing",
            "ConnectionRefused",
            "receiver_accepted_spans otlp",
            "MiB",
        ):
            assert words in told.stdout
        page = httpx.get(f"http://127.0.0.1:{made.ports['own']}/status")
        assert "<td class=failing>failing" in page.text
        assert page.headers["content-type"].startswith("text/html")
        with GrpcBackend(port):
            wait_for(lambda: picture(made)["cursors"][0]["state"] == "idle", "delivery")
        document = json.loads(status(made, "--json").stdout)
        assert document["cursors"][0]["waiting_requests"] == 0
        assert document["rates_per_s"]["receiver_accepted_spans otlp"] > 0
        assert made.stop() == 0
        gone = status(made)
        assert gone.returncode == 1
        assert "is the collector running?" in gone.stderr


def test_what_a_destination_says_is_text_on_the_page(tmp_path: Path) -> None:
    from taximeter_collector.status import page

    cursor = {
        "cursor": "traces|<script>",
        "state": "failing",
        "waiting_requests": 1,
        "oldest_waiting_s": 0.0,
        "last_error": "<img src=x>",
        "last_error_s_ago": 1.0,
    }
    shown = page(
        {
            "uptime_s": 1.0,
            "memory_bytes": 1,
            "data_directory": "d",
            "rates_per_s": {},
            "logs": [],
            "cursors": [cursor],
            "open_traces": {},
            "dead_letters": [],
        }
    )
    assert "<img" not in shown
    assert "<script>" not in shown
