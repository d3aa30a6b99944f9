"""Pictures of the report's page, `serve` and `top`: for the docs, and to be looked at before a release.

    make pictures                                  # docs/images
    python -m tests.analysis.pictures DIR --all    # every width, light and dark, 74 routes

The store is of the demo's shape (`stores.hotel`). `top` runs in a real tmux; its screen is written as SVG.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from taximeter_analysis import open_store, render, report
from tests.analysis import stores
from tests.analysis.chromium import Page, browser
from tests.collector.support import free_port, wait_for

ROOT = Path(__file__).parents[2]
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # the picture loads nothing


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="everything there is to look at")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taximeter-pictures-") as folder:
        stores.EPOCH_NS = (int(time.time()) - 700) * 1_000_000_000
        small = stores.hotel(requests=2400, seconds=690).write(Path(folder) / "store", segments=3)
        large = stores.hotel(seed=3, requests=6000, seconds=690, routes=74).write(Path(folder) / "74")
        _page(small, large, options.folder, everything=options.all)
        _top(small, options.folder)
    return 0


def _page(small: Path, large: Path, folder: Path, *, everything: bool) -> None:
    with browser() as page:
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        made = folder / ".report.html"
        for name, path in (("report", small), ("report-74", large)):
            if name != "report" and not everything:
                continue
            with open_store(path) as store:
                made.write_text(render.html(report(store)), encoding="utf-8")
            looks = [("", 1200, False)]
            if everything:
                looks += [("-dark", 1200, True), ("-narrow", 420, False), ("-wide", 1800, True)]
            for suffix, width, dark in looks:
                page.look(width=width, height=1500, dark=dark)
                page.open(made)
                _keep(page, folder / f"{name}{suffix}.png", width, None if everything else 1500)
        made.unlink()
        with _served(small) as url:
            page.look(width=1200, height=900, dark=True)
            page.visit(url)
            link = "[...document.querySelectorAll('#t-latency a')].find(a => a.textContent.includes('chat'))"
            page.visit(url + page.run(f"{link}.getAttribute('href')"))
            _keep(page, folder / "route.png", 1200, 900)
            page.visit(url + page.run("document.querySelector('a[href^=\"/trace/\"]').getAttribute('href')"))
            _keep(page, folder / "trace.png", 1200, None)
            if everything:
                page.look(width=420, height=900, dark=False)
                page.visit(url + "/")
                page.visit(url + page.run(f"{link}.getAttribute('href')"))
                _keep(page, folder / "route-narrow.png", 420, None)
                page.visit(
                    url + page.run("document.querySelector('a[href^=\"/trace/\"]').getAttribute('href')")
                )
                _keep(page, folder / "trace-narrow.png", 420, None)


def _keep(page: Page, path: Path, width: int, height: int | None) -> None:
    path.write_bytes(page.screenshot(width, height))


@contextlib.contextmanager
def _served(store: Path) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "taximeter_cli", "serve", "--store", str(store), "--port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        from urllib.request import urlopen

        def up() -> bool:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/stamp", timeout=5) as answer:
                return bool(answer.status == 200)
            return False

        wait_for(up, "serve is up", 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _top(store: Path, folder: Path) -> None:
    """Three screens: routes, a route's requests, a trace."""
    if shutil.which("tmux") is None:
        sys.stdout.write("no tmux: top is not drawn\n")
        return
    server = f"taximeter-{free_port()}"

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", server, *words], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def shown(sign: str) -> bool:
        return sign in tmux("capture-pane", "-p")

    command = f"{sys.executable} -m taximeter_cli top --store {store} --since 1h --interval 5s"
    try:
        tmux("-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "30", command)
        for name, keys, sign in (
            ("top", (), "Route, by time"),
            ("top-route", ("Enter",), "its latest requests"),
            ("top-trace", ("Down", "Enter"), "trace "),
        ):
            for key in keys:
                tmux("send-keys", key)
            wait_for(partial(shown, sign), f"{name} is shown", 60)
            time.sleep(0.5)
            (folder / f"{name}.svg").write_text(
                _svg(tmux("capture-pane", "-e", "-p"), name), encoding="utf-8"
            )
        tmux("send-keys", "q")
    finally:
        subprocess.run(["tmux", "-L", server, "kill-server"], capture_output=True, check=False)


def _svg(screen: str, name: str) -> str:
    console = Console(record=True, width=110, file=open("/dev/null", "w"), force_terminal=True)  # noqa: PTH123,SIM115
    for line in screen.rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), overflow="crop", no_wrap=True)
    return _FONT.sub("", console.export_svg(title="taximeter top", unique_id=name)).replace(
        "Fira Code", "ui-monospace, Menlo, Consolas"
    )


if __name__ == "__main__":
    sys.exit(main())
