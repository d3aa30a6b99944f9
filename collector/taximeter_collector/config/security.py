"""The keys of TLS and of the authenticators, and what of them fits together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taximeter_collector.config.fields import Key, Section, boolean, names, nearest, one_of, text
from taximeter_collector.errors import ConfigError

if TYPE_CHECKING:
    from taximeter_collector.config.loader import CollectorConfig, Component

_LOOPBACK = ("localhost", "::1")
_VERSIONS = one_of("1.2", "1.3")
_OLD = "officially also 1.0 and 1.1, which nobody should speak any more"
_OLD_SERVER = f"{_OLD}; over gRPC both are spoken"
_TLS_OFFICIAL = (
    "ca_pem", "cert_pem", "key_pem", "cipher_suites", "reload_interval", "curve_preferences", "tpm",
    "include_insecure_cipher_suites",
)  # fmt: skip

TLS_CLIENT = Section(
    {
        "insecure": Key(boolean, False),
        "insecure_skip_verify": Key(boolean, False),
        "ca_file": Key(text),
        "include_system_ca_certs_pool": Key(boolean, False),
        "cert_file": Key(text),
        "key_file": Key(text),
        "min_version": Key(_VERSIONS, "1.2", differs=_OLD),
        "max_version": Key(_VERSIONS, "1.3", differs=_OLD),
        "server_name_override": Key(text),
    },
    official=_TLS_OFFICIAL,
)
TLS_SERVER = Section(
    {
        "cert_file": Key(text),
        "key_file": Key(text),
        "client_ca_file": Key(text),
        "min_version": Key(_VERSIONS, "1.2", differs=_OLD_SERVER),
        "max_version": Key(_VERSIONS, "1.3", differs=_OLD_SERVER),
    },
    official=(*_TLS_OFFICIAL, "ca_file", "client_ca_file_reload", "include_system_ca_certs_pool"),
    optional=True,
)
AUTH = Section({"authenticator": Key(text)}, official=("request_params",), optional=True)

BEARER = Section(
    {
        "header": Key(text, "Authorization"),
        "scheme": Key(text, "Bearer"),
        "token": Key(text, ""),
        "tokens": Key(names, []),
        "filename": Key(text, ""),
    }
)
BASIC = Section(
    {
        "htpasswd": Section({"file": Key(text, ""), "inline": Key(text, "")}, optional=True),
        "client_auth": Section(
            {
                "username": Key(text, ""),
                "username_file": Key(text, ""),
                "password": Key(text, ""),
                "password_file": Key(text, ""),
            },
            official=("aws_secrets_manager",),
            optional=True,
        ),
    }
)
AUTHENTICATORS = ("bearertokenauth", "basicauth")


def check_extension(type_: str, values: dict[str, Any], path: str) -> None:
    """What an authenticator needs, whoever uses it."""
    if type_ == "bearertokenauth":
        if not (values["token"] or values["tokens"] or values["filename"]):
            raise ConfigError(f"{path}.token: is required, or tokens, or filename")
        if values["token"] and values["tokens"]:
            raise ConfigError(f"{path}.tokens: give either token or tokens")
    elif type_ == "basicauth":
        server, client = values["htpasswd"], values["client_auth"]
        if bool(server) == bool(client):
            raise ConfigError(f"{path}: give either htpasswd (for receivers) or client_auth (for exporters)")
        if server and not (server["file"] or server["inline"]):
            raise ConfigError(f"{path}.htpasswd.file: is required, or inline")
        for key in ("username", "password") if client else ():
            if not (client[key] or client[f"{key}_file"]):
                raise ConfigError(f"{path}.client_auth.{key}: is required, or {key}_file")


def check_tls(values: dict[str, Any], path: str, *, grpc: bool = False) -> None:
    """Pairs of files, versions in order, and what a gRPC receiver cannot be told."""
    if bool(values["cert_file"]) != bool(values["key_file"]):
        missing = "key_file" if values["cert_file"] else "cert_file"
        raise ConfigError(f"{path}.{missing}: is required: certificate and key come together")
    if values["min_version"] > values["max_version"]:
        raise ConfigError(f"{path}.min_version: {values['min_version']} is above max_version")
    if grpc:
        for key, only in (("min_version", "1.2"), ("max_version", "1.3")):
            if values[key] != only:
                raise ConfigError(f"{path}.{key}: gRPC here speaks 1.2 and 1.3 and cannot be told otherwise")


def check(config: CollectorConfig) -> None:
    """Cross-references, once everything is read; adds notes about what is open to strangers."""
    for path, _, values in _secured(config):
        server = path.startswith("receivers.")
        if values.get("auth"):
            _check_reference(config, values["auth"]["authenticator"], f"{path}.auth.authenticator", server)
        if not values.get("tls"):
            continue
        if server and not values["tls"]["cert_file"]:
            raise ConfigError(f"{path}.tls.cert_file: is required")
        check_tls(values["tls"], f"{path}.tls", grpc=path.endswith(".grpc"))
    used = {name for pipeline in config.pipelines for name in pipeline.receivers}
    for path, component, values in _secured(config):
        if component.id in used and path.startswith("receivers."):
            certified = values["tls"] and values["tls"]["client_ca_file"]
            if not values["auth"] and not certified and not loopback(values["endpoint"]):
                config.notes.append(
                    f"{path}.endpoint: {values['endpoint']} takes telemetry from anybody who reaches it: set "
                    "auth or tls.client_ca_file, or listen on localhost"
                )
            elif values["auth"] and not values["tls"] and not loopback(values["endpoint"]):
                config.notes.append(
                    f"{path}.tls: is not set: the credentials that {values['endpoint']} asks for cross the "
                    "network in the clear"
                )


def loopback(endpoint: str) -> bool:
    """Whether ``host:port`` is reached from this machine only."""
    host = endpoint.rpartition(":")[0].strip("[]")
    return host in _LOOPBACK or host.startswith("127.")


def _secured(config: CollectorConfig) -> Iterator[tuple[str, Component, dict[str, Any]]]:
    for receiver in config.receivers.values():
        for name, protocol in receiver.values["protocols"].items():
            if protocol:
                yield f"receivers.{receiver.id}.protocols.{name}", receiver, protocol
    for exporter in config.exporters.values():
        yield f"exporters.{exporter.id}", exporter, exporter.values


def _check_reference(config: CollectorConfig, name: str | None, path: str, server: bool) -> None:
    if not name:
        raise ConfigError(f"{path}: is required")
    extension = config.extensions.get(name)
    known = [e.id for e in config.extensions.values() if e.type in AUTHENTICATORS]
    if extension is None or extension.type not in AUTHENTICATORS:
        raise ConfigError(f"{path}: `{name}` is no authenticator under extensions; {nearest(name, known)}")
    if name not in config.active_extensions:
        raise ConfigError(f"{path}: `{name}` is not started: name it in service.extensions")
    wanted = "htpasswd" if server else "client_auth"
    if extension.type == "basicauth" and not extension.values[wanted]:
        raise ConfigError(
            f"{path}: `{name}` has no {wanted}, which {'a receiver' if server else 'an exporter'} needs"
        )
