"""GET from a Tempo or a Prometheus: bounded, and an error that says which, what it answered, what to do."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from taximeter_analysis.readers.place import Place
from taximeter_analysis.store import StoreError

_TIMEOUT_S = 120.0
_MOST_BYTES = 512 << 20


class Web:
    """One server's HTTP API. Redirects are not followed: a password goes to the host that was named."""

    def __init__(self, where: Place) -> None:
        self._where = where
        base = where.address.rstrip("/")
        # From the environment no proxy for loopback, and no credentials from ~/.netrc.
        self._client = httpx.Client(base_url=base, auth=where.user, timeout=_TIMEOUT_S, trust_env=False)

    def get(self, path: str, accept: str = "application/json", **params: str | float) -> bytes | None:
        """The body; None where the server says 404.

        Raises:
            StoreError: no answer, an error, or a body beyond all bounds.
        """
        try:
            with self._client.stream("GET", path, params=params, headers={"Accept": accept}) as answer:
                body = b""
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise StoreError(
                            f"{self._where}: {path} answered over {_MOST_BYTES >> 20} MiB; ask for less"
                        )
        except httpx.HTTPError as error:
            raise StoreError(
                f"{self._where}: no answer to GET {path} ({type(error).__name__}: {error}); is it running, "
                "and is the address right?"
            ) from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            told = " ".join(body[:300].decode(errors="replace").split())
            raise StoreError(
                f"{self._where}: GET {path} answered {answer.status_code} ({told}); narrow the window with "
                "--since and --until, or see the server's own log"
            )
        return body

    def json(self, path: str, **params: str | float) -> Any:
        """A JSON answer.

        Raises:
            StoreError: as `get`; also where there is none.
        """
        body = self.get(path, "application/json", **params)
        try:
            return httpx.Response(200, content=body or b"").json()
        except ValueError:
            kind = "answered no JSON" if body else "is not there (404)"
            raise StoreError(
                f"{self._where}: {path} {kind}; is this address a {self._where.kind.capitalize()}?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
