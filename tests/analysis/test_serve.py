"""``taximeter serve``: one person's browser on this machine and nobody else; links, keys, what is new."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from taximeter_analysis.serve.command import is_loopback
from tests.analysis.chromium import browser
from tests.analysis.stores import Builder, hotel
from tests.analysis.test_browser import CLIPPED


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    path = hotel(requests=400, routes=74).write(tmp_path_factory.mktemp("served") / "store")
    process = subprocess.Popen(
        [sys.executable, "-m", "taximeter_cli", "serve", "--store", str(path), "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0].rstrip("/"), path
    finally:
        process.terminate()
        process.communicate(timeout=30)


def get(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True), ("localhost:8890", True), ("127.0.0.1:1", True), ("[::1]:8890", True),
        ("evil.example", False), ("localhost.evil.example", False), ("", False), ("10.0.0.1", False),
        ("localhost@evil.example", False), ("localhost/evil", False),
    ],
)  # fmt: skip
def test_whose_host_it_is(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


def test_only_for_this_machine(served: tuple[str, Path]) -> None:
    address, _ = served
    assert get(address, "/", Host="evil.example")[0] == 421
    assert get(address, "/", method="POST")[0] == 501
    status, headers, text = get(address, "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert get(address, "/", method="HEAD")[2] == ""


@pytest.mark.parametrize(
    "path", ["/nowhere", "/trace/xyz", f"/trace/{0:032x}", "/route?route=<script>", "/../etc"]
)
def test_what_is_not_there(served: tuple[str, Path], path: str) -> None:
    status, _, text = get(served[0], path)
    assert status == 404
    assert "<script>alert" not in text


@pytest.mark.browser
def test_from_the_report_to_a_route_to_a_trace_by_keyboard(served: tuple[str, Path]) -> None:
    address, path = served
    with browser() as page:
        for dark in (False, True):
            page.look(dark=dark)
            page.visit(address + "/")
            assert page.run(CLIPPED) == []
            keep(page.screenshot(), f"serve-report-{'dark' if dark else 'light'}")
        page.run("document.querySelector('#t-latency tbody a').focus()")
        page.press("Enter", 13)
        page.wait()
        assert page.run("location.pathname") == "/route"
        assert page.run("document.querySelectorAll('h1').length") == 1
        assert page.run("document.querySelectorAll('#main table tbody tr').length") >= 1
        assert page.run(CLIPPED) == []
        keep(page.screenshot(), "serve-route")
        page.run("document.querySelector('#main tbody a').focus()")
        page.press("Enter", 13)
        page.wait()
        assert page.run("/^.trace.[0-9a-f]{32}$/.test(location.pathname)")
        assert page.run("document.querySelectorAll('.fall tbody tr').length") > 1
        assert page.run("[...document.querySelectorAll('.fall .gantt i')].every(i => i.className)")
        assert page.run(CLIPPED) == []
        keep(page.screenshot(), "serve-trace")
        page.visit(address + "/")
        assert (
            page.run("document.querySelector('label > #live').closest('label').textContent.trim().length") > 5
        )
        build = Builder("hotel-chat")
        build.request("/brand-new", 0, 5)
        for table in ("spans", "requests"):
            build.write(path.parent / "more")
            os.replace(path.parent / "more" / table / "000000.parquet", path / table / "new.parquet")  # noqa: PTH105
        page.expect()
        page.run("document.getElementById('live').click()")
        page.wait()
        while not page.run("document.body.textContent.includes('/brand-new')"):  # made before the file came
            page.expect()
            page.wait()
        assert [url for url in page.requests if not url.startswith((address, "data:"))] == []
        assert page.complaints == []


def keep(picture: bytes, name: str) -> None:
    """Set TAXIMETER_SCREENSHOTS to a directory to look at it."""
    if folder := os.environ.get("TAXIMETER_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(picture)
