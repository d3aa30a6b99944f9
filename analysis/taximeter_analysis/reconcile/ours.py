"""What Taximeter saw, by provider, hour and model: from the spans of the calls, in a request or not.

By the hour, so that another time zone's days can be tried. A call counts in the hour in which it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from taximeter_analysis.reconcile.model import Figures, Side
from taximeter_analysis.selection import CHOSEN
from taximeter_analysis.store import Store
from taximeter_analysis.window import Filters
from taximeter_collector.store import sums

Hour = tuple[str, int, str]  # provider, hours since 1970 (UTC), model


@dataclass(frozen=True)
class Seen:
    """Taximeter's side. ``first`` and ``last``: what the store covers, Unix seconds."""

    hours: Mapping[Hour, Side]
    first: float | None
    last: float | None

    def days(self, offset_h: float = 0.0) -> dict[tuple[str, date, str], Side]:
        """By day, cut ``offset_h`` hours east of UTC."""
        found: dict[tuple[str, date, str], Side] = defaultdict(Side)
        for (provider, hour, model), side in self.hours.items():
            day = (datetime.fromtimestamp(hour * 3600, UTC) + timedelta(hours=offset_h)).date()
            found[provider, day, model].add(side)
        return dict(found)


def seen(store: Store, filters: Filters) -> Seen:
    """Every model and embedding call of the store. The filters' service holds; the exports set the window."""
    store.set(service=filters.service, tenant=filters.tenant, version=filters.version)
    rows = store.rows(
        f"""
        SELECT coalesce(ai_provider, ''), start_ns // 3600000000000, model, count(*) FILTER (NOT failed),
            sum(input_tokens), sum(cached_tokens), sum(output_tokens), fsum(cost_usd),
            coalesce(sum(written), 0), count(*) FILTER (cost_usd IS NULL AND NOT failed)
        FROM (
            SELECT {sums.CALL}, {sums.FAMILY} AS family, coalesce(ai_cache_write_tokens, 0) AS written
            FROM spans WHERE {CHOSEN}
        ) WHERE family IN ('model', 'embedding', 'priced') GROUP BY 1, 2, 3
        """
    )
    hours = {
        (str(provider), int(hour), str(model or "(no model)")): Side(
            Figures(*(None if value is None else float(value) for value in row)),
            names={str(model or "(no model)")}, cache_written=float(written), unpriced=unpriced,
        )
        for provider, hour, model, *row, written, unpriced in rows
    }  # fmt: skip
    first, last = store.rows("SELECT min(start_ns) / 1e9, max(start_ns + duration_ns) / 1e9 FROM spans")[0]
    return Seen(hours, first, last)
