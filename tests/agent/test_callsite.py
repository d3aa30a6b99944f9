"""The line that asked: what is remembered of a way there is what a walk along it would find."""

from __future__ import annotations

import random
import sys
import sysconfig
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from taximeter import callsite

_CODE = "def {name}(rest, leaf):\n    return rest[0](rest[1:], leaf) if rest else leaf()\n"
_LIBRARY = sysconfig.get_paths()["purelib"] + "/somebody/code.py"


def made(name: str, file: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(compile(_CODE.format(name=name), file, "exec"), space)
    function: Callable[..., Any] = space[name]
    return function


OWN = [made(f"own_{letter}", "/somewhere/service/code.py") for letter in "abc"]
LIBRARY = [made(f"library_{letter}", _LIBRARY) for letter in "xy"]


def walked(count: int) -> list[tuple[str, int]]:
    """Function and line, by looking at each frame."""
    found: list[tuple[str, int]] = []
    frame: FrameType | None = sys._getframe(1)
    left = callsite.MAX_FRAMES
    while frame is not None and left and len(found) < count:
        left -= 1
        if callsite.own(frame.f_code) is not None:
            found.append((frame.f_code.co_qualname, frame.f_lineno))
            left = min(left, callsite.MAX_BEYOND)
        frame = frame.f_back
    return found


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_remembered_is_what_is_there(count: int) -> None:
    space: dict[str, Any] = {"find": callsite.find, "walked": walked, "n": count}
    exec(compile("def leaf(): return find(n), walked(n)", _LIBRARY, "exec"), space)
    draw = random.Random(count)
    for _ in range(3_000):
        way = [draw.choice(OWN + LIBRARY) for _ in range(draw.randint(1, 5))]
        site, wanted = way[0](way[1:], space["leaf"])
        assert [(place.function, place.line) for place in site.places] == wanted, way


def test_one_way_is_one_object() -> None:
    one, other = (OWN[0]([], lambda: callsite.find(2)) for _ in range(2))
    assert one is other
    assert one.attributes["code.function.name"].endswith("<lambda>")
