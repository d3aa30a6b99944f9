"""OTLP over gRPC: serialised requests concatenated, as packed as the log has them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from taximeter_collector import tls
from taximeter_collector.auth import Authenticator
from taximeter_collector.export.base import Exporter, Origin, Permanent, Retry
from taximeter_collector.export.grpc_call import Client, Lost, Status
from taximeter_collector.log import Batch
from taximeter_collector.packing import gzip_member

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class OtlpGrpcExporter(Exporter):
    """TLS unless ``tls.insecure`` or an ``http://`` endpoint, as officially."""

    def __init__(self, name: str, values: dict[str, Any], authenticator: Authenticator | None = None) -> None:
        super().__init__(name)
        endpoint: str = values["endpoint"]
        scheme = urlsplit(endpoint).scheme if "://" in endpoint else ""
        insecure = values["tls"]["insecure"] or scheme == "http"
        target = urlsplit(endpoint).netloc if scheme in ("http", "https") else endpoint
        self._target = target.removeprefix("dns:").lstrip("/") if target.startswith("dns:") else target
        self._context = None if insecure else tls.client_context(values["tls"], f"exporters.{name}.tls")
        self._override = values["tls"]["server_name_override"] or ""
        self._metadata = [(key.lower(), value) for key, value in values["headers"].items()]
        self._authenticator = authenticator
        self._gzip = values["compression"] == "gzip"
        self._timeout = values["timeout"]
        self._client: Client | None = None

    async def start(self) -> None:
        self._client = Client(self._target, self._context, self._override)

    async def export(self, origin: Origin, batch: Batch) -> int:
        assert self._client is not None
        if self._gzip:
            payload = await asyncio.to_thread(gzip_member, [(row.payload, row.packed) for row in batch.rows])
        else:
            payload = b"".join(row.payload for row in batch.rows)
        try:
            status = await self._client.unary(
                origin.signal.method,
                payload,
                gzip=self._gzip,
                metadata=self._all_metadata(),
                timeout_s=self._timeout,
            )
        except Lost as error:
            raise Retry(f"{self._target}: {error}") from error
        if status.code:
            raise _failure(status, self._target)
        try:
            success = origin.signal.response.FromString(status.body).partial_success  # type: ignore[attr-defined]
        except DecodeError as error:  # it said OK
            raise Retry(f"{self._target} answered OK with a body that is no OTLP response") from error
        return min(int(getattr(success, origin.signal.rejected_field)), batch.items)

    def _all_metadata(self) -> list[tuple[str, str]]:
        if self._authenticator is None:
            return self._metadata
        return [*self._metadata, *self._authenticator.headers().items()]

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _failure(status: Status, target: str) -> Exception:
    after = _retry_delay(status.details)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    text = f"{target}: {code.name}: {status.message}"
    if code in _RETRYABLE:
        return Retry(text, after)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None:
        return Retry(text, after)
    return Permanent(text)


def _retry_delay(details: bytes) -> float | None:
    info = error_details_pb2.RetryInfo()
    try:
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Unpack(info):
                return float(info.retry_delay.ToTimedelta().total_seconds())
    except DecodeError:
        return None
    return None
