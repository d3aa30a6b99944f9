"""``taximeter doctor``: what would be measured, priced and exported here, and what to do about the rest.

Run it in the service's own environment, with the service's variables. Each check is a function
that yields findings; one that fails says so and stops nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.metadata import Distribution, PackageNotFoundError, distributions, entry_points, version
from urllib.parse import urlsplit

from taximeter import coverage, genai, hashkey, pricing, settings
from taximeter.hashing import Hasher

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
_MARKS = {OK: "ok  ", NOTE: "-   ", WARNING: "WARN", ERROR: "FAIL"}
#: Model libraries that no official instrumentor serves.
_UNSERVED = ("cohere", "mistralai", "groq")
_BASE_URLS = {
    "OPENAI_BASE_URL": "openai",
    "AZURE_OPENAI_ENDPOINT": "azure.ai.openai",
    "ANTHROPIC_BASE_URL": "anthropic",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report. A ``remedy`` is what to type."""

    area: str
    level: str
    text: str
    remedy: str = ""


Check = Callable[[Mapping[str, str]], Iterator[Finding]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tell what Taximeter would measure, price and export in this environment, which versions clash, "
        "whether the collector answers, and what to install. Run it where the service runs, with its "
        "variables."
    )
    parser.epilog = "Exit codes: 0 all well (warnings included), 1 something fails, 2 wrong usage."
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--offline", action="store_true", help="do not ask the collector")


