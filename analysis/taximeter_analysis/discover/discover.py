"""Reads a code base file by file. Nothing of it is imported, run or sent anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taximeter_analysis.discover import python, typescript
from taximeter_analysis.discover.model import Discovery, Sighting, SourceFile, Unread, add_up
from taximeter_analysis.discover.walk import MAX_BYTES, PYTHON, walk

Progress = Callable[[int, int, str], None]  # done, of, path


def discover(
    root: Path, *, tests: bool = False, max_bytes: int = MAX_BYTES, progress: Progress | None = None
) -> Discovery:
    """All sightings below a folder (or of one file).

    Raises:
        ValueError: no such place, or too many files.
    """
    if not root.exists():
        raise ValueError(f"{root}: no such file or folder; name the service's code")
    if root.is_file():
        paths, left_out, root = [root.name], 0, root.parent
    else:
        found = walk(root, tests=tests)
        paths, left_out = found.files, found.tests
    files: list[SourceFile] = []
    unread: list[Unread] = []
    for done, path in enumerate(paths):
        if progress is not None:
            progress(done, len(paths), path)
        read = read_file(root, path, max_bytes)
        if isinstance(read, Unread):
            unread.append(read)
        else:
            files.append(read)
    notes = []
    if partly := [file.path for file in files if file.partly]:
        more = f" and {len(partly) - 3} more" if len(partly) > 3 else ""
        notes.append(f"in parts not understood, and read but for those: {', '.join(partly[:3])}{more}")
    filled = sorted(
        (file for file in files if file.sightings), key=lambda file: (-len(file.sightings), file.path)
    )
    return Discovery(
        str(root), len(files), add_up(filled), tuple(filled), tuple(unread), left_out, None, tuple(notes)
    )


def read_file(root: Path, path: str, max_bytes: int = MAX_BYTES) -> SourceFile | Unread:
    """The sightings of one file, or why it was not read."""
    try:
        with (root / path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return Unread(path, "cannot be read", error.strerror or str(error))
    if len(data) > max_bytes:
        return Unread(path, "larger than the limit", f"more than {max_bytes:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Unread(path, "not UTF-8", f"byte {error.start}")
    try:
        found, partly = (python if path.endswith(PYTHON) else typescript).read(path, text)
    except python.Unparsable as error:
        return Unread(path, "cannot be parsed", str(error))
    return SourceFile(path, tuple(sorted(set(found), key=_order)), partly)


def _order(sighting: Sighting) -> tuple[int, str, str]:
    return sighting.line, sighting.kind, sighting.what
