"""The page's text: self-contained, escaped, and the same figures as the report. No browser needed."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from taximeter_analysis import Report, open_store, render, report
from taximeter_analysis.render.charts import LogAxis, nice_top, percent_of
from tests.analysis.conftest import NOW
from tests.analysis.stores import Builder


class Elements(HTMLParser):
    """Every element with its attributes, and whether the tags nest."""

    VOID = ("meta", "link", "br", "wbr", "input", "col", "line", "rect", "circle", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes the wrong element, line {self.getpos()}"


def test_it_refers_to_nothing_outside(hotel_report: Report) -> None:
    text = render.html(hotel_report)
    assert not re.search(r"https?://|//[a-z]+\.|url\(|@import", text)
    elements = Elements(text)
    assert elements.open == []
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, attributes)
    assert len(text) < 200_000


def test_its_policy_allows_its_one_script_and_no_load(hotel_report: Report) -> None:
    text = render.html(hotel_report)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")


def test_ids_are_unique_and_references_resolve(hotel_report: Report) -> None:
    elements = Elements(render.html(hotel_report)).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        for name in ("aria-labelledby", "aria-controls", "data-unfold", "data-filter"):
            assert attributes.get(name) is None or attributes[name] in ids


def test_it_is_the_same_page_for_the_same_report(hotel_report: Report) -> None:
    assert render.html(hotel_report) == render.html(hotel_report)


def test_tables_carry_the_reports_figures(hotel_report: Report) -> None:
    text = render.html(hotel_report).split('id="t-routes"')[1]
    for route in hotel_report.routes:
        row = re.search(rf'<th scope="row" data-v="{re.escape(route.label)}">.*?</tr>', text, re.DOTALL)
        assert row is not None, route.label
        values = re.findall(r'data-v="([^"]*)"', row[0])[1:]
        assert float(values[0]) == route.usage.requests
        assert float(values[3]) == route.latency.p95
        assert float(values[6]) == route.db_calls_per_request
        assert float(values[14]) == route.usage.cost_usd
        assert values[15] == ("" if route.cache_hit_rate is None else str(route.cache_hit_rate))


def test_unknown_is_a_dash_and_zero_is_zero(tmp_path: Path) -> None:
    build = Builder("plain")
    build.request("/unknown", 0, 5, agent=False)
    build.request("/zero", 10, 5)
    with open_store(build.write(tmp_path / "store")) as store:
        text = render.html(report(store, now=NOW))
    rows = {
        label: re.findall(r"<td[^>]*>([^<]*)</td>", row)
        for label, row in re.findall(r'<th scope="row" data-v="GET /(\w+)">(.*?)</tr>', text, re.DOTALL)
    }
    assert rows["unknown"][6:] == ["-"] * 11
    assert rows["zero"][6:] == ["0", "0%", "0", "0", "0", "0", "0", "$0", "$0", "-", "0%"]


@pytest.mark.parametrize("values", [[], [0.0], [1e-6], [0.003], [0.001, 4.4], [5.0, 5.0], [1e-5, 7200.0]])
def test_the_latency_axis_holds_every_value(values: list[float]) -> None:
    axis = LogAxis(values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert axis.ticks == [] or all(0 <= tick.at <= 100 for tick in axis.ticks)
    if values and max(values) > 0:
        assert axis.at(max(values)) < 100  # room for the mark


def test_equal_ratios_are_equal_distances() -> None:
    axis = LogAxis([0.001, 1.0])
    assert axis.at(0.1) - axis.at(0.01) == pytest.approx(axis.at(1.0) - axis.at(0.1), abs=0.01)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (1.01, 2), (72, 100), (0.0383, 0.05), (240, 250)])
def test_nice_top(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_percent_of_stays_on_the_track() -> None:
    assert (percent_of(1, 4), percent_of(None, 4), percent_of(1, 0), percent_of(9, 4), percent_of(-1, 4)) == (
        25,
        0,
        0,
        100,
        0,
    )


def test_strangers_strings_are_escaped(tmp_path: Path) -> None:
    attack = "</script><img src=x onerror=\"alert('1')\">"
    build = Builder(attack)
    row = build.request(attack, 0, 3000, tenant=attack, model_calls=1, cost_usd=1.0, http_method=attack)
    for _ in range(6):
        build.db(row, 1, 2400, f"SELECT {attack}")
    build.model(row, 5, 5, model=attack, cost=1.0, ai_provider=attack)
    with open_store(build.write(tmp_path / "store")) as store:
        text = render.html(report(store, now=NOW))
    assert text.count("&lt;img") >= 8
    assert [tag for tag, _ in Elements(text).found if tag in ("img", "script")] == ["script"]
