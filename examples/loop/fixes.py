"""Which flag of the example answers which finding.

The advisor knows nothing of flags: it names kinds, routes and statements. These tables are what a developer
of the hotel chat does in their head. A finding that no flag answers is listed as such, not passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from examples.hotel_chat.flags import FLAGS, SHARED
from taximeter_analysis.advise import Finding

Answers = Callable[[Finding], bool]

_PAGES = ("GET /hotels", "GET /hotels/{hotel}", "GET /hotels/{hotel}/policies", "GET /hotels/{hotel}/faq",
          "GET /hotels/{hotel}/rooms")  # fmt: skip
_CHAT = "POST /hotels/{hotel}/chat"
_STREAM = "POST /hotels/{hotel}/chat/stream"
_TIPS = "POST /hotels/{hotel}/recommendations"


def _kind(kind: str, *routes: str) -> Answers:
    return lambda found: found.kind == kind and (not routes or found.route in routes)


#: Weaknesses that the example always has.
FIXES: Mapping[str, Answers] = {
    "fix.batch_reservations": _kind("n_plus_one", "GET /hotels/{hotel}/reservations"),
    "fix.hotel_cache": lambda found: (
        found.kind == "steady_read" and "FROM hotels WHERE" in found.statements[0]
    ),
    "fix.route_cache": lambda found: (
        found.kind == "steady_read" or (found.kind == "steady_response" and found.route in _PAGES)
    ),
    "fix.embedding_cache": _kind("embedding_cache"),
    "fix.parallel": _kind("parallel"),
    "fix.indexes": _kind("slow_statement", "GET /hotels/{hotel}/admin/occupancy"),
    "fix.stream_chat": _kind("streaming", _CHAT, _TIPS),
    "fix.prompt_order": _kind("prompt_cache"),
    "fix.short_prompt": _kind("long_prompt"),
    "fix.routing": _kind("cheaper_model"),
    "fix.answer_cache": _kind("answer_cache", _CHAT, _STREAM),
}
#: Those that show in some traffic only; looked at after those above.
FURTHER: Mapping[str, Answers] = {
    "fix.similar_answers": _kind("near_duplicates"),
    "fix.pool": _kind("pool_wait"),
}
#: How the shorter prompt is introduced: for half of the guests, which the whole plan has left behind.
TRIAL = "fix.prompt_trial"


def assign(findings: tuple[Finding, ...]) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """(flag -> the findings it answers, findings that no flag answers)."""
    by_flag: dict[str, list[Finding]] = {}
    rest = []
    for finding in findings:
        flag = next((name for name, answers in {**FIXES, **FURTHER}.items() if answers(finding)), None)
        if flag is None:
            rest.append(finding)
        else:
            by_flag.setdefault(flag, []).append(finding)
    return by_flag, rest


def whole_plan(redis: bool) -> tuple[str, ...]:
    """Every fix of the plan, advised or not; those that share something only where there is a Redis."""
    fixes = [name for name in FLAGS if name.startswith("fix.") and name != TRIAL]
    return tuple(name for name in fixes if redis or name not in SHARED)


def unadvised(by_flag: Mapping[str, object], redis: bool) -> tuple[str, ...]:
    """What of the plan no finding asks for and can be on together, each seen by what it alone moves."""
    overlapping = ("fix.similar_answers", "fix.compact_context")
    return (
        *(name for name in whole_plan(redis) if name not in by_flag and name not in overlapping),
        TRIAL,
    )
