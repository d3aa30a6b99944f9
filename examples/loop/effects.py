"""What fixes do that no finding asks for: each by the one figure that it alone moves.

They are on together in one run, so each is looked at on its own routes: the statements of the statistics, the
time of MotoPress's quotes, the tokens of either half of the guests. There is no prediction to hold against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from examples.loop.judge import without
from examples.loop.measure import Run

_HOTEL = "/hotels/{hotel}"


@dataclass(frozen=True)
class Effect:
    """A figure without and with a fix; ``metric`` says in what."""

    flag: str
    what: str
    metric: str
    before: float
    after: float

    @property
    def change(self) -> float:
        return self.after / self.before - 1 if self.before else 0.0


def _per_request(metric: str, *routes: str) -> Callable[[Run], float]:
    def mean(run: Run) -> float:
        count = sum(run.total("requests", route) for route in routes)
        return sum(run.total(metric, route) for route in routes) / count if count else 0.0

    return mean


def _total(metric: str) -> Callable[[Run], float]:
    return lambda run: run.total(metric)


_CHATS = (f"POST {_HOTEL}/chat", f"POST {_HOTEL}/chat/stream")
#: flag -> (what is looked at, in what, how it is read off a run)
_LOOK: Mapping[str, tuple[str, str, Callable[[Run], float]]] = {
    "fix.stats_query": ("queries a request for statistics", "db_calls",
                        _per_request("db_calls", f"GET {_HOTEL}/admin/stats")),
    "fix.batch_writes": ("queries a chat", "db_calls", _per_request("db_calls", *_CHATS)),
    "fix.occupancy_view": ("time of the occupancy report", "duration_s",
                           _per_request("duration_s", f"GET {_HOTEL}/admin/occupancy")),
    "fix.quote_cache": ("time of a quote", "duration_s",
                        _per_request("duration_s", f"GET {_HOTEL}/motopress/quote")),
    "fix.cache_warmup": ("embedding calls, with the FAQ's vectors", "embedding_calls",
                         _total("embedding_calls")),
    "fix.match_functions": ("time of a search in the FAQ in the database", "duration_s",
                            lambda run: _database(run, f"GET {_HOTEL}/faq/search")),
    "fix.pagination": ("time of a conversation's history", "duration_s",
                       _per_request("duration_s", f"GET {_HOTEL}/conversations/{{conversation}}")),
}  # fmt: skip


def effects(baselines: Sequence[Run], others: Run) -> list[Effect]:
    """Of the fixes that ``others`` had on."""
    found = [
        Effect(flag, what, metric, without(baselines, others, value), value(others))
        for flag, (what, metric, value) in _LOOK.items()
        if flag in others.flags
    ]
    long, short = (others.segments.get(f"prompt-{arm}") for arm in ("long", "short"))
    if long and short:
        for what, metric in (("input tokens a chat", "input_tokens"), ("money a chat", "cost_usd")):
            each = (arm[metric] / arm["requests"] for arm in (long, short))
            found.append(Effect("fix.prompt_trial", f"{what}, the one half against the other", metric, *each))
    return found


def _database(run: Run, route: str) -> float:
    times = [each.db_s for each in run.times.values() if each.label == route]
    return sum(times) / len(times) if times else 0.0
