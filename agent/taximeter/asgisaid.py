"""What is said of an ASGI request that is the same for many: looked up once, by who has seen it before."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace import sampling
from opentelemetry.util.http import detect_synthetic_user_agent, normalize_user_agent, sanitize_method

from taximeter import noted, semconv, spans
from taximeter.exchange import Scope
from taximeter.spanattributes import Fixed


@lru_cache(maxsize=256)
def method(raw: str) -> str:
    """The method by its name, or that it is none."""
    return sanitize_method(raw.strip()) or ""


def unseen(tracer: Any) -> bool:
    """Whether nobody looks at a span as it starts: a sampler, or a processor."""
    if type(tracer) is not spans.Tracer or tracer.sampler is not sampling.DEFAULT_ON:
        return False
    processor = tracer.span_processor
    return type(processor) is spans.Processors and not processor.starting[tracer.foreign]


@lru_cache(maxsize=1024)
def fixed(method: str, scheme: str, version: str, server: tuple[str, int | None]) -> Fixed:
    """What is the same for most requests; the odd spelling of the address is the official one."""
    host, port = server
    found: dict[str, Any] = {}
    if scheme:
        found["url.scheme"] = scheme
    if host:
        found["server.address"] = host if str(port) == "80" else f"{host}:{port}"
    if port:
        found["server.port"] = port
    if version:
        found["network.protocol.version"] = version
    if method:
        found[semconv.HTTP_REQUEST_METHOD] = method
    return Fixed(found)


@lru_cache(maxsize=256)
def active(method: str, scheme: str) -> noted.Labels:
    """The labels of what is running."""
    return noted.Labels({semconv.HTTP_REQUEST_METHOD: method, "url.scheme": scheme})


@lru_cache(maxsize=4096)
def outcome(
    request: tuple[str, str, str], route: str | None, status: int | None, error: str | None
) -> noted.Labels:
    """The labels of the duration histogram."""
    method, scheme, version = request
    found: dict[str, Any] = {
        "url.scheme": scheme,
        "network.protocol.version": version,
        semconv.HTTP_REQUEST_METHOD: method,
    }
    if route is not None:
        found[semconv.HTTP_ROUTE] = route
    if status is not None:
        found[semconv.HTTP_RESPONSE_STATUS_CODE] = status
    if error is not None:
        found[semconv.ERROR_TYPE] = error
    return noted.Labels(found)


class _Headers(Getter[Scope]):
    """Reads a scope's headers for a propagator."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        found = [value.decode("utf-8", "replace") for name, value in carrier["headers"] if name == wanted]
        return found or None

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


HEADERS: Final = _Headers()


@lru_cache(maxsize=1024)
def agent(value: bytes) -> tuple[str | None, str | None]:
    """The caller's program, and whether it is a known robot."""
    agent = normalize_user_agent(value.decode("utf-8", "replace"))
    return agent, detect_synthetic_user_agent(agent)


def url(scope: Scope) -> str:
    """The address that was asked for."""
    from opentelemetry.instrumentation.asgi import get_host_port_url_tuple  # noqa: PLC0415

    url: str = get_host_port_url_tuple(scope)[2]  # type: ignore[no-untyped-call]
    return url
