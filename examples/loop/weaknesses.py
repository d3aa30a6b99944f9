"""What can be wrong with a variant of the hotel chat: its flags, and which finding tells of it.

This is the key to the draw, and the advisor never sees it. A weakness may be planted and yet not be there:
where the drawn traffic or another fix leaves it nothing to cost, the advisor need not find it, and is not
wrong if it does. That is decided from the guests' plan and the draw alone, with the reason printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from examples.guests.plan import Planned
from examples.hotel_chat.spelling import normalised
from taximeter_analysis.advise import Finding

_CHATS = ("/chat", "/chat/stream")
_PAGES = ("GET /hotels", "GET /hotels/{hotel}", "GET /hotels/{hotel}/policies", "GET /hotels/{hotel}/faq",
          "GET /hotels/{hotel}/rooms")  # fmt: skip
#: Of the input. Half the rules save nothing where the cached share is as large as the rules' own share of it:
#: cached tokens cost half, and a prompt of half the length is not cached any more.
_CACHED = 0.75
_AGAIN = 5  # questions asked again, fewer of which nobody would remember answers for
#: Tables that guests do not write to.
_STATIC = (" rooms ", " room_rates ", " policies ", " content_chunks ", " faq ")


@dataclass(frozen=True)
class Weakness:
    """``flags`` switch it on where they are faults, off where they are fixes; the first is advised."""

    flags: tuple[str, ...]
    told: Callable[[Finding], bool]

    @property
    def fault(self) -> bool:
        return not self.flags or self.flags[0].startswith("fault.")


def _is(kinds: str, *routes: str) -> Callable[[Finding], bool]:
    return lambda found: found.kind in kinds.split() and (not routes or found.route in routes)


def _reads(*tables: str) -> Callable[[Finding], bool]:
    """A steady read of one of these tables, or a page that consists of such reads."""
    return lambda found: (
        (
            found.kind == "steady_read"
            and any(
                f"{name.strip()} " in f"{statement} ".split("FROM ", 1)[-1]
                for statement in found.statements
                for name in tables
            )
        )
        or (found.kind == "steady_response" and found.route in _PAGES)
    )


WEAKNESSES: Mapping[str, Weakness] = {
    "N+1 of reservations": Weakness(
        ("fix.batch_reservations",), _is("n_plus_one redundant", "GET /hotels/{hotel}/reservations")
    ),
    "hotel read each time": Weakness(("fix.hotel_cache",), _reads("hotels")),
    "pages read each time": Weakness(("fix.route_cache",), _reads(*_STATIC)),
    "small embedding cache": Weakness(("fix.embedding_cache",), _is("embedding_cache")),
    "calls in turn": Weakness(("fix.parallel",), _is("parallel")),
    "no indexes": Weakness(("fix.indexes",), _is("slow_statement", "GET /hotels/{hotel}/admin/occupancy")),
    "whole answers": Weakness(("fix.stream_chat",), _is("streaming")),
    "name before the rules": Weakness(("fix.prompt_order",), _is("prompt_cache")),
    "long rules": Weakness(("fix.short_prompt",), _is("long_prompt")),
    "dear model": Weakness(("fix.routing",), _is("cheaper_model")),
    "answers forgotten": Weakness(
        ("fix.answer_cache", "fix.similar_answers"), _is("answer_cache near_duplicates")
    ),
    "N+1 of rooms": Weakness(
        ("fault.n_plus_one_rooms",), _is("n_plus_one steady_response", "GET /hotels/{hotel}/rooms")
    ),
    "asked twice": Weakness(("fault.ask_twice",), _is("asked_twice")),
    "small pool": Weakness(("fault.small_pool",), _is("pool_wait")),
    "provider refuses": Weakness((), _is("retries")),
}
#: Fixes of what so short a run shows or does not, as chance has it: applied in every variant.
APPLIED = frozenset({"fix.quote_cache", "fix.stats_query", "fix.pool"})


def absent(planted: frozenset[str], plan: list[Planned], cached: float) -> Iterator[tuple[str, str]]:
    """(weakness, why it is not there) of what was planted in vain.

    ``cached``: the share of the models' input that the provider read from its cache, by its ledger.
    """
    if "name before the rules" in planted and "long rules" not in planted:
        yield "name before the rules", "a prompt with the short rules is below what providers cache"
    if cached > _CACHED:
        why = f"the provider read {cached:.0%} of the input from its cache already, at half the price or less"
        yield from ((name, why) for name in ("name before the rules", "long rules") if name in planted)
    if {"calls in turn", "small pool"} <= planted:
        yield "calls in turn", "with one connection for all, nothing can run at once"
    chats, again = _openings(plan)
    if "answers forgotten" in planted and (again < _AGAIN or again < 0.05 * chats):
        yield (
            "answers forgotten",
            f"{again} of {chats} questions to a route begin a conversation as another did",
        )


def _openings(plan: list[Planned]) -> tuple[int, int]:
    """Questions to the chat route with most of it, and those that begin a conversation as an earlier one."""
    conversations: set[str] = set()
    asked: set[tuple[str, str, str]] = set()
    chats: Counter[str] = Counter()
    again: Counter[str] = Counter()
    for each in plan:
        request = each.request
        body = request.body or {}
        if not request.route.endswith(_CHATS) or not body.get("message"):
            continue
        chats[request.route] += 1
        first = body["conversation"] not in conversations
        conversations.add(body["conversation"])
        if first:
            key = (request.route, request.hotel, normalised(body["message"]))
            again[request.route] += key in asked
            asked.add(key)
    most = max(chats, key=lambda route: again[route], default="")
    return chats[most], again[most]
