"""Which line of the service's own code asked for a call: file, line and function.

Walks the frames outward, past the standard library, installed packages and this one, and takes
the first ones that are the service's. Whether a code object is the service's is remembered, and
so is its text, so a call costs 1 to 2 us. Paths are given relative to the folder that imports
start from: where a service is installed says nothing, and may name a person.

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

MAX_FRAMES: Final = 60  # frames looked at
MAX_BEYOND: Final = 20  # of them, beyond a line that was found: below a handler lies the whole server
_MAX_KNOWN: Final = 20_000


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
_places: dict[tuple[int, int], tuple[CodeType, Place]] = {}


def places(count: int) -> list[Place]:
    """The innermost ``count`` lines of the service's code on the stack, innermost first."""
    found: list[Place] = []
    frame: FrameType | None = sys._getframe(1)
    left = MAX_FRAMES
    while frame is not None and left:
        left -= 1
        code = frame.f_code
        known = _known.get(id(code))
        path = own(code) if known is None else known[1]
        if path is not None:
            found.append(_place(frame, code, path))
            if len(found) >= count:
                break
            left = min(left, MAX_BEYOND)
        frame = frame.f_back
    return found


def _place(frame: FrameType, code: CodeType, path: str) -> Place:
    # By instruction: Python looks a line's number up by walking a table, which costs 1 us.
    key = (id(code), frame.f_lasti)
    known = _places.get(key)
    if known is not None:
        return known[1]
    place = Place(path, frame.f_lineno or 0, code.co_qualname)
    if len(_places) < _MAX_KNOWN:
        _places[key] = code, place
    return place


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
