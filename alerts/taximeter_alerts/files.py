"""Files that are rendered from code and committed: written, or checked for drift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """Write every file below ``directory``, which is made if absent. Raises OSError."""
    written = []
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def drifted(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """The files that are missing or differ from what would be written."""
    places = {directory / name: text for name, text in files.items()}
    return [
        path
        for path, text in places.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
