"""Which series an entry of a budget speaks of, as Prometheus matchers.

In a budget the first entry that matches holds. Rules and panels stand side by side, so here every
entry's series are told apart: what an earlier entry has taken is taken out, and an entry that names a
service takes from that service alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from taximeter_collector.prometheus import catalogue as c

T = TypeVar("T")
Entry = tuple[str | None, str, T]
"""A service or None for all, a shell pattern of the label's value, and what holds for it."""


def disjoint(label: str, entries: Iterable[Entry[T]]) -> list[tuple[tuple[str, ...], T]]:
    """The matchers of each entry's series, none of which another's select too.

    An entry for all services becomes several where earlier ones name a service: one for each of those,
    one for the rest.
    """
    found = []
    earlier: list[tuple[str | None, str]] = []
    for service, pattern, value in entries:
        wanted = _regex(pattern)
        named = list(dict.fromkeys(name for name, _ in earlier if name is not None))
        for one in [service] if service is not None else [*named, None]:
            taken = [regex for name, regex in earlier if name in {None, one}]
            if ".*" in taken:
                continue
            matchers = [] if one is None else [f'{c.JOB}=~"{_services([one])}"']
            if one is None and named:
                matchers.append(f'{c.JOB}!~"{_services(named)}"')
            matchers.append(f'{label}=~"{wanted}"' if wanted != ".*" else f'{label}!=""')
            if taken:
                matchers.append(f'{label}!~"{"|".join(taken)}"')
            found.append((tuple(matchers), value))
        earlier.append((service, wanted))
    return found


def path_of(pattern: str) -> str:
    """A route's pattern without its method, which the account's metrics do not have."""
    return pattern.split(" ", 1)[-1]


def _services(names: list[str]) -> str:
    """A job is the service's name, with its namespace before it where it has one."""
    return f"(.*/)?({'|'.join(_quoted(re.escape(name)) for name in names)})"


def _regex(pattern: str) -> str:
    """A shell pattern as a regular expression inside a PromQL string."""
    words = {"*": ".*", "?": "."}
    return _quoted("".join(words.get(letter) or re.escape(letter) for letter in pattern))


def _quoted(regex: str) -> str:
    return regex.replace("\\", "\\\\").replace('"', '\\"')
