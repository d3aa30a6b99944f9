"""A report of a place: `report_from` for all kinds, `opened` for those that hold spans.

What a place cannot tell, or tells within bounds only, stands in the report's notes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taximeter_analysis.model import Report
from taximeter_analysis.readers import files, place, prometheus
from taximeter_analysis.readers.place import Place
from taximeter_analysis.readers.spans import temporary_store
from taximeter_analysis.readers.tempo import Tempo
from taximeter_analysis.report import SLOW_S, TOP, report
from taximeter_analysis.store import NothingToReport, Store, StoreError, open_store
from taximeter_analysis.window import Filters

Progress = Callable[[str], None]


def _silent(text: str) -> None:
    """Nobody is listening."""


def report_from(
    source: str,
    filters: Filters | None = None,
    *,
    slow_s: float = SLOW_S,
    top: int = TOP,
    now: float | None = None,
    progress: Progress = _silent,
) -> Report:
    """The report of what ``source`` names (`place`).

    Raises:
        ValueError: the source cannot be understood, or holds no OTLP.
        NothingToReport: there is nothing in the window or under the filters.
        StoreError: it cannot be read.
    """
    where, filters = place.parse(source), filters or Filters()
    now = time.time() if now is None else now
    if where.kind == "prometheus":
        return prometheus.report(where, filters, slow_s=slow_s, now=now, progress=progress)
    with opened(where, filters, now, progress) as (store, notes):
        try:
            found = report(store, filters, slow_s=slow_s, top=top, now=now)
        except NothingToReport as nothing:
            raise NothingToReport(str(nothing).replace(str(store.path), str(where))) from None
    return dataclasses.replace(found, store=str(where), notes=(*notes, *found.notes))


@contextmanager
def opened(
    where: Place, filters: Filters, now: float, progress: Progress = _silent
) -> Iterator[tuple[Store, list[str]]]:
    """A temporary span store of a place, and what its reader must know. It is gone with the block."""
    notes: list[str]
    if where.kind == "tempo":
        tempo = Tempo(where, filters, now, progress)
        requests, notes = tempo.requests(), tempo.notes
    else:
        passed, notes = files.Passed(), []
        requests = files.all_requests(where.address, passed, progress)
    with temporary_store(requests) as path:
        if where.kind == "file":
            notes += passed.notes()
        with _opened(path, where) as store:
            yield store, notes


@contextmanager
def _opened(path: Path, where: Place) -> Iterator[Store]:
    try:
        store = open_store(path)
    except NothingToReport:
        raise NothingToReport(f"{where}: holds no span; is it the right one, and the right window?") from None
    except StoreError as error:
        raise StoreError(str(error).replace(str(path), str(where))) from None
    with store:
        yield store
