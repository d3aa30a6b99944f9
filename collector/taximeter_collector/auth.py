"""Who may send, and who we say we are: ``bearertokenauth`` and ``basicauth``, on both sides.

A secret is compared in constant time, never logged, and read again when its file changes. Passwords that
are hashed on purpose slowly (bcrypt) are verified one at a time in a thread, and what was found true is
remembered by a keyed hash, so that neither a sender nor an attacker can buy much CPU.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taximeter_collector.config.loader import CollectorConfig
from taximeter_collector.errors import ConfigError

_MOST_REMEMBERED = 1024
_MOST_WAITING = 16  # verifications of slow hashes


class _File:
    """A file's text, read again when it changed; the last good one while it cannot be read."""

    def __init__(self, path: str, key: str) -> None:
        self._path, self._stamp, self._text = Path(path), (0, 0), ""
        try:
            self._read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{key}: {path} cannot be read ({error})") from error

    def __call__(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self._read()
        return self._text

    def _read(self) -> None:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._text, self._stamp = self._path.read_text(), stamp


class Authenticator(ABC):
    """One configured extension. Header names are lower-case."""

    @abstractmethod
    async def refuse(self, headers: Mapping[str, str]) -> str:
        """Why a request with these headers is not let in; empty when it is."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """What an exporter sends along."""


class Bearer(Authenticator):
    """A fixed token; several are accepted, the first is sent."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._header: str = values["header"].lower()
        self._prefix = f"{values['scheme']} " if values["scheme"] else ""
        fixed = values["tokens"] or [values["token"]]
        path = f"extensions.{name}.filename"
        self._file = _File(values["filename"], path) if values["filename"] else None
        self._fixed = list(fixed)
        if not self._tokens():
            raise ConfigError(f"{path}: {values['filename']} has no token")

    def _tokens(self) -> list[str]:
        if self._file is None:
            return self._fixed
        return [line.split()[0] for line in self._file().splitlines() if line.split()]

    async def refuse(self, headers: Mapping[str, str]) -> str:
        given = headers.get(self._header, "").encode()
        if not given:
            return f"no {self._header} header"
        known = [hmac.compare_digest(given, (self._prefix + token).encode()) for token in self._tokens()]
        return "" if any(known) else f"the {self._header} header is not the expected one"

    def headers(self) -> dict[str, str]:
        return {self._header: self._prefix + next(iter(self._tokens()), "")}


class Basic(Authenticator):
    """User and password: ``htpasswd`` lines with plain, {SHA} or bcrypt passwords; or a client's own."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        path = f"extensions.{name}"
        self._server, self._client = values["htpasswd"], values["client_auth"]
        self._key = secrets.token_bytes(32)
        self._good: dict[bytes, str] = {}  # keyed hash of the header -> the hash it was true of
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._file: Callable[[], str] | None = None
        if self._server:
            if self._server["file"]:
                self._file = _File(self._server["file"], f"{path}.htpasswd.file")
            for user, password in self._users().items():
                if password.startswith("$") and not password.startswith("$2"):
                    raise ConfigError(
                        f"{path}.htpasswd: the password of {user} is hashed by {password.split('$')[1]}: use "
                        "bcrypt (htpasswd -B)"
                    )
        else:
            self._username = self._secret("username", path)
            self._password = self._secret("password", path)

    def _secret(self, key: str, path: str) -> Callable[[], str]:
        if self._client[f"{key}_file"]:
            file = _File(self._client[f"{key}_file"], f"{path}.client_auth.{key}_file")
            return lambda: file().strip()
        value: str = self._client[key]
        return lambda: value

    def _users(self) -> dict[str, str]:
        text = (self._file() if self._file else "") + "\n" + self._server["inline"]  # the inline ones win
        lines = [line.strip() for line in text.splitlines()]
        pairs = [line.partition(":") for line in lines if ":" in line and not line.startswith("#")]
        return {user: password for user, _, password in pairs}

    async def refuse(self, headers: Mapping[str, str]) -> str:
        given = headers.get("authorization", "")
        scheme, _, encoded = given.partition(" ")
        if scheme.lower() != "basic":
            return "no basic authorization header"
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "the authorization header is not valid base64"
        known = self._users().get(user) if colon else None
        if known is None:
            return "unknown user or wrong password"
        mark = hmac.digest(self._key, given.encode(), "sha256")
        if self._good.get(mark) == known:
            return ""
        if not await self._right(password, known):
            return "unknown user or wrong password"
        if len(self._good) >= _MOST_REMEMBERED:
            self._good.clear()
        self._good[mark] = known
        return ""

    async def _right(self, password: str, known: str) -> bool:
        if known.startswith("{SHA}"):
            digest = base64.b64encode(hashlib.sha1(password.encode()).digest())  # noqa: S324  (htpasswd's)
            return hmac.compare_digest(digest, known[5:].encode())
        if not known.startswith("$2"):
            return hmac.compare_digest(password.encode(), known.encode())
        if self._waiting >= _MOST_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(_bcrypt, password, known)
        finally:
            self._waiting -= 1

    def headers(self) -> dict[str, str]:
        pair = f"{self._username()}:{self._password()}".encode()
        return {"authorization": "Basic " + base64.b64encode(pair).decode()}


def _bcrypt(password: str, known: str) -> bool:
    import bcrypt  # noqa: PLC0415  (few use it)

    try:
        return bcrypt.checkpw(password.encode()[:72], known.encode())
    except ValueError:
        return False


def make_authenticator(config: CollectorConfig, values: Mapping[str, Any]) -> Authenticator | None:
    """Of a receiver's protocol or an exporter: what its ``auth`` names, or None."""
    auth = values.get("auth")
    if not auth:
        return None
    extension = config.extensions[auth["authenticator"]]
    kind = Bearer if extension.type == "bearertokenauth" else Basic
    return kind(extension.id, extension.values)
