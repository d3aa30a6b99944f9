"""What `taximeter discover` finds, as data: the contract of ``taximeter discover --format json``.

A *sighting* is one place in the code. What counts as one is said in ``docs/discover.md``, kind by kind, so
that two people who read a file count the same.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

SCHEMA_VERSION = 1

Kind = Literal["route", "database", "embedding", "model", "cache", "parallel", "sequential", "todo"]
Seen = Literal["yes", "never", "unknown"]
Reason = Literal["larger than the limit", "cannot be parsed", "not UTF-8", "cannot be read"]

#: kind -> (singular, plural), in the order of the plan's table.
TITLES: dict[Kind, tuple[str, str]] = {
    "route": ("API route", "API routes"),
    "database": ("database call", "database calls"),
    "embedding": ("embedding call", "embedding calls"),
    "model": ("model call", "model calls"),
    "cache": ("cache line", "cache lines"),
    "parallel": ("parallel await", "parallel awaits"),
    "sequential": ("sequential await", "sequential awaits"),
    "todo": ("performance TODO", "performance TODOs"),
}
KINDS: tuple[Kind, ...] = get_args(Kind)
TRACED: tuple[Kind, ...] = ("route", "database", "embedding", "model")


@dataclass(frozen=True)
class Sighting:
    """One place in the code."""

    kind: Kind
    line: Annotated[int, "of the name that is called, from 1"]
    last_line: Annotated[int, "where the call ends"]
    what: Annotated[str, "as written: GET /rooms/{id}, supabase.from, ..."]
    name: Annotated[str | None, "the table or function asked, the path of a route; null: not in the text"]
    method: Annotated[str | None, "of a route: GET, ...; null: any, or no route"] = None
    seen: Annotated[Seen | None, "whether traces have seen it; null: no store was given"] = None


@dataclass(frozen=True)
class SourceFile:
    """A file in which something was found."""

    path: Annotated[str, "from the folder that was read, with slashes"]
    sightings: tuple[Sighting, ...]
    partly: Annotated[bool, "the parser passed over parts it could not read"] = False

    def counts(self) -> Counter[Kind]:
        """How many of each kind."""
        return Counter(each.kind for each in self.sightings)


@dataclass(frozen=True)
class Unread:
    """A file that was not read."""

    path: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Traced:
    """What a span store holds that the code was held against."""

    store: str
    requests: int
    routes: int
    places: Annotated[int, "lines of code that traces name; 0: the service recorded none"]


@dataclass(frozen=True)
class Counts:
    """Sums over all files, in the order of the plan's table."""

    route: int
    database: int
    embedding: int
    model: int
    cache: int
    parallel: int
    sequential: int
    todo: int


@dataclass(frozen=True)
class Discovery:
    """Everything ``taximeter discover`` says."""

    root: str
    read: Annotated[int, "files read"]
    counts: Counts
    files: Annotated[tuple[SourceFile, ...], "those in which something was found; most sightings first"]
    unread: tuple[Unread, ...]
    tests_left_out: Annotated[int, "files of tests, which were not read; --tests reads them"]
    traced: Traced | None
    notes: tuple[str, ...]
    schema_version: int = field(default=SCHEMA_VERSION)

    def each(self, *kinds: Kind) -> Iterator[tuple[SourceFile, Sighting]]:
        """All sightings of these kinds, file by file."""
        for file in self.files:
            for sighting in file.sightings:
                if sighting.kind in kinds:
                    yield file, sighting

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ``schema_version`` first."""
        data = dataclasses.asdict(self)
        return {"schema_version": data.pop("schema_version"), **data}


def add_up(files: Iterable[SourceFile]) -> Counts:
    """The sums over files."""
    whole: Counter[Kind] = Counter()
    for file in files:
        whole.update(file.counts())
    return Counts(**{kind: whole[kind] for kind in KINDS})
