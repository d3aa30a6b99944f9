"""Which line of the service's own code asked for a call: file, line and function.

Walks the frames outward, past the standard library, installed packages and this one, and takes
the first ones that are the service's. Paths are given relative to the folder that imports
start from: where a service is installed says nothing, and may name a person.

Python makes an object of every frame that is looked at, some twenty a call, so what was found is
remembered by its innermost line, with marks by which the same way there is known again: every frame up to
the outermost line found; where fewer lines than asked for were found, the next few and the last one.

Code that runs in a thread or greenlet of a library (SQLAlchemy's asyncio) has no such frame; then
nothing is recorded.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

from taximeter import semconv

MAX_FRAMES: Final = 60  # frames looked at
MAX_BEYOND: Final = 20  # of them, beyond a line that was found: below a handler lies the whole server
_NEAR: Final = 6  # of them, by which a way is known again
_MAX_KNOWN: Final = 20_000


_frame: Final = sys._getframe
#: How far out a frame lies, its code, and the instruction it is at where that matters.
Mark = tuple[int, CodeType, int | None]
_OUTERMOST: Final = -1  # in place of the instruction: nothing lies further out


class Place(NamedTuple):
    """One line of the service."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}"


def _foreign() -> tuple[str, ...]:
    paths = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    paths -= {sysconfig.get_paths()["data"], sysconfig.get_paths()["scripts"]}
    paths.add(str(Path(__file__).parent))
    paths.add(str(Path(os.__file__).parent))
    return tuple(sorted(str(Path(path)) + os.sep for path in paths if path))


_FOREIGN: Final = _foreign()
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# By identity: a code object's hash is worked out anew each time, over all its constants. What is
# kept holds the object, so that its identity is not given to another.
_known: dict[int, tuple[CodeType, str | None]] = {}  # -> its path as recorded, if the service's
_sites: dict[tuple[int, int, int], list[tuple[tuple[Mark, ...], Site, CodeType]]] = {}  # by line and count
_MAX_WAYS: Final = 16  # to one line, that are remembered


class Site:
    """Where a call was asked for; the same object each time."""

    __slots__ = ("attributes", "places")

    def __init__(self, places: tuple[Place, ...]) -> None:
        self.places = places  # innermost first
        self.attributes: dict[str, str | int] = {}  # what spans say of it; never changed
        if places:
            first, *callers = places
            self.attributes[semconv.CODE_FILE_PATH] = first.path
            self.attributes[semconv.CODE_LINE_NUMBER] = first.line
            self.attributes[semconv.CODE_FUNCTION_NAME] = first.function
            if callers:
                self.attributes[semconv.CODE_CALLERS] = " < ".join(map(str, callers))


NOWHERE: Final = Site(())


def find(count: int, above: int = 1) -> Site:
    """The innermost ``count`` lines of the service's code on the stack, from ``above`` frames up."""
    frame: FrameType | None = _frame(above)
    for at in range(above, above + MAX_FRAMES):
        if frame is None:
            break
        code = frame.f_code
        path = _known[id(code)][1] if id(code) in _known else own(code)
        if path is None:
            frame = frame.f_back
            continue
        # By instruction: Python looks a line's number up by walking a table, which costs 1 us.
        key = id(code), frame.f_lasti, count
        ways = _sites.get(key)
        if ways is None:
            ways = []
            if len(_sites) < _MAX_KNOWN:
                _sites[key] = ways
        for marks, found, _ in ways:
            try:
                for distance, seen, instruction in marks:
                    other = _frame(at + distance)
                    if other.f_code is not seen:
                        break
                    if (
                        instruction is not None
                        and instruction != other.f_lasti
                        and (instruction != _OUTERMOST or other.f_back is not None)
                    ):
                        break
                else:
                    return found
            except ValueError:  # the stack has fewer
                continue
        marks, found = _walk(frame, count, above + MAX_FRAMES - at)
        if len(ways) < _MAX_WAYS:
            ways.append((marks, found, code))
        return found
    return NOWHERE


def _walk(start: FrameType, count: int, left: int) -> tuple[tuple[Mark, ...], Site]:
    """What is found from the service's innermost frame on, and the marks of the way."""
    left = min(left, MAX_BEYOND + 1)
    found: list[Place] = []
    marks: list[Mark] = []
    frame: FrameType | None = start
    distance = outermost = 0
    while frame is not None and distance < left and len(found) < count:
        code = frame.f_code
        path = own(code)
        if path is not None:
            found.append(Place(path, frame.f_lineno or 0, code.co_qualname))
            outermost = distance
        if distance:  # the first is known
            marks.append((distance, code, None if path is None else frame.f_lasti))
        frame, distance = frame.f_back, distance + 1
    if len(found) < count:
        del marks[outermost + _NEAR : -1]
        if frame is None and marks:
            marks[-1] = (*marks[-1][:2], _OUTERMOST)
    return tuple(marks), Site(tuple(found))


def own(code: CodeType) -> str | None:
    """The path of a code object, as recorded, if it is the service's own."""
    known = _known.get(id(code))
    if known is not None:
        return known[1]
    path = _path(code.co_filename)
    if len(_known) < _MAX_KNOWN:
        _known[id(code)] = code, path
    return path


def _path(file: str) -> str | None:
    """The path as recorded, if the file is the service's own."""
    if file.startswith(("<", *_FOREIGN)) or any(part in file for part in _INSTALLED):
        return None
    roots = [
        root
        for root in (*sys.path, str(Path.cwd()))
        if root and file.startswith(root.rstrip(os.sep) + os.sep)
    ]
    if roots:
        # The shortest: a package's own folder on the path would cut off the package's name.
        return file[len(min(roots, key=len).rstrip(os.sep)) + 1 :][-256:]
    return Path(file).name[-256:]
