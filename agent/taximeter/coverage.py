"""One table of what serves what: library -> official instrumentor -> what Taximeter adds.

The distro loads instrumentors by it and ``taximeter doctor`` explains it. The base install
brings the instrumentors of the first group; each other one is installed where its library is
(``pip install 'taximeter[instrumentors]'`` brings all). Pure: imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

CONTRIB: Final = "0.66b1"  # opentelemetry-instrumentation-*
GENAI: Final = "1.3b0"  # opentelemetry-instrumentation-genai-*
#: Releases of OpenTelemetry that Taximeter is tested with (`make prove-versions`): of the API and SDK
#: and, which the project releases together, of its instrumentors.
SDK: Final = ((1, 45, 0), (1, 46, 0))  # from, and below
INSTRUMENTORS: Final = ("0.66b0", "0.66b1")
MODELS: Final = ("1.3b0",)
#: Pieces without which nothing is measured.
NEEDED: Final = ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")


class Library(NamedTuple):
    """A library that a service may use."""

    name: str  # the instrumentor's entry point
    package: str  # on PyPI
    module: str  # on whose import the instrumentor is loaded
    kind: str  # requests, database, models, http, jobs
    instrumentor: str  # package of the official instrumentor
    instruments: str  # its module
    version: str
    adds: str  # what Taximeter adds
    base: bool = False  # comes with the base install


def _contrib(name: str, package: str, module: str, kind: str, adds: str, *, base: bool = False) -> Library:
    suffix = name.replace("_", "-")
    instruments = "opentelemetry.instrumentation." + name.replace("-", "_")
    instrumentor = f"opentelemetry-instrumentation-{suffix}"
    return Library(name, package, module, kind, instrumentor, instruments, CONTRIB, adds, base)


def _genai(name: str, package: str, module: str, base: bool = False) -> Library:
    instruments = f"opentelemetry.instrumentation.genai.{name}"
    adds = "price, attempts, account; tier, cache writes and tools read from the response"
    return Library(
        *(name, package, module, "models", f"opentelemetry-instrumentation-genai-{name}", instruments),
        *(GENAI, adds, base),
    )


_ACCOUNT: Final = "account, route, first byte, streaming"
_CALLS: Final = "calls on the account, summary, batch size"
_TRIES: Final = "HTTP tries of model calls"

LIBRARIES: Final = (
    _contrib("fastapi", "fastapi", "fastapi", "requests", _ACCOUNT, base=True),
    _contrib(
        "psycopg", "psycopg", "psycopg", "database", _CALLS + ", streams, COPY, server cursors", base=True
    ),
    _contrib("httpx", "httpx", "httpx", "http", _TRIES, base=True),
    _contrib("httpx2", "httpx2", "httpx2", "http", _TRIES, base=True)._replace(
        instrumentor="opentelemetry-instrumentation-httpx",
        instruments="opentelemetry.instrumentation.httpx",
    ),
    _genai("openai", "openai", "openai", True),
    _genai("anthropic", "anthropic", "anthropic", True),
    _contrib("starlette", "starlette", "starlette", "requests", _ACCOUNT),
    _contrib("flask", "flask", "flask", "requests", _ACCOUNT),
    _contrib("django", "django", "django", "requests", _ACCOUNT),
    _contrib("asyncpg", "asyncpg", "asyncpg", "database", _CALLS + ", duration, rows, one span a cursor"),
    _contrib("psycopg2", "psycopg2", "psycopg2", "database", _CALLS),
    _contrib(
        *("sqlalchemy", "sqlalchemy", "sqlalchemy", "database"),
        "calls on the account where the driver has no instrumentor; silent where it has",
    ),
    _contrib("redis", "redis", "redis", "cache", ""),
    _contrib("requests", "requests", "requests", "http", _TRIES),
    _contrib("aiohttp-client", "aiohttp", "aiohttp", "http", _TRIES),
    _contrib("urllib3", "urllib3", "urllib3", "http", ""),
    _contrib("celery", "celery", "celery", "jobs", "an account a task, the last export of each child"),
    _contrib("botocore", "botocore", "botocore", "http", "its own model spans kept silent"),
    _contrib("aiobotocore", "aiobotocore", "aiobotocore", "http", "")._replace(
        instrumentor="opentelemetry-instrumentation-botocore",
        instruments="opentelemetry.instrumentation.botocore",
    ),
    _genai("google-genai", "google-genai", "google.genai")._replace(
        instrumentor="opentelemetry-instrumentation-google-genai",
        instruments="opentelemetry.instrumentation.google_genai",
    ),
    _genai("langchain", "langchain-core", "langchain_core"),
    _genai("bedrock", "boto3", "botocore"),
)
BY_NAME: Final = {library.name: library for library in LIBRARIES}

#: Drivers whose own instrumentor counts their calls: SQLAlchemy keeps silent above them.
DRIVERS: Final = frozenset({"psycopg", "psycopg2", "asyncpg"})
#: SQLAlchemy's name of a driver -> ours, where they differ.
DIALECTS: Final = {"psycopg_async": "psycopg", "psycopg2cffi": "psycopg2"}


def _wanted(package: str) -> str | None:
    """What of ``package`` Taximeter works with, as pip takes it; ``None``: it does not matter."""
    if package in NEEDED:
        lowest, beyond = (".".join(map(str, part)) for part in SDK)
        return f">={lowest},<{beyond}"
    if package == "opentelemetry-util-genai" or package in {
        library.instrumentor for library in LIBRARIES if library.version == GENAI
    }:
        return f">={MODELS[0]},<={MODELS[-1]}"
    if package == "opentelemetry-instrumentation" or package in {
        library.instrumentor for library in LIBRARIES
    }:
        return f">={INSTRUMENTORS[0]},<={INSTRUMENTORS[-1]}"
    return None


def clash(package: str, found: str | None) -> str | None:
    """What ``package`` should be, where ``found`` (``None``: missing) is not that."""
    wanted = _wanted(package)
    if wanted is None or found in {*INSTRUMENTORS, *MODELS}:
        return None
    numbers = tuple(int(part) for part in (found or "").split(".")[:3] if part.isdigit())
    return None if SDK[0] <= numbers < SDK[1] else wanted


def clashes(installed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each piece of OpenTelemetry that Taximeter does not work with, in a line, and what to type."""
    for package in [*NEEDED, *sorted(set(installed) - set(NEEDED))]:
        found = installed.get(package)
        if wanted := clash(package, found):
            yield (
                f"{package} {found or 'is missing'}: Taximeter is tested with {wanted}",
                f"pip install '{package}{wanted}'",
            )