def main(args: argparse.Namespace) -> int:
    environ = dict(os.environ)
    settings.apply_defaults(environ)
    checks = [check for check in CHECKS if not (args.offline and check is collector)]
    findings = [finding for check in checks for finding in _guarded(check, environ)]
    failed = any(finding.level == ERROR for finding in findings)
    if args.json:
        print(json.dumps({"ok": not failed, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(findings)
    return int(failed)


def _print(findings: list[Finding]) -> None:
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            print(f"{area}:")
        print(f"  {_MARKS[finding.level]} {finding.text}")
        if finding.remedy:
            print(f"         -> {finding.remedy}")
    counts = {level: sum(f.level == level for f in findings) for level in (ERROR, WARNING)}
    print(f"{counts[ERROR]} failures, {counts[WARNING]} warnings")


def _guarded(check: Check, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        yield from check(environ)
    except Exception as error:  # one broken package must not hide the rest
        yield Finding(
            "doctor", WARNING, f"the check {check.__name__!r} failed: {type(error).__name__}: {error}"
        )


def versions(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Python, OpenTelemetry, and whether its pieces are of one release."""
    area = "versions"
    yield Finding(area, OK, f"taximeter {_version('taximeter')}, Python {platform.python_version()}")
    installed = _opentelemetry()
    for package in coverage.NEEDED:
        if not coverage.clash(package, installed.get(package)):
            yield Finding(area, OK, f"{package} {installed[package]}")
    for line, remedy in coverage.clashes(installed):
        yield Finding(area, ERROR, line, remedy)


def launcher(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether ``opentelemetry-instrument`` would take Taximeter."""
    area = "start"
    for group, variable in (
        ("opentelemetry_distro", "OTEL_PYTHON_DISTRO"),
        ("opentelemetry_configurator", "OTEL_PYTHON_CONFIGURATOR"),
    ):
        names = sorted({point.name for point in entry_points(group=group)})
        if environ[variable] != "taximeter":
            yield Finding(
                *(area, ERROR, f"{variable}={environ[variable]}: Taximeter is not used"), f"unset {variable}"
            )
        elif "taximeter" not in names:
            yield Finding(area, ERROR, f"Taximeter's {group} is not installed", "pip install taximeter")
        else:
            others = f" (chosen over {', '.join(set(names) - {'taximeter'})})" if len(names) > 1 else ""
            yield Finding(area, OK, f"{group}: taximeter{others}")
    if environ.get("OTEL_CONFIG_FILE"):
        yield Finding(area, WARNING, "OTEL_CONFIG_FILE is set: the SDK is configured from that file alone")
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding(area, ERROR, "OTEL_SDK_DISABLED=true: nothing is measured", "unset OTEL_SDK_DISABLED")
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        yield Finding(
            *(area, WARNING, "no service name: everything will be called unknown_service"),
            "export OTEL_SERVICE_NAME=...",
        )


def libraries(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each library that is installed here: who serves it, and what clashes."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    area = "libraries"
    disabled = {name.strip() for name in environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    missing: list[str] = []
    for library in coverage.LIBRARIES:
        found = _version(library.package) or (
            _version("psycopg2-binary") if library.name == "psycopg2" else None
        )
        if found is None:
            continue
        what = f"{library.package} {found} ({library.kind})"
        instrumentor = _distribution(library.instrumentor)
        if library.name in disabled or "*" in disabled:
            yield Finding(area, WARNING, f"{what}: switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")
        elif instrumentor is None:
            missing.append(f"'{library.instrumentor}=={library.version}'")
            yield Finding(area, WARNING, f"{what}: not measured, {library.instrumentor} is not installed")
        elif (conflict := get_dist_dependency_conflicts(instrumentor)) and _absent(conflict):
            text = f"{_clash(conflict, library, instrumentor)}, which is not installed"
            yield Finding(area, NOTE, f"{what}: {text}; its calls through a model's SDK are measured there")
        elif conflict:
            yield Finding(area, ERROR, f"{what}: not measured, {_clash(conflict, library, instrumentor)}")
        else:
            adds = f"; Taximeter adds: {library.adds}" if library.adds else ""
            yield Finding(area, OK, f"{what}: {library.instrumentor} {instrumentor.version}{adds}")
    for point in entry_points(group="opentelemetry_instrumentor"):
        known = coverage.BY_NAME.get(point.name)
        if known is not None and not point.value.startswith(known.instruments):
            used = _distribution(known.instrumentor) is None
            yield Finding(
                area,
                NOTE,
                f"{point.value.partition(':')[0]} shares the name {point.name!r}: "
                + ("used, its spans are priced" if used else f"left out, {known.instrumentor} is used"),
            )
    yield from _without_instrumentor(area)
    if missing:
        yield Finding(area, NOTE, "to measure all of it", f"pip install {' '.join(missing)}")


def _without_instrumentor(area: str) -> Iterator[Finding]:
    """Model libraries that no official instrumentor serves."""
    if found := _version("litellm"):
        yield Finding(
            area,
            OK,
            f"litellm {found} (models): Taximeter itself: span, price, tries, account, its cache's hits",
        )
    for package in _UNSERVED:
        if found := _version(package):
            yield Finding(
                area,
                NOTE,
                f"{package} {found} (models): has no official instrumentor. What its own client calls is not "
                "measured; calls of its provider through the OpenAI SDK or LiteLLM are, and spans of another "
                "instrumentor (OpenInference, OpenLLMetry) are priced",
            )


def _absent(conflict: object) -> bool:
    """Whether what the instrumentor serves is not there at all: langchain-core, but not langchain."""
    return not getattr(conflict, "found", None) and not getattr(conflict, "found_any", None)


def _clash(conflict: object, library: coverage.Library, instrumentor: Distribution) -> str:
    required = getattr(conflict, "required", None) or ", ".join(getattr(conflict, "required_any", None) or ())
    wanted = re.sub(r";.*", "", str(required)).strip().strip('"')
    return f"{library.instrumentor} {instrumentor.version} serves {wanted}"


def export(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What leaves the process, and where to."""
    area = "export"
    if missing := settings.missing_extra(dict(environ)):
        yield Finding(area, ERROR, missing)
    for signal in ("TRACES", "METRICS", "LOGS"):
        exporter = environ.get(f"OTEL_{signal}_EXPORTER", "none")
        level = WARNING if exporter == "none" and signal != "LOGS" else OK
        yield Finding(area, level, f"{signal.lower()}: {exporter}")
    sampler = environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG")
    yield Finding(
        area, OK, f"spans sampled by {sampler}{f' {argument}' if argument else ''}; metrics of every request"
    )
    captured = environ.get("TAXIMETER_CAPTURE_CONTENT") or "nothing"
    level = OK if captured == "nothing" else WARNING
    yield Finding(area, level, f"content exported: {captured} (TAXIMETER_CAPTURE_CONTENT)")


def collector(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the collector takes an empty batch."""
    area = "collector"
    grpc = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc"
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or f"http://localhost:{4317 if grpc else 4318}"
    address = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or base.rstrip("/") + "/v1/traces"
    shown = settings.without_user_info(base)
    if environ.get("OTEL_TRACES_EXPORTER") != "otlp":
        yield Finding(area, NOTE, "not asked: spans are not sent by OTLP")
        return
    try:
        said = _connect(address) if grpc else _post(address, environ)
    except (OSError, HTTPException, ValueError) as error:
        yield Finding(
            *(area, ERROR, f"{shown} does not answer: {error}"),
            "start it (taximeter collector run) or set OTEL_EXPORTER_OTLP_ENDPOINT",
        )
        return
    if said in {200, 202}:
        yield Finding(area, OK, f"{shown} answers" if grpc else f"{shown} takes spans")
    else:
        yield Finding(area, ERROR, f"{shown} answered HTTP {said} to an empty batch of spans")


def _connect(address: str) -> int:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    with socket.create_connection((parts.hostname or "localhost", parts.port or 4317), timeout=3):
        return 200


def _post(address: str, environ: Mapping[str, str]) -> int:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the address is no http:// or https:// one")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=3)
    headers = {"content-type": "application/x-protobuf"}
    for pair in environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        name, equals, value = pair.partition("=")
        if equals:
            headers[name.strip()] = value.strip()
    try:
        connection.request("POST", parts.path or "/v1/traces", b"", headers)
        return connection.getresponse().status
    finally:
        connection.close()


def prices(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What will be priced, and by which table."""
    area = "prices"
    book, problem = pricing.load(environ.get("TAXIMETER_PRICES_FILE"))
    if problem:
        yield Finding(area, ERROR, problem)
    tables: dict[str, list[int]] = {}
    for table, _, models in book.providers():
        count = tables.setdefault(table.source, [0, 0])
        count[0] += len(models)
        count[1] += 1
    for source, (models_, providers) in tables.items():
        yield Finding(area, OK, f"{source}: {models_} models of {providers} providers")
    priced = {name for _, name, _ in book.providers()}
    known = genai.hosts(environ.get("TAXIMETER_MODEL_HOSTS", ""))
    for variable, name in _BASE_URLS.items():
        host = urlsplit(environ.get(variable, "")).hostname
        if not host:
            continue
        provider = genai.provider(name, host, known)
        if priced.intersection({provider, *pricing.PROVIDERS.get(provider, ())}):
            yield Finding(area, OK, f"{variable}: {host} is priced as {provider}")
        elif provider in {"openrouter", "perplexity"}:
            yield Finding(area, OK, f"{variable}: {host} reports its prices itself")
        else:
            yield Finding(
                *(
                    area,
                    WARNING,
                    f"{variable}: {host} is no provider that is known: its calls are not priced",
                ),
                f"export TAXIMETER_MODEL_HOSTS={host} (if it passes calls on to {name}), or give its prices",
            )


def hash_key(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Where the key of the hashes comes from, and whether replicas would share it. Makes none."""
    area = "evidence"
    make = f"export {hashkey.VARIABLE}=\"$(python -c 'import secrets; print(secrets.token_hex(32))')\""
    given = environ.get(hashkey.VARIABLE, "").strip()
    if len(given) >= hashkey.MIN_LENGTH:
        yield Finding(area, OK, f"hashes by the key of {hashkey.VARIABLE} (id {Hasher(given.encode()).id})")
        return
    if given:
        yield Finding(
            area,
            ERROR,
            f"{hashkey.VARIABLE} has {len(given)} characters, fewer than {hashkey.MIN_LENGTH}: "
            "it is not used",
            make,
        )
    path = hashkey.key_file(environ)
    alone = "replicas that make their own find no duplicates among each other: give all the same"
    if path.exists():
        yield Finding(area, NOTE, f"hashes by the key of {path}, made on this machine; {alone}", make)
    elif os.access(next(folder for folder in path.parents if folder.exists()), os.W_OK):
        yield Finding(area, NOTE, f"a key of hashes will be made in {path}; {alone}", make)
    else:
        yield Finding(
            area,
            WARNING,
            f"no key of hashes: {hashkey.VARIABLE} is not set and {path} cannot be written. Every process "
            "makes its own; duplicates are seen within one process only",
            make,
        )


CHECKS: tuple[Check, ...] = (versions, launcher, libraries, prices, export, hash_key, collector)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _distribution(package: str) -> Distribution | None:
    try:
        return Distribution.from_name(package)
    except PackageNotFoundError:
        return None


def _opentelemetry() -> dict[str, str]:
    """OpenTelemetry's packages and their versions, those that an import would find."""
    found: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"].lower().replace("_", "-")
        if name.startswith("opentelemetry-"):
            found.setdefault(name, each.version)
    return found
