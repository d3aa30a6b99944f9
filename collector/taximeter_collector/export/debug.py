"""The debug exporter: one log line a batch, counts only; no content ever."""

from __future__ import annotations

import logging

from taximeter_collector.export.base import Exporter, Origin
from taximeter_collector.log import Batch

_logger = logging.getLogger(__name__)


class DebugExporter(Exporter):
    """For seeing that something arrives."""

    async def export(self, origin: Origin, batch: Batch) -> int:
        _logger.info(
            "%s: %d %s in %d requests (seq %d to %d)",
            origin.pipeline,
            batch.items,
            origin.signal.noun.replace("_", " "),
            len(batch.rows),
            batch.first,
            batch.last,
        )
        return 0
