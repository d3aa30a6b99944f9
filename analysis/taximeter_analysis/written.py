"""The files that a command writes beside what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_files(args: argparse.Namespace, writers: Mapping[str, Callable[[Any], str]], found: Any) -> str:
    """Write each form that an option of its name has a path for; what went wrong, else nothing."""
    for name, text in writers.items():
        path: Path | None = getattr(args, name)
        if path is not None:
            try:
                path.write_text(text(found), encoding="utf-8")
            except OSError as error:
                return f"{path}: cannot be written ({error.strerror}); name another file"
    return ""
