"""A page for real, the short version of ``make page``: an N+1 comes into the running service."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from examples.page.faults import FAULTS
from examples.page.run import rehearse
from taximeter_collector.prometheus import catalogue as c
from tests.alerts.promtool import require_tool

ROUTE = "/hotels/{hotel}/rooms"


@pytest.mark.e2e
@pytest.mark.prometheus
def test_an_n_plus_one_pages_with_its_links_and_resolves() -> None:
    require_tool("prometheus", "prometheus")
    require_tool("prometheus-alertmanager", "prometheus-alertmanager")
    fault = FAULTS["n-plus-one"]
    outcomes, before = rehearse([fault], rate=20, warm_up=22, timeout=180, tell=print)
    (outcome,) = outcomes
    assert fault.alert not in before
    assert outcome.page is not None
    assert outcome.resolve_s is not None
    assert outcome.page.labels[c.ROUTE] == ROUTE
    links = outcome.page.annotations
    assert Path(links["runbook_url"]).is_file()
    assert parse_qs(urlsplit(links["dashboard_url"]).query)["var-route"] == [ROUTE]
    (panes,) = parse_qs(urlsplit(links["traces_url"]).query)["panes"]
    search = json.loads(panes)["t"]["queries"][0]["query"]
    assert f'span.http.route = "{ROUTE}" && span.taximeter.request.db.repeated > 4' in search
    # The trace behind the page: its statement, once per room.
    assert outcome.evidence is not None
    assert outcome.evidence.times >= 5
    assert "room_rates" in outcome.evidence.statement
