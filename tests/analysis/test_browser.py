"""The page in a real Chromium: it loads nothing, complains of nothing, clips nothing, and works.

Set TAXIMETER_SCREENSHOTS to a directory to keep the pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter_analysis import Report, open_store, render, report
from tests.analysis.chromium import Page, browser
from tests.analysis.conftest import NOW
from tests.analysis.stores import Builder, hotel

pytestmark = pytest.mark.browser

#: Elements whose text does not fit: cut off by their own box, or reaching out of the window
#: (what scrolls on purpose may, see SCROLLING).
CLIPPED = """
[...document.querySelectorAll('main *, header *, footer *')].filter(e => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (!box.width || !e.textContent.trim() || e.closest('caption, thead.hide, svg')) return false;
  if (e.closest('.fall code.statement')) return false;  // shortened to two lines on purpose
  const cut = style.overflow !== 'visible' && !e.matches('.scroll') &&
    (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1);
  return cut || !e.closest('.scroll') && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.trim().slice(0, 60))
"""

SCROLLING = """
[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)
"""

#: Pairs of neighbouring cells in charts whose text runs over the next cell.
OVERLAPPING = """
[...document.querySelectorAll('tbody tr')].flatMap(row => [...row.cells].slice(1).map((cell, index) => {
  const range = document.createRange();
  range.selectNodeContents(row.cells[index]);
  const left = range.getBoundingClientRect(), box = cell.getBoundingClientRect();
  return left.width && box.width && left.right > box.right + 1 ? row.textContent.trim().slice(0, 80) : null;
}).filter(Boolean))
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


def show(page: Page, found: Report, path: Path, **look: object) -> None:
    page.requests.clear()
    page.complaints.clear()
    path.write_text(render.html(found), encoding="utf-8")
    page.look(**look)  # type: ignore[arg-type]  # its own keywords
    page.open(path)


