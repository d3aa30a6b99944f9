"""Drives a real Chromium over its debugging pipe: no driver, no port, no package needed.

The browser gets a profile of its own in a temporary folder and dies with its ``with`` block.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip


def require_chromium() -> str:
    """Chromium's path; skips the test without one, fails it where TAXIMETER_REQUIRE_BROWSER is 1."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium on PATH (Debian: apt-get install chromium); the page was not looked at"
        if os.environ.get("TAXIMETER_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass
class Page:
    """One tab, and everything it asked for and complained about."""

    _to: int
    _from: int
    session: str = ""
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _buffer: bytes = b""
    _number: int = 0
    _loaded: bool = False

    def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer; events that come meanwhile are kept."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._event(answer)

    def open(self, path: Path) -> None:
        """Load a file and wait until it is loaded."""
        self.visit(path.as_uri())

    def visit(self, url: str) -> None:
        """Load an address and wait until it is loaded."""
        self.expect()
        self.call("Page.navigate", url=url)
        self.wait()

    def wait(self) -> None:
        """Until the page that is being loaded is."""
        while not self._loaded:
            self._event(self._read())

    def expect(self) -> None:
        """Something is about to load a page: `wait` is for that one."""
        self._loaded = False

    def press(self, key: str, code: int) -> None:
        """One key, as from a keyboard. What it loads is waited for with `wait`."""
        self.expect()
        text = {"text": chr(13)} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def look(
        self, *, dark: bool = False, width: int = 1400, height: int = 1000, media: str = "screen"
    ) -> None:
        """Set the window's size and the reader's preference."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, width: int = 0, height: int | None = None) -> bytes:
        """The page as PNG: whole, or its first ``height`` pixels at ``width``."""
        box = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        clip = {} if height is None else {"clip": box}
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, **clip)
        return base64.b64decode(answer["data"])

    def _read(self, seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"Chromium said nothing for {seconds} s"
            part = os.read(self._from, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _event(self, event: dict[str, Any]) -> None:
        name, what = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif name == "Page.loadEventFired":
            self._loaded = True
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(str(what["exceptionDetails"].get("exception", what["exceptionDetails"])))
        elif name == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{what['type']}: {what['args']}")
        elif name == "Log.entryAdded":
            self.complaints.append(f"{what['entry']['level']}: {what['entry']['text']}")


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A fresh Chromium with one empty tab."""
    program = require_chromium()
    to_read, to_write = (_high(fd) for fd in os.pipe())
    from_read, from_write = (_high(fd) for fd in os.pipe())

    def as_three_and_four() -> None:  # where --remote-debugging-pipe looks for them
        os.dup2(to_read, 3)
        os.dup2(from_write, 4)

    profile = tempfile.mkdtemp(prefix="taximeter-chromium-")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": profile},  # what it forgets there goes with the profile
        close_fds=False,  # 3 and 4 must stay open; Python's own are not inheritable
        preexec_fn=as_three_and_four,  # noqa: PLW1509  (two dup2 calls, nothing that could hold a lock)
        start_new_session=True,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        page = Page(to_write, from_read)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_write)
        os.close(from_read)
        shutil.rmtree(profile, ignore_errors=True)


def _high(fd: int) -> int:
    # Out of the way of 3 and 4, which the child needs.
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(fd)
    return moved
