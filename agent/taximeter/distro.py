"""The entry points of ``opentelemetry-instrument``: Taximeter's distro and configurator.

The distro sets defaults and decides how each instrumentor is loaded; the configurator builds
the SDK's providers. Both must be Taximeter's: the loader takes the *first* distro and the
first configurator it finds unless ``OTEL_PYTHON_DISTRO`` and ``OTEL_PYTHON_CONFIGURATOR``
name one. ``taximeter.environment`` sets both where ``opentelemetry-instrument`` starts the
process; elsewhere set them to ``taximeter``. Whichever of the two is picked first applies
the defaults, so one of them alone still yields the right settings.

An instrumentor is loaded when the service imports its library, not before: importing the
openai and anthropic packages takes seconds, which every Python process under the launcher
would pay, and uvicorn kills a worker that takes five to answer.

Nothing here raises (save in strict mode): a service starts with less telemetry rather than
not at all.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final

import wrapt
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]  # unchecked there
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.util._importlib_metadata import EntryPoint

from taximeter import (
    __version__,
    coverage,
    foreign,
    guard,
    logs,
    meters,
    modelcalls,
    pricing,
    request,
    sanity,
    sdk,
    settings,
    shutdown,
    threads,
    tries,
)

logger = guard.logger


class _Later:
    """A part of the agent, imported when one of its functions is called: most services need few."""

    def __init__(self, module: str) -> None:
        self._module = f"taximeter.{module}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self._module), name)(*args, **kwargs)

        return call


caches, djangoasgi, drivers, httpcalls = map(_Later, ("caches", "djangoasgi", "drivers", "httpcalls"))
celerytasks, litellmcalls = map(_Later, ("celerytasks", "litellmcalls"))
modelevidence, openaicalls, pool, wsgi = map(_Later, ("modelevidence", "openaicalls", "pool", "wsgi"))

#: What the instrumentors of ``coverage.LIBRARIES`` are given, by entry point.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "fastapi": {"exclude_spans": ["send", "receive"]},
    "flask": {"request_hook": wsgi.flask_hook},
    "django": {"request_hook": djangoasgi.hook},
}

_started = False


class TaximeterDistro(BaseDistro):  # type: ignore[misc]
    """Sets the defaults and loads each instrumentor with the arguments it needs."""

    def _configure(self, **kwargs: Any) -> None:
        _start()

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        name = entry_point.name
        module = entry_point.value.partition(":")[0]
        library = coverage.BY_NAME.get(name)
        if name == "logging":
            kwargs = logs.arguments() | kwargs
        if library is None:
            super().load_instrumentor(entry_point, **kwargs)  # whose library's module is not known
            return
        if not module.startswith(library.instruments) and _installed(library):
            # Others share the entry-point name, count the same call again, and no variable
            # could tell them apart.
            logger.warning(
                "Instrumentor %s from %s is left out: %s traces these calls.",
                *(name, module, library.instrumentor),
            )
            return
        arguments = _ARGUMENTS.get(name, {}) | kwargs
        loaded = False

        def load() -> None:
            nonlocal loaded
            if loaded:
                return
            loaded = True
            try:
                if (prepare := _PREPARE.get(name)) is not None:
                    prepare()
                entry_point.load()().instrument(**arguments)
            except Exception as error:  # the service's own import must go on
                guard.caught(f"distro.{name}", error)

        def imported(found: Any) -> None:
            if _half_imported(library.instruments):
                return  # by the service, and it imports the library: once it is whole
            if name == "django":
                _after_setup(found, load)  # the instrumentor reads the settings, which come later
            else:
                _one_by_one(load)

        def whole(_: Any) -> None:
            if library.module in sys.modules:
                _one_by_one(load)

        wrapt.register_post_import_hook(imported, library.module)
        if name != "django":
            wrapt.register_post_import_hook(whole, library.instruments)


def _half_imported(module: str) -> bool:
    """Whether ``module`` is being imported at this moment."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _after_setup(django: Any, load: Callable[[], None]) -> None:
    """Load once Django's settings are known, and before its handler reads the middleware in them."""
    setup = django.setup

    def ready(*args: Any, **kwargs: Any) -> Any:
        result = setup(*args, **kwargs)
        django.setup = setup
        _one_by_one(load)
        return result

    django.setup = ready


def _installed(library: coverage.Library) -> bool:
    try:
        return find_spec(library.instruments) is not None
    except ModuleNotFoundError:
        return False


_waiting = threading.local()


def _one_by_one(load: Callable[[], None]) -> None:
    """Load an instrumentor, after the one that is being loaded if there is one.

    Loading one imports libraries: that of httpx imports httpx2, whose instrumentor lies in
    the very module that is then only half imported.
    """
    queue: list[Callable[[], None]] | None = getattr(_waiting, "queue", None)
    if queue is not None:
        queue.append(load)
        return
    _waiting.queue = queue = [load]
    try:
        for waiting in queue:  # grows while it is walked
            waiting()
    finally:
        del _waiting.queue


