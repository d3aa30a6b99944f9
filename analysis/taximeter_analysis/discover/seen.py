"""Holds the code against a span store: which routes, and which calls, have traces never seen?

A route is compared by its path, with the parameters' names left out; a router's prefix that another file
gives is not known here, so a traced path may have more in front. A call is seen when a trace names its line
(the agent records the lines that made a call), or the table or function that the call names. Where neither
can be said, it is *unknown*, which is not *never*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from taximeter_analysis.discover.model import TRACED, Discovery, Seen, Sighting, SourceFile, Traced
from taximeter_analysis.discover.walk import PYTHON
from taximeter_analysis.store import Store

_CALLER = re.compile(r"(\S+):(\d+)")
_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|:\w+|\[[^\]]*\]")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class Evidence:
    """What traces name. ``routes``: (method, path with ``{}``); ``lines``: file name -> (path, line)."""

    routes: frozenset[tuple[str | None, str]]
    lines: dict[str, frozenset[tuple[str, int]]]
    words: frozenset[str]  # of statements and their summaries

    @classmethod
    def of(cls, store: Store) -> Evidence:
        """Everything in a store."""
        routes = {
            (method, _path(route))
            for method, route in store.rows("SELECT DISTINCT http_method, http_route FROM requests")
            if route
        }
        lines: dict[str, set[tuple[str, int]]] = {}

        def add(path: str, line: int) -> None:
            lines.setdefault(path.rpartition("/")[2], set()).add((path, line))

        places = "SELECT DISTINCT code_path, code_line, code_callers FROM spans WHERE code_path IS NOT NULL"
        for path, line, callers in store.rows(places):
            if line is not None:
                add(path.replace("\\", "/"), line)
            for caller in _CALLER.finditer(callers or ""):
                add(caller[1].replace("\\", "/"), int(caller[2]))
        words: set[str] = set()
        told = """
            SELECT DISTINCT coalesce(db_summary, ''), coalesce(db_statement, '') FROM spans
            WHERE db_system IS NOT NULL
        """
        for summary, statement in store.rows(told):
            words.update(_WORD.findall(f"{summary} {statement}".lower()))
        return cls(
            frozenset(routes), {name: frozenset(each) for name, each in lines.items()}, frozenset(words)
        )

    def records(self, path: str) -> bool:
        """Whether services in this language say which line made a call."""
        return any(name.endswith(PYTHON) == path.endswith(PYTHON) for name in self.lines)


def compare(found: Discovery, store: Store) -> Discovery:
    """The same discovery, each route and call with what traces say of it."""
    evidence = Evidence.of(store)
    files = tuple(
        SourceFile(file.path, tuple(_with(each, file.path, evidence) for each in file.sightings), file.partly)
        for file in found.files
    )
    requests = int(store.rows("SELECT count(*) FROM requests")[0][0])
    places = sum(len(each) for each in evidence.lines.values())
    notes = list(found.notes)
    if not places:
        notes.append(
            "the traces do not say which lines made the calls (TAXIMETER_EVIDENCE_CODE), so calls are "
            "told by the tables they name only"
        )
    traced = Traced(str(store.path), requests, len(evidence.routes), places)
    return replace(found, files=files, traced=traced, notes=tuple(notes))


def _with(sighting: Sighting, path: str, evidence: Evidence) -> Sighting:
    if sighting.kind not in TRACED:
        return sighting
    seen = _route(sighting, evidence) if sighting.kind == "route" else _call(sighting, path, evidence)
    return replace(sighting, seen=seen)


def _route(sighting: Sighting, evidence: Evidence) -> Seen:
    if sighting.name is None or not sighting.name.startswith("/"):
        return "unknown"  # a tRPC procedure: its path is made up elsewhere
    methods = set(sighting.method.split(",")) if sighting.method else None
    path = _path(sighting.name)
    for method, traced in evidence.routes:
        if methods and method and method not in methods and "WEBSOCKET" not in methods:
            continue
        if traced == path or (path != "/" and traced.endswith(path)):
            return "yes"
    return "never"


def _call(sighting: Sighting, path: str, evidence: Evidence) -> Seen:
    for traced, line in evidence.lines.get(path.rpartition("/")[2], ()):
        if sighting.line <= line <= sighting.last_line or line == sighting.line:
            shorter, longer = sorted((traced, path), key=len)
            if longer == shorter or longer.endswith(f"/{shorter.lstrip('./')}"):
                return "yes"
    if sighting.kind == "database" and sighting.name:
        name = sighting.name.rpartition(".")[2].lower()
        if name in evidence.words or f"{name}s" in evidence.words:
            return "yes"
        return "never" if _WORD.fullmatch(name) and evidence.words else "unknown"
    return "never" if evidence.records(path) else "unknown"


def _path(route: str) -> str:
    """A path with ``{}`` for each parameter and no slash at its end."""
    return _PARAMETER.sub("{}", route).rstrip("/") or "/"
