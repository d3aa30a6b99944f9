"""The matchers of a budget's entries, held against the budget's own answer for each service and route."""

from __future__ import annotations

import re
from itertools import product

import pytest

from taximeter_analysis.budget.loader import parse_budget
from taximeter_analysis.budget.selectors import disjoint, path_of
from taximeter_collector.prometheus import catalogue as c

SERVICES = ("chat", "shop", "chat.eu", "chatXeu")
ROUTES = ("/rooms", "/rooms/{room}", "/chat", '/odd"one', "/a.b", "/aXb")


def selects(matchers: tuple[str, ...], labels: dict[str, str]) -> bool:
    """What Prometheus would say: matchers are anchored; strings are unquoted first."""
    for matcher in matchers:
        label, operator, quoted = re.fullmatch(r'(\w+)(=~|!~|!=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        text = re.sub(r"\\(.)", r"\1", quoted)
        equal = labels[label] == text if operator == "!=" else bool(re.fullmatch(text, labels[label]))
        if equal == operator.startswith("!"):
            return False
    return True


@pytest.mark.parametrize(
    "routes",
    [
        [],
        [(None, "/rooms*", 1), (None, "*", 2), (None, "/chat", 3)],
        [("chat", "/rooms*", 1), (None, "/rooms/{room}", 2)],
        [("chat", "/rooms*", 1), ("shop", "/rooms*", 2), (None, "/chat", 3), ("chat", "/chat", 4)],
        [("chat", "*", 1), (None, "/rooms", 2), ("chat", "/rooms", 3)],
        [("chat.eu", '/odd"one', 1), (None, "/a.b", 2), (None, "/?hat", 3)],
    ],
)
def test_each_series_is_selected_once_and_by_the_entry_that_holds(
    routes: list[tuple[str | None, str, int]],
) -> None:
    text = "version: 1\ndefaults: {db_calls: 99}\nroutes:\n"
    for service, pattern, limit in routes:
        text += f"- {{match: '{pattern}', db_calls: {limit}" + (
            f", service: {service}}}\n" if service else "}\n"
        )
    budget = parse_budget(text)
    found = disjoint(c.ROUTE, [*((*each[:1], path_of(each[1]), each[2]) for each in routes), (None, "*", 99)])
    for service, route in product(SERVICES, ROUTES):
        holds = budget.limit_for(service, "GET", route, "db_calls")
        for job in (service, f"hotels/{service}"):
            chosen = [limit for matchers, limit in found if selects(matchers, {c.JOB: job, c.ROUTE: route})]
            assert chosen == [holds.max if holds else None], (job, route)


def test_a_method_is_no_part_of_a_path() -> None:
    assert [path_of(text) for text in ("GET /rooms", "/rooms", "*")] == ["/rooms", "/rooms", "*"]
