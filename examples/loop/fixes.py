"""Which flag of the example answers which finding.

The advisor knows nothing of flags: it names kinds, routes and statements. This table is what a developer of
the hotel chat does in their head. A finding that no flag answers is listed as such, not passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from taximeter_analysis.advise import Finding

Answers = Callable[[Finding], bool]

_PAGES = ("GET /hotels", "GET /hotels/{hotel}", "GET /hotels/{hotel}/policies", "GET /hotels/{hotel}/faq",
          "GET /hotels/{hotel}/rooms")  # fmt: skip
_CHAT = "POST /hotels/{hotel}/chat"


def _kind(kind: str, *routes: str) -> Answers:
    return lambda found: found.kind == kind and (not routes or found.route in routes)


FIXES: Mapping[str, Answers] = {
    "fix.batch_reservations": _kind("n_plus_one", "GET /hotels/{hotel}/reservations"),
    "fix.hotel_cache": lambda found: (
        found.kind == "steady_read" and "FROM hotels WHERE" in found.statements[0]
    ),
    "fix.route_cache": _kind("steady_response", *_PAGES),
    "fix.embedding_cache": _kind("embedding_cache"),
    "fix.parallel": _kind("parallel"),
    "fix.indexes": _kind("slow_statement", "GET /hotels/{hotel}/admin/occupancy"),
    "fix.stream_chat": _kind("streaming", _CHAT),
    "fix.prompt_order": _kind("prompt_cache"),
    "fix.short_prompt": _kind("long_prompt"),
    "fix.routing": _kind("cheaper_model"),
    "fix.answer_cache": _kind("answer_cache", _CHAT),
}


def assign(findings: tuple[Finding, ...]) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """(flag -> the findings it answers, findings that no flag answers)."""
    by_flag: dict[str, list[Finding]] = {}
    rest = []
    for finding in findings:
        flag = next((name for name, answers in FIXES.items() if answers(finding)), None)
        if flag is None:
            rest.append(finding)
        else:
            by_flag.setdefault(flag, []).append(finding)
    return by_flag, rest