class TaximeterConfigurator(_OTelSDKConfigurator):
    """Builds the providers, the meters and the prices, and arranges the last export."""

    def _configure(self, **kwargs: Any) -> None:
        _start()
        if missing := settings.missing_extra():
            logger.error("%s Until then nothing is measured.", missing)
            return
        if os.environ.get("OTEL_CONFIG_FILE"):
            logger.warning(
                "OTEL_CONFIG_FILE is set: the SDK is configured from that file alone. Taximeter's 2 s "
                "bucket, instance id and count of dropped spans are not in force. Unset it to have them."
            )
            super()._configure()  # type: ignore[no-untyped-call]
            try:
                sdk.guard_exporters(trace.get_tracer_provider())
            except Exception as error:
                guard.caught("configurator", error)
        else:
            try:
                tracers, provider = sdk.build(
                    kwargs.get("auto_instrumentation_version"), [foreign.ForeignCalls(prices)]
                )
            except Exception as error:
                guard.caught("configurator.sdk", error)
                logger.error("Taximeter could not build the SDK (see above): nothing is measured.")
                return
            # Metrics last to be asked but exported side by side: either may be slow.
            shutdown.install(tracers.force_flush, provider.force_flush, *logs.flushes())
        try:
            meters.install(metrics.get_meter("taximeter", __version__))
            threads.install()
            _watch()
            if os.environ.get("TAXIMETER_PRICES_FILE"):
                prices()  # a bad file is told at the start
        except Exception as error:
            guard.caught("configurator", error)


def _watch() -> None:
    """Install our own hooks as their libraries are imported."""

    def load(name: str, install: Callable[[], object]) -> Callable[[Any], None]:
        def hook(_: Any) -> None:
            try:
                install()
            except Exception as error:  # the service's own import must go on
                guard.caught(f"distro.{name}", error)

        return hook

    for name, install in _OWN.items():
        wrapt.register_post_import_hook(load(name, install), name)


@cache
def prices() -> pricing.PriceBook:
    """The prices in force; a bad file of them is told once."""
    book, problem = pricing.load(os.environ.get("TAXIMETER_PRICES_FILE"))
    if problem is not None:
        logger.error("%s", problem)
    return book


def _price(library: str, evidence: Callable[[], None]) -> None:
    pricer = modelcalls.install(prices(), library)
    if pricer is None:
        return
    evidence()
    if library == "openai":
        openaicalls.install(pricer)


#: What to do before an instrumentor is loaded.
_PREPARE: Final[dict[str, Callable[[], object]]] = {
    "fastapi": request.install,
    "starlette": request.install,
    "flask": wsgi.install_flask,
    "django": djangoasgi.install,
    "httpx": lambda: httpcalls.install("httpx"),
    "httpx2": lambda: httpcalls.install("httpx2"),
    "psycopg": drivers.install_psycopg,
    "psycopg2": drivers.install_psycopg2,
    "asyncpg": drivers.install_asyncpg,
    "sqlalchemy": drivers.install_sqlalchemy,
    "celery": celerytasks.install,
    "botocore": modelcalls.silence_botocore,
    "google-genai": lambda: modelcalls.install(prices(), "google-genai"),
    "langchain": lambda: modelcalls.install(prices()),
    "bedrock": lambda: modelcalls.install(prices(), "bedrock"),
    "openai": lambda: _price("openai", modelevidence.install_openai),
    "anthropic": lambda: _price("anthropic", modelevidence.install_anthropic),
}
#: What no instrumentor is for: hooks of ours, installed when the library is imported.
_OWN: Final[dict[str, Callable[[], object]]] = {
    "psycopg_pool": pool.install,
    "uvicorn.server": shutdown.install_uvicorn,
    "httpx": lambda: tries.install_httpx("httpx"),
    "httpx2": lambda: tries.install_httpx("httpx2"),
    "requests": tries.install_requests,
    "aiohttp": tries.install_aiohttp,
    "sqlalchemy": drivers.quiet_sqlalchemy,
    "litellm": lambda: litellmcalls.install(prices()),
    "redis": caches.install_redis,
    "cachetools": caches.install_cachetools,
    "aiocache": caches.install_aiocache,
}


def _start() -> None:
    """Apply the defaults and log what is in force, once per process."""
    global _started  # noqa: PLW0603
    if _started:
        return
    _started = True
    settings.apply_defaults()
    problems = [*sanity.repair(), *_clashes()]
    _log_to_stderr()
    for problem in problems:
        guard.note("settings", problem)
    logger.info(
        "Taximeter %s, Python %s: %s",
        __version__,
        sys.version.split()[0],
        " ".join(f"{name}={value}" for name, value in settings.effective()),
    )


def _clashes() -> list[str]:
    """A line for each piece of OpenTelemetry's base that Taximeter does not work with."""
    installed = {}
    for package in (*coverage.NEEDED, "opentelemetry-instrumentation", "opentelemetry-util-genai"):
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return [f"{line}. {remedy}" for line, remedy in coverage.clashes(installed)]


def _log_to_stderr() -> None:
    """The agent starts before the service configures logging, so it brings its own handler."""
    level = getattr(logging, os.environ.get("TAXIMETER_LOG_LEVEL", "info").strip().upper(), logging.INFO)
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
