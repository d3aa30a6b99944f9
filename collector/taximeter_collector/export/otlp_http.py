"""OTLP over HTTP: serialised requests concatenated, as packed as the log has them."""

from __future__ import annotations

import asyncio
import email.utils
import time
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from taximeter_collector import tls
from taximeter_collector.auth import Authenticator
from taximeter_collector.export.base import Exporter, Origin, Permanent, Retry
from taximeter_collector.log import Batch
from taximeter_collector.packing import gzip_member

_RETRYABLE = {429, 502, 503, 504}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class OtlpHttpExporter(Exporter):
    """``endpoint`` + ``/v1/<signal>``, or ``<signal>_endpoint`` as it stands."""

    def __init__(self, name: str, values: dict[str, Any], authenticator: Authenticator | None = None) -> None:
        super().__init__(name)
        base = (values["endpoint"] or "").rstrip("/")
        self._urls = {
            signal: values[f"{signal}_endpoint"] or (f"{base}/v1/{signal}" if base else "")
            for signal in ("traces", "metrics", "logs")
        }
        self._headers = {**values["headers"], "content-type": "application/x-protobuf"}
        self._gzip = values["compression"] == "gzip"
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._timeout = values["timeout"]
        self._verify = tls.client_context(values["tls"], f"exporters.{name}.tls")
        self._authenticator = authenticator
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        hosts = {urlsplit(url).hostname for url in self._urls.values() if url}
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout or None,
            verify=self._verify,
            trust_env=not hosts <= _LOOPBACK,  # a proxy is no way to one's own machine
        )
        anyio.get_cancelled_exc_class()  # httpx would import its backend while the first request waits

    async def export(self, origin: Origin, batch: Batch) -> int:
        assert self._client is not None
        url = self._urls[origin.signal.name]
        if not url:
            raise Permanent(f"exporters.{self.name}.{origin.signal.name}_endpoint is not set")
        if self._gzip:
            payload = await asyncio.to_thread(gzip_member, [(row.payload, row.packed) for row in batch.rows])
        else:
            payload = b"".join(row.payload for row in batch.rows)
        try:
            response = await self._client.post(url, content=payload, headers=self._credentials())
        except httpx.TransportError as error:
            raise Retry(f"{url}: {type(error).__name__}: {error}") from error
        if response.status_code in _RETRYABLE:
            raise Retry(f"{url}: {_reason(response)}", _retry_after(response))
        if not response.is_success:
            raise Permanent(f"{url}: {_reason(response)}")
        return _rejected(origin, response, batch.items)

    def _credentials(self) -> dict[str, str]:
        return {} if self._authenticator is None else self._authenticator.headers()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _rejected(origin: Origin, response: httpx.Response, items: int) -> int:
    """Only a protobuf answer says; a JSON or empty one is taken for full success, as officially."""
    if not response.headers.get("content-type", "").startswith("application/x-protobuf"):
        return 0
    try:
        success = origin.signal.response.FromString(response.content).partial_success  # type: ignore[attr-defined]
    except DecodeError:
        return 0
    return min(int(getattr(success, origin.signal.rejected_field)), items)


def _reason(response: httpx.Response) -> str:
    """The status and, of an OTLP error, its message."""
    text = ""
    if response.headers.get("content-type", "").startswith("application/x-protobuf"):
        try:
            text = status_pb2.Status.FromString(response.content).message
        except DecodeError:
            text = ""
    else:
        text = response.text
    return f"{response.status_code} {response.reason_phrase} {text[:200].strip()}".strip()


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
