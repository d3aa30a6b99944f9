"""``taximeter top``: what keys do to the screen, how it fits, and the program itself in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

from taximeter_analysis import Report, Store, open_store, report, traces
from taximeter_analysis.top.screen import SORTS, Screen
from tests.analysis.leaves import differences
from tests.analysis.stores import hotel


def press(screen: Screen, *keys: str) -> str:
    return [screen.key(key) for key in keys][-1]


def text(screen: Screen, width: int = 100, height: int = 30) -> list[str]:
    return [line.plain for line in screen.lines(width, height)]


@pytest.mark.parametrize("size", [(80, 24), (100, 40), (60, 10), (200, 60)])
def test_it_fits_any_terminal(hotel_report: Report, size: tuple[int, int]) -> None:
    screen = Screen(hotel_report)
    for _ in range(30):
        screen.key("down")
    lines = screen.lines(*size)
    assert len(lines) == size[1]
    assert max(line.cell_len for line in lines) <= size[0]
    assert screen.chosen == 17
    assert any("reverse" in str(span.style) for line in lines for span in line.spans), (
        "the chosen row is in sight"
    )


def test_seventy_four_routes(tmp_path: Path) -> None:
    with open_store(hotel(requests=3000, routes=74).write(tmp_path / "store")) as store:
        found = report(store)
    screen = Screen(found)
    assert len(screen.routes()) >= 74
    press(screen, "/", *"billing", "enter")
    assert all("billing" in route.label for route in screen.routes())
    assert "with 'billing'" in text(screen)[2]
    press(screen, "esc")
    assert len(screen.routes()) >= 74


def test_sorts(hotel_report: Report) -> None:
    screen = Screen(hotel_report)
    for name, key in SORTS:
        assert f"by {name}" in text(screen)[3]
        values = [key(route) for route in screen.routes()]
        assert values == sorted(values, reverse=True)
        screen.key("s")


def test_down_to_a_trace_and_back(hotel_report: Report, hotel_store: Store) -> None:
    screen = Screen(hotel_report)
    press(screen, *["s"] * 5)  # by cost
    assert press(screen, "enter") == "open-route"
    assert screen.route is not None
    key = (screen.route.service, screen.route.method, screen.route.route)
    screen.requests = traces.requests_of(hotel_store, key, "costliest", 5)
    assert press(screen, "down", "enter") == "open-trace"
    wanted = traces.parse_trace(screen.requests[1]["trace_id"])
    assert wanted is not None
    screen.trace = traces.waterfall(hotel_store, *wanted)
    lines = text(screen)
    assert screen.requests[1]["trace_id"] in lines[3]
    assert any("SELECT" in line for line in lines)
    assert any("$" in line and ("gpt" in line or "claude" in line) for line in lines)
    press(screen, "esc")
    assert screen.view == "route"
    press(screen, "esc")
    assert screen.view == "routes"


def test_large_numbers_keep_their_columns(hotel_report: Report) -> None:
    busy = [
        replace(
            route, usage=replace(route.usage, requests=12_345_678, errors=123_456, embedding_calls=1_234_567)
        )
        for route in hotel_report.routes
    ]
    lines = Screen(replace(hotel_report, routes=tuple(busy))).lines(110, 30)
    assert {len(line.plain) for line in lines[3 : 4 + len(busy)]} == {110}
    assert "12.3M  123k" in lines[4].plain
    assert "1.23M" in lines[4].plain


def test_before_the_first_request() -> None:
    screen = Screen()
    assert "no request yet" in text(screen)[1]
    assert press(screen, "enter", "down", "esc", "s", "q") == "quit"


def test_in_a_real_terminal(tmp_path: Path) -> None:
    """In a pty: draws, follows keys into a trace, exports, and gives the terminal back."""
    store = hotel(requests=300).write(tmp_path / "store")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    before = termios.tcgetattr(theirs)
    argv = [sys.executable, "-m", "taximeter_cli", "top", "--store", str(store), "--since", "2026-01-01"]
    process = subprocess.Popen(
        [*argv, "--export", str(tmp_path / "shown.json")], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    try:
        until(ours, "q quits")
        os.write(ours, b"\r")
        until(ours, "its latest requests")
        os.write(ours, b"\x1b[B")
        os.write(ours, b"\r")
        until(ours, "  trace ")
        os.write(ours, b"e")
        until(ours, "written: ")
        os.write(ours, b"q")
        assert until(ours, "\x1b[?1049l")
        assert process.wait(60) == 0
        assert termios.tcgetattr(theirs)[3] == before[3]
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert json.loads((tmp_path / "shown.json").read_text())["totals"]["requests"] == 300


def until(terminal: int, wanted: str, seconds: float = 90) -> bool:
    shown, deadline = "", time.monotonic() + seconds
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} did not appear in {seconds} s; shown: {shown[-2000:]!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
    return True


def test_a_look_at_the_last_minutes_reads_no_more_than_them(tmp_path: Path) -> None:
    """Old segments are not opened, and what no screen shows is not worked out."""
    path = hotel(requests=300).write(tmp_path / "store", segments=2)
    for folder in ("spans", "requests"):
        os.utime(path / folder / "000000.parquet", (1_000, 1_000))
    with open_store(path, written_since=2_000) as young, open_store(path) as whole:
        assert {len(files) for files in young.segments.values()} == {1}
        assert report(young).totals.requests == 150
        brief, full = report(whole, brief=True), report(whole)
    shown, whole_report = brief.to_dict(), full.to_dict()
    for each in (shown, whole_report):
        each["routes"] = [
            {name: row[name] for name in ("label", "usage", "latency")} for row in each["routes"]
        ]
    for name in ("totals", "latency", "routes"):
        assert differences({name: shown[name]}, {name: whole_report[name]}) == []
    assert brief.slowest is None and brief.repeated.shown == () and full.repeated.shown
