"""Which files of a folder are read: source code of the service's own, of bounded size, inside the folder.

Symbolic links are not followed, so that nothing outside the folder is read. What ``.gitignore`` names is left
out, as are dependencies, build output, declarations without code, and (unless asked for) tests.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

PYTHON = (".py",)
SCRIPT = (".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")
MAX_BYTES = 1_000_000
MAX_FILES = 100_000
_MAX_IGNORE_BYTES = 100_000

_SKIPPED = {
    *(
        "node_modules",
        "bower_components",
        "vendor",
        "dist",
        "build",
        "out",
        "coverage",
        "target",
        "storybook-static",
    ),
    *("__pycache__", "venv", "env", "site-packages", "virtualenv"),
}
_GENERATED = re.compile(r"(\.d\.[cm]?ts|\.min\.[cm]?js|[-.]bundle\.js|_pb2(_grpc)?\.py)$")
TESTS = re.compile(
    r"(^|/)(tests?|__tests__|__mocks__|e2e|evals?|fixtures|cypress|playwright[\w-]*)/|(^|/)(test_[^/]*|conftest)\.py$|"
    r"_test\.py$|\.(test|spec|stories)\.[cm]?[jt]sx?$"
)


class TooMany(ValueError):
    """More files than are read at once."""


@dataclass
class Found:
    """The files to read, by path from the folder."""

    files: list[str] = field(default_factory=list)
    tests: int = 0  # left out


def walk(root: Path, *, tests: bool = False, limit: int = MAX_FILES) -> Found:
    """The files below a folder, sorted.

    Raises:
        TooMany: more than ``limit``.
    """
    found = Found()
    _enter(root, "", [], found, tests=tests, limit=limit)
    found.files.sort()
    return found


def _enter(
    place: Path,
    inside: str,
    ignored: list[tuple[str, GitIgnoreSpec]],
    found: Found,
    *,
    tests: bool,
    limit: int,
) -> None:
    ignored = [*ignored, *((inside, spec) for spec in _ignore(place))]
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return  # a folder that may not be read holds nothing that we may read
    for entry in entries:
        path = inside + entry.name
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name in _SKIPPED or entry.name.startswith(".") or _matches(f"{path}/", ignored):
                continue
            _enter(Path(entry.path), f"{path}/", ignored, found, tests=tests, limit=limit)
        elif entry.name.endswith(PYTHON + SCRIPT) and entry.is_file(follow_symlinks=False):
            if _GENERATED.search(entry.name) or _matches(path, ignored):
                continue
            if not tests and TESTS.search(path):
                found.tests += 1
                continue
            found.files.append(path)
            if len(found.files) > limit:
                raise TooMany(f"{place}: more than {limit:,} source files; name a folder further inside")


def _ignore(place: Path) -> list[GitIgnoreSpec]:
    file = place / ".gitignore"
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _MAX_IGNORE_BYTES:
            return []
        return [GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines())]
    except (OSError, ValueError):
        return []  # a .gitignore that git would not understand either


def _matches(path: str, ignored: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """Whether git would ignore it: the innermost file that has a say decides."""
    for inside, spec in reversed(ignored):
        said = spec.check_file(path.removeprefix(inside)).include
        if said is not None:
            return said
    return False
