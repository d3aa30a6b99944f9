"""OTLP over gRPC: serialised requests concatenated, sent as they were received."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from taximeter_collector import tls
from taximeter_collector.auth import Authenticator
from taximeter_collector.export.base import Exporter, Origin, Permanent, Retry
from taximeter_collector.log import Batch

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
        self._insecure = values["tls"]["insecure"] or scheme == "http"
        self._target = urlsplit(endpoint).netloc if scheme in ("http", "https") else endpoint
        self._credentials = (
            None if self._insecure else tls.grpc_client(values["tls"], f"exporters.{name}.tls")
        )
        self._override = values["tls"]["server_name_override"]
        self._metadata = tuple((key.lower(), value) for key, value in values["headers"].items())
        self._authenticator = authenticator
        self._compression = grpc.Compression.Gzip if values["compression"] == "gzip" else None
        self._timeout = values["timeout"]
        self._channel: Any = None

    async def start(self) -> None:
        options: list[tuple[str, Any]] = [
            # The channel's own pauses between connection attempts grow to two minutes otherwise.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.max_send_message_length", -1),
        ]
        if self._override:
            options.append(("grpc.ssl_target_name_override", self._override))
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, options, self._compression)
        else:
            self._channel = grpc.aio.secure_channel(
                self._target, self._credentials, options, self._compression
            )

    async def export(self, origin: Origin, batch: Batch) -> int:
        call = self._channel.unary_unary(origin.signal.method)
        payload = b"".join(row.payload for row in batch.rows)
        try:
            response = await call(payload, timeout=self._timeout or None, metadata=self._all_metadata())
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self._target) from error
        try:
            success = origin.signal.response.FromString(response).partial_success  # type: ignore[attr-defined]
        except DecodeError as error:  # it said OK
            raise Retry(f"{self._target} answered OK with a body that is no OTLP response") from error
        return min(int(getattr(success, origin.signal.rejected_field)), batch.items)

    def _all_metadata(self) -> tuple[tuple[str, str], ...]:
        if self._authenticator is None:
            return self._metadata
        return (*self._metadata, *self._authenticator.headers().items())

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def _failure(error: grpc.aio.AioRpcError, target: str) -> Exception:
    after = _retry_delay(error)
    text = f"{target}: {error.code().name}: {error.details()}"
    if error.code() in _RETRYABLE:
        return Retry(text, after)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None:
        return Retry(text, after)
    return Permanent(text)


def _retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.RetryInfo()
            try:
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info):
                        return float(info.retry_delay.ToTimedelta().total_seconds())
            except DecodeError:
                return None
    return None
