"""OTLP over HTTP without its weight: spans written as bytes, sent by the standard library.

The official exporter's settings, retries and headers stay; two of its parts are replaced:

- the encoder (:mod:`taximeter.otlp`), which is handed spans one by one
  (:class:`taximeter.export.GuardedExporter`), so that an event loop never waits for a batch;
- the transport, where neither a proxy nor credentials ask for the official one: ``requests``
  takes a millisecond of CPU for a call and a tenth of a second to import.
"""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import SplitResult, urlsplit

from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from taximeter import otlp

#: Settings that only the official transport understands.
_OFFICIAL: Final = ("CERTIFICATE", "CLIENT_KEY", "CREDENTIAL_PROVIDER")
_MAX_ANSWER: Final = 65_536  # bytes of an answer that are read
_INTERNAL: Final = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"  # told by the official exporter alone
#: The official exporters that get another transport only.
_SIGNALS: Final = {
    "opentelemetry.exporter.otlp.proto.http.metric_exporter.OTLPMetricExporter": "METRICS",
    "opentelemetry.exporter.otlp.proto.http._log_exporter.OTLPLogExporter": "LOGS",
}


class SpanExporter(OTLPSpanExporter):
    """The official exporter with another encoder."""

    def encode(self, span: ReadableSpan) -> otlp.Encoded:
        """``span`` as :meth:`export` takes it."""
        return otlp.encode(span)

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        if self._shutdown:
            return SpanExportResult.FAILURE
        data = otlp.request(spans)
        if 0 < self._max_request_size < len(data):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS if self._client.export(data).success else SpanExportResult.FAILURE


def transport(signal: str) -> BaseHTTPTransport | None:
    """The light transport for ``signal`` ("TRACES", "METRICS", "LOGS"), where the settings allow it."""
    for name in _OFFICIAL:
        wanted = (f"OTEL_EXPORTER_OTLP_{name}", f"OTEL_EXPORTER_OTLP_{signal}_{name}")
        if any(os.environ.get(one) for one in wanted):
            return None
    if any(name.startswith("OTEL_PYTHON_EXPORTER_OTLP_HTTP_") for name in os.environ):
        return None
    address = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"
    )
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
        return None
    return Transport()


@dataclass(frozen=True, slots=True)
class _Result(BaseHTTPResult):
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body

    def headers(self) -> Mapping[str, str]:
        return self.fields


class Transport(BaseHTTPTransport):
    """One kept connection; used by one thread at a time, as exporters are."""

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._pid = os.getpid()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> BaseHTTPResult:
        parts = urlsplit(url)
        try:
            connection = self._connect(parts, timeout)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(method, target, body=data, headers=headers or {})
            answer = connection.getresponse()
            body = answer.read(_MAX_ANSWER)
            if answer.will_close or not answer.isclosed():
                self.close()
            return _Result(answer.status, answer.reason, None, body, cast(Mapping[str, str], answer.headers))
        except Exception as error:
            self.close()
            return _Result(error=error)

    def _connect(self, parts: SplitResult, timeout: float | None) -> http.client.HTTPConnection:
        if self._pid != os.getpid():  # the parent's connection is not ours
            self._connection, self._pid = None, os.getpid()
        known = self._connection
        if known is not None:
            known.timeout = timeout
            if known.sock is not None:
                known.sock.settimeout(timeout)
            return known
        assert parts.hostname is not None
        made: http.client.HTTPConnection
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        self._connection = made
        return made

    def is_connection_error(self, exception: Exception | None) -> bool:
        return isinstance(exception, OSError | http.client.HTTPException)

    def close(self) -> None:
        known, self._connection = self._connection, None
        if known is not None:
            known.close()


def light(kind: Any) -> Any:
    """``kind``, an exporter's class, or what makes a lighter one of the same settings."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is OTLPSpanExporter:
        return lambda: SpanExporter(**_with("TRACES"))
    signal = _SIGNALS.get(name)
    if signal == "METRICS" and os.environ.get(_INTERNAL, "").strip().lower() != "true":
        from taximeter.metricexport import MetricExporter  # noqa: PLC0415  (only where metrics are sent)

        kind = MetricExporter
    return kind if signal is None else lambda: kind(**_with(signal))


def _with(signal: str) -> dict[str, Any]:
    chosen = transport(signal)
    return {} if chosen is None else {"_transport": chosen}
