"""``taximeter loadtest`` against the real service: blocks, comparison, and its own CPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from taximeter_analysis.loadtest.blocks import read_block
from taximeter_analysis.loadtest.run import Side, order
from taximeter_analysis.saved import load_report
from taximeter_cli.main import main

from .conftest import Hotel
from .processes import ROOT

SCENARIO = ROOT / "examples" / "loadtest" / "hotel.py"


def loadtest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "taximeter_cli", "loadtest", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)


def test_interleaved_blocks_are_compared(hotel: Hotel, tmp_path: Path) -> None:
    """B has the N+1 fault switched on before each of its blocks."""
    switch = (
        f"{sys.executable} -c \"import httpx; httpx.post('{hotel.url}/admin/flags', "
        "json={{'fault.n_plus_one_rooms': {on}}}).raise_for_status()\""
    )
    output = tmp_path / "out"
    done = loadtest(
        SCENARIO, "--host", hotel.url, "--guests", "8", "--duration", "2s", "--warmup", "200ms",
        "--blocks", "2", "--before-a", switch.format(on=False), "--before-b", switch.format(on=True),
        "--output", output,
    )  # fmt: skip
    hotel.flags(fault_n_plus_one_rooms=False)
    assert done.returncode in (0, 3), done.stderr + done.stdout
    assert "3 routes in both" in done.stdout
    windows = json.loads((output / "blocks.json").read_text())
    assert [block["side"] for block in windows] == ["A", "B", "B", "A"]
    for name in ("A-1", "A-2", "B-1", "B-2"):
        found = load_report(output / f"{name}.json")
        assert {route.label for route in found.routes} >= {"GET /hotels/{hotel}/rooms"}
        assert found.totals.requests > 0
        assert found.totals.errors == 0


def test_distributed_over_processes_counts_every_request_once(hotel: Hotel, tmp_path: Path) -> None:
    scenario = tmp_path / "policies.py"
    scenario.write_text(
        "from locust import FastHttpUser, constant, task\n"
        "class Guest(FastHttpUser):\n"
        "    wait_time = constant(0.3)\n"
        "    @task\n"
        "    def policies(self): self.client.get('/hotels/casa-del-mar/policies')\n"
    )
    hotel.backend.reset()
    done = loadtest(
        scenario, "--host", hotel.url, "--guests", "20", "--processes", "2", "--duration", "3s",
        "--warmup", "0s", "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr + done.stdout
    found = load_report(tmp_path / "out" / "A-1.json")
    per_request = 2  # the hotel, its policies
    assert found.totals.requests * per_request == hotel.backend.db_calls()


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    done = loadtest(
        SCENARIO, "--host", "http://127.0.0.1:9", "--guests", "2", "--duration", "2s", "--warmup", "0s",
        "--output", tmp_path,
    )  # fmt: skip
    assert "100% failed" in done.stdout, done.stderr
    assert load_report(tmp_path / "A-1.json").error_rate == 1.0


@contextmanager
def slow_service(seconds: float) -> Iterator[tuple[str, list[float]]]:
    """Its address, and when it answered."""
    answered: list[float] = []

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            answered.append(time.time())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answered
        server.shutdown()


ONE = """
from locust import FastHttpUser, task
class Guest(FastHttpUser):
    @task
    def one(self): self.client.get('/')
"""


def test_a_service_slower_than_the_block_is_waited_for_and_named(tmp_path: Path) -> None:
    """Nothing is measured, and the reason has the figures: the answers that came after the end are in it."""
    scenario = tmp_path / "one.py"
    scenario.write_text(ONE)
    with slow_service(2.5) as (url, _):
        done = loadtest(
            scenario, "--host", url, "--guests", "5", "--duration", "1500ms", "--warmup", "1s",
            "--output", tmp_path / "out",
        )  # fmt: skip
    assert done.returncode == 1
    assert "no guest began a request after the warm-up of 1 s: 5 guests, 5 requests before" in done.stderr
    assert re.search(r"the longest took [2-9]\.\d s", done.stderr)


def test_workers_last_answers_are_counted_too(tmp_path: Path) -> None:
    """What is under way when the time is over is answered and counted, whichever process sent it."""
    scenario = tmp_path / "one.py"
    scenario.write_text(ONE)
    with slow_service(0.9) as (url, answered):
        done = loadtest(
            scenario, "--host", url, "--guests", "8", "--processes", "2", "--duration", "3s",
            "--warmup", "0s", "--output", tmp_path / "out",
        )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr + done.stdout
    assert load_report(tmp_path / "out" / "A-1.json").totals.requests == len(answered) > 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.py", "--host", "http://127.0.0.1:9"), "none.py: no such file"),
        ((SCENARIO,), "--host URL is missing"),
        ((SCENARIO, "--host", "http://127.0.0.1:9", "--duration", "5s"), "leaves nothing of --duration 5s"),
        ((SCENARIO, "--host", "http://127.0.0.1:9", "--guests", "0"), "no whole number"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str | Path, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["loadtest", *map(str, arguments)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert (code, message in capsys.readouterr().err) == (2, True)


def test_the_order_turns_round_with_every_pair() -> None:
    sides = [Side("A", ""), Side("B", "")]
    assert [f"{side.name}{number}" for number, side in order(sides, 3)] == [
        "A1",
        "B1",
        "B2",
        "A2",
        "A3",
        "B3",
    ]


@pytest.mark.parametrize(
    ("core", "late", "reason"),
    [
        (0.3, 0.01, None),
        (0.97, 0.01, "its busiest process used 97% of a core"),
        (0.5, 0.4, "its timers woke 0.40 s late"),
    ],
)
def test_a_load_generator_out_of_cpu_says_so(
    tmp_path: Path, core: float, late: float, reason: str | None
) -> None:
    lines: list[list[object]] = [["request", 100.0 + n / 10, "GET /a", 0.01, 0] for n in range(40)]
    lines += [["own", 100.5 + n, 1, core, late] for n in range(4)]
    path = tmp_path / "A-1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    block = read_block(path, "A", 1, warmup_s=1.0)
    assert (block.count, block.own_limit) == (30, reason)
    told = [note for note in block.report("x").notes if "was the limit" in note]
    assert len(told) == (reason is not None)


def test_a_busy_scenario_is_noticed_for_real(tmp_path: Path) -> None:
    """Guests that burn CPU: what is measured is the load generator, and the exit code says so."""
    scenario = tmp_path / "busy.py"
    scenario.write_text(
        "import time\n"
        "from locust import User, task, events\n"
        "class Busy(User):\n"
        "    @task\n"
        "    def burn(self):\n"
        "        end = time.process_time() + 0.05\n"
        "        while time.process_time() < end: pass\n"
        "        self.environment.events.request.fire(request_type='GET', name='/a', response_time=50,\n"
        "            response_length=0, exception=None, context={})\n"
        "        time.sleep(0)\n"
    )
    done = loadtest(
        scenario, "--host", "http://127.0.0.1:9", "--guests", "4", "--duration", "4s", "--warmup", "0s",
        "--output", tmp_path,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the load generator was the limit" in done.stdout
