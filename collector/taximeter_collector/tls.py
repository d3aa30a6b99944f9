"""Certificates from files to what ssl and gRPC want; an unreadable one is named with its key."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from taximeter_collector.errors import ConfigError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(tls: Mapping[str, Any], path: str) -> ssl.SSLContext:
    """For an HTTP server; with ``client_ca_file`` only clients with a certificate of that CA are let in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _versions(context, tls)
    context.set_alpn_protocols(["http/1.1"])
    _chain(context, tls, path)
    if tls["client_ca_file"]:
        _authorities(context, tls, "client_ca_file", path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Mapping[str, Any], path: str) -> ssl.SSLContext:
    """For a client of HTTP or gRPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _versions(context, tls)
    if tls["insecure_skip_verify"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls["ca_file"]:
        _authorities(context, tls, "ca_file", path)
    if not tls["ca_file"] or tls["include_system_ca_certs_pool"]:
        context.load_default_certs()
    if tls["cert_file"]:
        _chain(context, tls, path)
    return context


def grpc_server(tls: Mapping[str, Any], path: str) -> Any:
    """Server credentials; gRPC speaks TLS 1.2 and 1.3."""
    server_context(tls, path)  # gRPC takes a wrong certificate without a word
    pair = (_content(tls, "key_file", path), _content(tls, "cert_file", path))
    authority = _content(tls, "client_ca_file", path) if tls["client_ca_file"] else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _versions(context: ssl.SSLContext, tls: Mapping[str, Any]) -> None:
    context.minimum_version = _VERSIONS[tls["min_version"]]
    context.maximum_version = _VERSIONS[tls["max_version"]]


def _chain(context: ssl.SSLContext, tls: Mapping[str, Any], path: str) -> None:
    for key in ("cert_file", "key_file"):
        _content(tls, key, path)
    try:
        context.load_cert_chain(tls["cert_file"], tls["key_file"], password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{path}.cert_file: {tls['cert_file']} and its key do not work ({error})"
        ) from error


def _authorities(context: ssl.SSLContext, tls: Mapping[str, Any], key: str, path: str) -> None:
    _content(tls, key, path)
    try:
        context.load_verify_locations(tls[key])
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{path}.{key}: {tls[key]} holds no usable certificate ({error})") from error


def _content(tls: Mapping[str, Any], key: str, path: str) -> bytes:
    try:
        return Path(tls[key]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}.{key}: {tls[key]} cannot be read ({error.strerror})") from error
