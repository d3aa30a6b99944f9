"""Where the key of the hashes comes from: the environment, else a state file of mode 0600.

``TAXIMETER_HASH_KEY`` (any text of at least 16 characters; the same for all replicas and
services whose hashes are to be compared), else the file ``hash.key`` in
``TAXIMETER_STATE_DIR``, made at the first start. Where neither can be had the key lives as
long as the process, which is said once: duplicates are then seen within one process only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from taximeter import guard
from taximeter.hashing import Hasher

VARIABLE: Final = "TAXIMETER_HASH_KEY"
MIN_LENGTH: Final = 16
_FILE: Final = "hash.key"


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """``TAXIMETER_STATE_DIR``, else the user's state directory."""
    environ = os.environ if environ is None else environ
    if given := environ.get("TAXIMETER_STATE_DIR"):
        return Path(given)
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "taximeter"


def key_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where a key that was made is kept."""
    return state_directory(environ) / _FILE


@cache
def hasher() -> Hasher:
    """The hasher of this process. Never raises."""
    key, source = find()
    if source == "process":
        guard.note(
            "hashkey",
            f"No key for hashes: {VARIABLE} is not set and {key_file()} cannot be used. "
            "A key of this process alone is in force: duplicates across processes and restarts are not seen.",
        )
    return Hasher(key)


def find() -> tuple[bytes, str]:
    """The key and where it is from: ``environment``, ``file`` or ``process``."""
    given = os.environ.get(VARIABLE, "").strip()
    if len(given) >= MIN_LENGTH:
        return given.encode("utf-8", "surrogateescape"), "environment"
    if given:
        guard.note(
            "hashkey",
            f"{VARIABLE} has {len(given)} characters, fewer than {MIN_LENGTH}: it is not used. Make one: "
            'python -c "import secrets; print(secrets.token_hex(32))"',
        )
    try:
        return _from_file(key_file()), "file"
    except (OSError, RuntimeError, ValueError):  # RuntimeError: no home directory
        return secrets.token_bytes(32), "process"


def _from_file(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written whole under another name and linked: of several workers that start at once one
    # wins, and nobody reads half a key.
    temporary = path.with_name(f".{_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    return _read(path)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor) as file:
        about = os.fstat(file.fileno())
        text = file.read(4096).strip()
    if not stat.S_ISREG(about.st_mode) or len(text) < MIN_LENGTH:
        raise ValueError(f"{path} holds no key of at least {MIN_LENGTH} characters")
    if about.st_mode & 0o077:
        guard.note("hashkey", f"{path} can be read by others: chmod 600 {path}, and make a new key.")
    return text.encode()
