"""``taximeter top``: reads the store every second, draws, and listens to keys until q.

The terminal is given back as it was, however this ends. Without a terminal (a pipe) it prints one
screen and is done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from select import select

from rich.console import Console

from taximeter_analysis import render, traces
from taximeter_analysis.command import EXIT_FAILED, EXIT_USAGE
from taximeter_analysis.readers import place
from taximeter_analysis.readers.opened import report_from
from taximeter_analysis.report import report
from taximeter_analysis.selection import select as choose
from taximeter_analysis.sources import add_selection, duration, filters_of
from taximeter_analysis.store import NoStore, NothingToReport, Store, StoreError, open_store
from taximeter_analysis.top.screen import Screen

_KEYS = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1bOA": "up", b"\x1bOB": "down",
    b"\x1bOC": "right", b"\x1bOD": "left", b"\r": "enter", b"\n": "enter", b"\x1b": "esc",
    b"\x7f": "backspace",
    b"\x03": "ctrl-c",
}  # fmt: skip

_SLACK_S = 600.0  # a sender's clock may be ahead by so much

_TOKEN = re.compile(rb"\x1b[\[O][A-D]|[\xc2-\xf4][\x80-\xbf]+|.", re.DOTALL)

EPILOG = """\
examples:
  taximeter top                          the last quarter of an hour, refreshed every second
  taximeter top --since 24h --interval 5s --store demo-output/store
  taximeter top --from prometheus+http://localhost:9090 --interval 5s

keys: arrows choose, Enter opens a route and then a trace, Esc goes back, s sorts, / filters, e exports what
is shown (top-export.json, a report), q quits
exit code: 0 ended as asked, 1 the store cannot be read, 2 wrong usage or no such store
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``taximeter top`` to its parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_selection(parser)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="instead of the span store: prometheus+http://host:9090 (routes only)",
    )
    parser.add_argument("--interval", metavar="DURATION", type=duration, default=1.0, help="default: 1s")
    parser.add_argument(
        "--export",
        metavar="FILE",
        type=Path,
        default=Path("top-export.json"),
        help="where e writes what is shown",
    )


def main(args: argparse.Namespace) -> int:
    """Run ``taximeter top``; returns the exit code."""
    if args.since is None and args.until is None:
        args.since = "15m"
    screen = Screen()
    try:
        if args.source is not None and place.parse(args.source).kind != "prometheus":
            raise ValueError(
                f"--from {args.source}: cannot be asked every second; give a prometheus+http:// address, or "
                "use `taximeter report --from`"
            )
        if sys.stderr.isatty():
            print("reading ...", end="\r", file=sys.stderr, flush=True)  # noqa: T201  (a large store takes a while)
        _refresh(screen, args)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            _print(screen, *shutil.get_terminal_size((100, 40)))
            return 0
        with _raw_terminal():
            _run(screen, args)
    except (ValueError, NoStore) as error:
        return _fail(str(error), EXIT_USAGE)
    except (StoreError, OSError) as error:
        return _fail(str(error), EXIT_FAILED)
    return 0


def _run(screen: Screen, args: argparse.Namespace) -> None:
    due = time.monotonic() + args.interval
    while True:
        _draw(screen)
        if not _pressed_within(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            with contextlib.suppress(
                StoreError
            ):  # a segment dropped under our hands: the next second will do
                _refresh(screen, args)
            # On a store so large that a look takes long, looking takes no more than a third of the time.
            took = time.monotonic() - began
            due = time.monotonic() + max(args.interval, 2 * took)
            continue
        pressed = os.read(sys.stdin.fileno(), 64)
        for key in _keys(pressed):
            wish = screen.key(key)
            if wish == "quit":
                return
            if wish == "export":
                _export(screen, args)
            elif wish:
                screen.message = "reading ..."
                _draw(screen)
                screen.message = ""
                _open(screen, args, wish)


def _pressed_within(seconds: float) -> bool:
    return bool(select([sys.stdin], [], [], seconds)[0])


def _keys(pressed: bytes) -> Iterator[str]:
    """The keys in what was read: several at once when typed while we were busy."""
    for found in _TOKEN.findall(pressed):
        yield _KEYS.get(found) or found.decode(errors="ignore")


def _refresh(screen: Screen, args: argparse.Namespace) -> None:
    now = time.time()
    try:
        if args.source is not None:
            screen.report = report_from(args.source, filters_of(args, now), now=now)
            return
        with _window(args, now) as store:
            screen.report = report(store, filters_of(args, now), now=now, brief=True)
            if screen.route is not None:
                key = (screen.route.service, screen.route.method, screen.route.route)
                screen.requests = traces.requests_of(store, key, "latest", 100)
    except NothingToReport as nothing:
        screen.report, screen.message = None, str(nothing)


def _window(args: argparse.Namespace, now: float) -> Store:
    """The store, of which only the segments are opened that can hold something of the window."""
    since = filters_of(args, now).since
    return open_store(args.store, written_since=None if since is None else since - _SLACK_S)


def _open(screen: Screen, args: argparse.Namespace, wish: str) -> None:
    if args.source is not None:
        screen.route, screen.message = (
            None,
            "Prometheus holds no single requests: open the span store or a Tempo",
        )
        return
    with open_store(args.store) as store:
        if wish == "open-route" and screen.route is not None:
            choose(store, filters_of(args, time.time()))
            key = (screen.route.service, screen.route.method, screen.route.route)
            screen.requests = traces.requests_of(store, key, "latest", 100)
        elif wish == "open-trace":
            wanted = traces.parse_trace(screen.requests[screen.chosen]["trace_id"])
            screen.trace = traces.waterfall(store, *wanted) if wanted else None
            screen.chosen = 0


def _export(screen: Screen, args: argparse.Namespace) -> None:
    path: Path = args.export
    if screen.report is None:
        screen.message = "nothing to export yet"
        return
    now = time.time()
    try:
        if args.source is not None:
            path.write_text(render.json(screen.report), encoding="utf-8")
            screen.message = f"written: {path}"
            return
        with _window(args, now) as store:  # the whole report of the same window, not the screen's part of it
            path.write_text(render.json(report(store, filters_of(args, now), now=now)), encoding="utf-8")
        screen.message = f"written: {path}"
    except OSError as error:
        screen.message = f"{path}: cannot be written ({error.strerror})"


def _draw(screen: Screen) -> None:
    sys.stdout.write("\x1b[H")
    _print(screen, *shutil.get_terminal_size())


def _print(screen: Screen, width: int, height: int) -> None:
    """The whole screen in one write, so that nobody sees half of it."""
    console = Console(width=width, height=height, highlight=False, soft_wrap=True)
    texts = []
    for line in screen.lines(width, height):
        with console.capture() as captured:
            console.print(line, end="", overflow="crop", no_wrap=True)
        texts.append(captured.get())
    sys.stdout.write("\x1b[K\r\n".join(texts) + "\x1b[K" if sys.stdout.isatty() else "\n".join(texts) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys as they are pressed, on a screen of our own; all as before at the end."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    print(f"taximeter top: {message}", file=sys.stderr)  # noqa: T201  (a command's error message)
    return code
