"""The load generator: its plan repeats, its log is complete, and it ends cleanly."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from starlette.routing import compile_path

from examples.guests.catalogue import QUESTIONS
from examples.guests.plan import MIX, Planned, make_plan
from examples.hotel_chat.app import create_app
from examples.hotel_chat.settings import Settings

from .conftest import Hotel
from .processes import ROOT, free_port, run_module


def plan(requests: int = 3000, seed: int = 7, rate: float = 20) -> list[Planned]:
    return make_plan(seed=seed, guests=100, rate=rate, duration_s=60, requests=requests)


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_same_seed_makes_the_same_requests() -> None:
    assert plan() == plan()
    assert plan() != plan(seed=8)
    timed = make_plan(seed=7, guests=100, rate=20, duration_s=60)
    assert 1000 < len(timed) < 1400
    assert max(planned.at_s for planned in timed) < 60


def test_planned_routes_are_what_the_service_would_match() -> None:
    paths = create_app(Settings(*["unused"] * 6)).openapi()["paths"]
    compiled = {
        (method.upper(), path): compile_path(path)[0] for path, methods in paths.items() for method in methods
    }
    reached = set()
    for planned in plan():
        request = planned.request
        matches = [
            path
            for (method, path), pattern in compiled.items()
            if method == request.method and pattern.match(request.path.split("?")[0])
        ]
        assert (matches or [""]) == [request.route], request
        reached.add((request.method, request.route))
    assert set(compiled) - reached == {("POST", "/admin/flags")}  # for operators, not for guests


def test_guests_repeat_themselves_with_variants_and_a_long_tail() -> None:
    asked = [
        planned.request.body["message"]
        for planned in plan()
        if planned.request.route.endswith("/chat") and planned.request.body
    ]
    asked = [text for text in asked if text]

    def normal(text: str) -> str:
        return re.sub(r"[\s?]+", " ", text).strip().lower()

    raw, normalised = Counter(asked), Counter(map(normal, asked))
    assert len(normalised) < len(raw) < len(asked)  # spellings that normalising unites
    assert normalised.most_common(1)[0][1] > len(asked) / 20
    assert sum(count == 1 for count in normalised.values()) > 30
    assert len(QUESTIONS) > 100
    hotels = Counter(planned.request.hotel for planned in plan() if planned.request.hotel)
    assert len(hotels) == 8
    assert hotels.most_common()[0][1] > 3 * hotels.most_common()[-1][1]


def test_a_run_of_useful_length_has_every_kind_and_three_slow_reports() -> None:
    routes = Counter((planned.request.method, planned.request.route) for planned in plan(200))
    assert routes["GET", "/hotels/{hotel}/admin/occupancy"] == 3
    assert len(routes) >= 20
    assert len(MIX) <= 200 / 4


def run(hotel_url: str, log: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    ended = run_module("examples.guests", "--url", hotel_url, "--log", str(log), *options)
    assert ended.returncode == 0, ended.stderr
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary, read(log), ended.stderr


def test_every_request_is_logged_as_its_sender_saw_it(hotel: Hotel, log: Path) -> None:
    hotel.backend.reset()
    summary, lines, _ = run(hotel.url, log, "--requests", "130", "--rate", "60", "--guests", "20")
    assert summary["requests"] == len(lines) == 130
    assert summary["errors"] == 0
    assert len({line["trace_id"] for line in lines}) == len({line["request"] for line in lines}) == 130
    assert all(re.fullmatch("[0-9a-f]{32}", line["trace_id"]) for line in lines)
    statuses = {line["status"] for line in lines}
    assert {200, 201, 404, 422} <= statuses <= {200, 201, 404, 409, 422}
    assert all(0 < line["first_byte_ns"] <= line["duration_ns"] for line in lines)
    streamed = [line for line in lines if line["streamed"]]
    assert {line["route"] for line in streamed} == {
        "/hotels/{hotel}/chat/stream",
        "/hotels/{hotel}/itinerary",
    }
    assert all(line["first_byte_ns"] < line["duration_ns"] for line in streamed)
    assert all(line["status"] == 404 for line in lines if not line["route"])
    ledger = hotel.backend.ledger()
    answered = Counter(line["route"] for line in lines if line["status"] == 200 and line["method"] == "POST")
    with_models = ("/chat", "/chat/stream", "/summary", "/recommendations", "/itinerary")
    assert ledger["model_calls"] == sum(n for route, n in answered.items() if route.endswith(with_models))


def test_traceparent_can_be_left_out(hotel: Hotel, log: Path) -> None:
    _, lines, _ = run(hotel.url, log, "--requests", "5", "--rate", "50", "--no-traceparent")
    assert [line["trace_id"] for line in lines] == [""] * 5


def test_a_service_that_is_down_is_logged_and_not_fatal(log: Path) -> None:
    summary, lines, _ = run(f"http://127.0.0.1:{free_port()}", log, "--requests", "6", "--rate", "50")
    assert summary["errors"] == 6
    assert all(line["status"] == 0 and line["error"] for line in lines)


def test_sigterm_ends_the_run_with_a_complete_log(hotel: Hotel, log: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.guests", "--url", hotel.url, "--log", str(log), "--rate", "30"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        while not log.exists() or log.read_text().count("\n") < 10:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    lines = read(log)
    assert json.loads(output)["requests"] == len(lines) >= 10
    assert not any(line["error"] for line in lines)
    assert log.read_text().endswith("\n")


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    log = tmp_path / "missing" / "log.jsonl"
    ended = run_module("examples.guests", "--url", "http://127.0.0.1:1", "--log", str(log))
    assert ended.returncode == 1
    assert "--log" in ended.stderr
