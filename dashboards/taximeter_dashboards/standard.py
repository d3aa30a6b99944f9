"""The variables and queries that several dashboards share."""

from __future__ import annotations

from taximeter_collector.prometheus import catalogue as c
from taximeter_dashboards import promql as p
from taximeter_dashboards.model import Variable

JOB = Variable("job", "Service", c.REQUESTS.count, c.JOB)
ROUTE = Variable("route", "Route", c.REQUESTS.count, c.ROUTE)
MODEL = Variable("model", "Model", c.COST, c.MODEL)
TENANT = Variable("tenant", "Tenant", c.COST, c.TENANT)
CACHE = Variable("cache", "Cache", c.CACHE_LOOKUPS, c.CACHE)

REQUESTS = p.rate(c.REQUESTS.count)
BUCKETS = p.rate(c.REQUESTS.bucket)
ERRORS = p.rate(c.REQUESTS.count, f'{c.STATUS}=~"5.."')


def legend(label: str) -> str:
    """A legend of one label's value."""
    return f"{{{{{label}}}}}"


def usd_per_hour(*by: str, scope: str = p.ROUTES) -> str:
    """Money for models at the present rate."""
    return f"3600 * {p.total(p.rate(c.COST, scope=scope), *by)}"