def keep(page: Page, name: str) -> None:
    picture = page.screenshot()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 100_000  # an empty page is a few kilobytes
    if folder := os.environ.get("TAXIMETER_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture)


def assert_sound(page: Page, path: Path) -> None:
    loaded = [url for url in page.requests if not url.startswith("data:")]
    assert loaded == [path.as_uri()]
    assert page.complaints == []
    assert page.run(CLIPPED) == []
    assert page.run(OVERLAPPING) == []
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    if page.run("innerWidth") >= 1400:
        assert page.run(SCROLLING) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_demo_like_report(page: Page, hotel_report: Report, tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "report.html"
    show(page, hotel_report, path, dark=dark)
    assert_sound(page, path)
    keep(page, f"report-17-{'dark' if dark else 'light'}")
    shade = page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade < 60) == dark
    assert page.run("document.querySelectorAll('svg').length") == 3
    assert page.run("document.querySelectorAll('#t-routes tbody tr').length") == len(hotel_report.routes)


@pytest.mark.parametrize("width", [1400, 900, 390])
def test_74_routes_clip_nothing(page: Page, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    with open_store(hotel(seed=3, requests=4000, seconds=90, routes=74).write(tmp_path / "store")) as store:
        found = report(store, now=NOW)
    assert len(found.routes) >= 74
    show(page, found, path, width=width, dark=width == 900)
    assert_sound(page, path)
    assert page.run("document.querySelectorAll('#t-latency tbody tr:not(.more)').length") == 20
    visible = "[...document.querySelectorAll('#t-latency tbody tr')].filter(r => r.offsetHeight).length"
    assert page.run(visible) == 20
    page.run("document.querySelector('[data-unfold=t-latency]').click()")
    assert page.run(visible) == len(found.routes)
    assert (
        page.run("document.querySelector('[data-unfold=t-latency]').getAttribute('aria-expanded')") == "true"
    )
    for button in ("t-split", "t-queries"):
        page.run(f"document.querySelector('[data-unfold={button}]').click()")
    assert_sound(page, path)
    keep(page, f"report-74-{width}")


def test_tables_sort_by_number_and_keep_unknowns_last(
    page: Page, hotel_report: Report, tmp_path: Path
) -> None:
    show(page, hotel_report, tmp_path / "report.html")
    first = "document.querySelector('#t-routes tbody th').dataset.v"

    def press(heading: str) -> str:
        heads = "[...document.querySelectorAll('#t-routes thead th')]"
        found = f"{heads}.find(h => h.textContent.trim() === '{heading}')"
        page.run(f"{found}.querySelector('button').click()")
        return str(page.run(f"{found}.getAttribute('aria-sort')"))

    assert press("P99") == "descending"
    slowest = max(hotel_report.routes, key=lambda route: route.latency.p99 or 0)
    assert page.run(first) == slowest.label
    assert press("P99") == "ascending"
    assert page.run(first) == min(hotel_report.routes, key=lambda route: route.latency.p99 or 0).label
    assert press("Cache hits") == "descending"
    hits = page.run("[...document.querySelectorAll('#t-routes tbody tr')].map(r => r.cells[16].textContent)")
    known = [text for text in hits if text != "-"]
    assert known and hits[: len(known)] == known
    assert press("Route") == "ascending"
    assert page.run(first) == min(route.label for route in hotel_report.routes)


def test_routes_can_be_filtered(page: Page, hotel_report: Report, tmp_path: Path) -> None:
    show(page, hotel_report, tmp_path / "report.html")
    box = "document.querySelector('[data-filter]')"
    page.run(f"{box}.value = 'CHAT', {box}.dispatchEvent(new Event('input'))")
    rows = "[...document.querySelectorAll('#t-routes tbody tr')].filter(r => r.offsetHeight)"
    left = page.run(f"{rows}.map(r => r.cells[0].dataset.v)")
    assert sorted(left) == ["POST /hotels/{hotel}/chat", "POST /hotels/{hotel}/chat/stream"]


def test_every_table_and_chart_has_a_name(page: Page, hotel_report: Report, tmp_path: Path) -> None:
    show(page, hotel_report, tmp_path / "report.html")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]

    def names(*roles: str) -> list[str]:
        return [
            node.get("name", {}).get("value", "")
            for node in nodes
            if not node.get("ignored") and node["role"]["value"] in roles
        ]

    tables = names("table")
    assert len(tables) >= 10 and all(tables)
    assert len(set(tables)) == len(tables)
    assert [name.split(":")[0] for name in names("image", "img")] == [
        "Requests per 2 s",
        "Latency",
        "AI cost per 2 s",
    ]
    assert all(names("button", "searchbox"))
    assert page.run("[...document.querySelectorAll('.scroll')].every(e => e.ariaLabel && e.tabIndex === 0)")
    assert names("heading")[0] == "hotel-chat"
    page.run("document.querySelector('.skip').focus()")
    assert page.run("document.querySelector('.skip').getBoundingClientRect().left >= 0")


def test_print_shows_folded_rows(page: Page, tmp_path: Path) -> None:
    with open_store(hotel(seed=3, requests=1500, routes=74).write(tmp_path / "store")) as store:
        found = report(store, now=NOW)
    show(page, found, tmp_path / "report.html", media="print")
    visible = "[...document.querySelectorAll('#t-latency tbody tr')].filter(r => r.offsetHeight).length"
    assert page.run(visible) == len(found.routes)


def test_hostile_names_run_nothing(page: Page, tmp_path: Path) -> None:
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    build = Builder(f"</title>{attack}")
    for number in range(3):
        row = build.request(
            f"/\"'>{attack}", number * 1000, 3000, tenant=f"</script>{attack}", model_calls=1, cost_usd=1.0,
            http_method="GET' onmouseover='document.title=1",
        )  # fmt: skip
        for _ in range(6):
            build.db(row, 1, 2400, f"SELECT '</code></script>{attack}' {{{{ 7 * 7 }}}}")
        build.model(row, 5, 5, model=f'gpt"{attack}', cost=1.0)
    path = tmp_path / "report.html"
    with open_store(build.write(tmp_path / "store")) as store:
        found = report(store, now=NOW)
    show(page, found, path)
    assert_sound(page, path)
    assert "owned" in page.run("document.title")  # shown as text
    assert page.run("document.title") != "owned"
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelectorAll('script').length") == 1
    assert page.run("document.querySelectorAll('[onerror], [onmouseover]').length") == 0
    assert page.run("document.body.textContent.includes('{{ 7 * 7 }}')")


def test_a_report_of_almost_nothing(page: Page, tmp_path: Path) -> None:
    build = Builder(None)
    build.request(None, 0, 5, agent=False, http_method=None, http_status=None)
    path = tmp_path / "report.html"
    with open_store(build.write(tmp_path / "store")) as store:
        found = report(store, now=NOW)
    show(page, found, path)
    assert_sound(page, path)
    text = page.run("document.body.innerText")
    assert "(no route)" in text
    assert "None" not in text.replace("None: no", "")
    assert "nan" not in text.lower()
