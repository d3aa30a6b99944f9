"""Who may send: credentials and certificates on both sides, and what strangers cannot hold up."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import bcrypt
import grpc
import httpx
import pytest
import trustme
import yaml

from taximeter_collector.config.loader import load
from taximeter_collector.errors import ConfigError
from taximeter_collector.signals import SIGNALS
from tests.collector.support import (
    Collector,
    Config,
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    trace_request,
    wait_for,
)

TRACES = SIGNALS["traces"]


def secure(made: Collector, extensions: Config, **protocols: Config) -> None:
    made.config["extensions"] |= extensions
    made.config["service"]["extensions"] += list(extensions)
    for name, values in protocols.items():
        made.config["receivers"]["otlp"]["protocols"][name] |= values


def export(port: int, payload: bytes, *metadata: tuple[str, str], credentials: Any = None) -> grpc.StatusCode:
    """Send by gRPC; what the server answered."""
    target = f"localhost:{port}"
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel:
        try:
            channel.unary_unary(TRACES.method)(payload, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@contextmanager
def certificates(folder: Path) -> Iterator[dict[str, str]]:
    """Paths: ca, server (certificate and key), client, and a client of another authority."""
    authority, other = trustme.CA(), trustme.CA()
    found = {"ca": str(folder / "ca.pem")}
    authority.cert_pem.write_to_path(found["ca"])
    for name, issuer in (("server", authority), ("client", authority), ("stranger", other)):
        made = issuer.issue_cert("localhost", "127.0.0.1")
        made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        found[name], found[f"{name}_key"] = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    yield found


def test_tokens_are_asked_for_and_refusals_counted(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("first\nsecond  a comment\n")
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        extensions = {"bearertokenauth": {"filename": str(tmp_path / "tokens")}}
        auth = {"auth": {"authenticator": "bearertokenauth"}}
        secure(made, extensions, http=auth, grpc=auth)
        made.start()
        assert made.post(trace_request(0), authorization="Bearer first").status_code == 200
        assert made.post(trace_request(1), authorization="Bearer second").status_code == 200
        for wrong in ("", "Bearer third", "first", "Basic first"):
            answer = made.post(trace_request(2), authorization=wrong)
            assert answer.status_code == 401
        assert httpx.get(made.url("/nothing")).status_code == 401
        port = made.ports["grpc"]
        assert export(port, trace_request(3), ("authorization", "Bearer first")) is grpc.StatusCode.OK
        assert export(port, trace_request(4)) is grpc.StatusCode.UNAUTHENTICATED
        assert export(port, trace_request(4), ("authorization", "no")) is grpc.StatusCode.UNAUTHENTICATED
        name = "taximeter_collector_malformed_requests"
        assert made.own(name, reason="unauthenticated", transport="http") == 5
        assert made.own(name, reason="unauthenticated", transport="grpc") == 2
        assert made.own("otelcol_receiver_accepted_spans") == 3
        (tmp_path / "tokens").write_text("rotated")
        assert made.post(trace_request(5), authorization="Bearer first").status_code == 401
        assert made.post(trace_request(5), authorization="Bearer rotated").status_code == 200
        assert "first" not in made.log()


def test_users_with_plain_and_hashed_passwords(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"ali:{hashed}\nold:{{SHA}}{'W6ph5Mm5Pz8GgiULbPgzG37mj9g='}\nme:x\n")
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        values = {"htpasswd": {"file": str(tmp_path / "htpasswd"), "inline": "me:plain"}}
        secure(made, {"basicauth/server": values}, http={"auth": {"authenticator": "basicauth/server"}})
        made.start()
        right = ("ali:open sesame", "ali:open sesame", "old:password", "me:plain")
        for number, pair in enumerate(right):
            assert made.post(trace_request(number), authorization=basic(pair)).status_code == 200, pair
        for pair in ("ali:open", "me:x", "nobody:plain", "me", ":", "old:W6ph5Mm5Pz8GgiULbPgzG37mj9g="):
            assert made.post(trace_request(9), authorization=basic(pair)).status_code == 401, pair
        assert made.post(trace_request(9), authorization="Basic !").status_code == 401


def test_connections_that_never_end_their_handshake_are_counted_and_ended(tmp_path: Path) -> None:
    with certificates(tmp_path) as files, collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        tls = {"cert_file": files["server"], "key_file": files["server_key"]}
        limits = {"max_connections": 30, "read_header_timeout": "2s"}
        secure(made, {}, http={"tls": tls, **limits}, grpc={"tls": tls, "max_connections": 30})
        made.start()
        trusted = ssl.create_default_context(cafile=files["ca"])
        root = grpc.ssl_channel_credentials(Path(files["ca"]).read_bytes())
        assert made.process is not None
        descriptors = Path(f"/proc/{made.process.pid}/fd")

        def send(number: int) -> bool:
            url = f"https://localhost:{made.ports['http']}/v1/traces"
            headers = {"content-type": "application/x-protobuf"}
            try:
                with httpx.Client(verify=trusted, timeout=5) as client:
                    return client.post(url, content=trace_request(number), headers=headers).is_success
            except httpx.TransportError:
                return False

        assert send(0)
        before = len(list(descriptors.iterdir()))
        with ExitStack() as stack:
            for port in (made.ports["http"], made.ports["grpc"]):
                for number in range(100):
                    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                    with suppress(OSError):
                        one.sendall(b"\x16\x03\x01"[: number % 4])  # as a handshake begins, or nothing
            name = "taximeter_collector_refused_connections"
            wait_for(lambda: made.own(name, reason="connections") >= 70, "connections beyond 30 are closed")
            assert len(list(descriptors.iterdir())) - before <= 70
            wait_for(lambda: made.own(name, reason="handshake") >= 30, "slow handshakes end")
            assert send(1), "good data while the strangers are still there"
        port = made.ports["grpc"]
        wait_for(
            lambda: export(port, trace_request(2), credentials=root) is grpc.StatusCode.OK, "gRPC again", 40
        )
        assert made.own("otelcol_receiver_accepted_spans") == 3


@pytest.mark.parametrize("kind", ["otlp_grpc", "otlp_http"])
def test_one_collector_proves_itself_to_another(tmp_path: Path, kind: str) -> None:
    """Mutual TLS and a password; then without either."""
    with certificates(tmp_path) as files, GrpcBackend(port := free_port()) as backend:
        (tmp_path / "near").mkdir()
        (tmp_path / "far").mkdir()
        protocol = kind.removeprefix("otlp_")
        far_exporters = {"otlp_grpc": backend_exporter(port)}
        with collector(tmp_path / "far", far_exporters, {"traces": ["otlp_grpc"]}) as far:
            tls = {
                "cert_file": files["server"],
                "key_file": files["server_key"],
                "client_ca_file": files["ca"],
            }
            auth = {"authenticator": "basicauth"}
            extensions = {"basicauth": {"htpasswd": {"inline": "near:pass"}}}
            secure(far, extensions, **{protocol: {"tls": tls, "auth": auth}})
            far.start()
            scheme = "https://" if protocol == "http" else ""
            exporter: dict[str, Any] = {
                "endpoint": f"{scheme}localhost:{far.ports[protocol]}",
                "tls": {
                    "ca_file": files["ca"],
                    "cert_file": files["client"],
                    "key_file": files["client_key"],
                },
                "auth": auth,
                "retry_on_failure": {"initial_interval": "100ms", "max_interval": "200ms"},
            }
            with collector(tmp_path / "near", {kind: exporter}, {"traces": [kind]}) as near:
                client = {"client_auth": {"username": "near", "password": "pass"}}
                secure(near, {"basicauth": client})
                near.start()
                assert near.post(trace_request(0, 5)).status_code == 200
                wait_for(lambda: len(backend.received.span_names()) == 5, "five spans through both")
                assert near.stop() == 0
                exporter["tls"] |= {"cert_file": files["stranger"], "key_file": files["stranger_key"]}
                near.start()
                assert near.post(trace_request(5, 5)).status_code == 200
                wait_for(lambda: near.own("taximeter_collector_export_retries") > 0, "a refused handshake")
                assert len(backend.received.span_names()) == 5
                near.kill()
                exporter["tls"] |= {"cert_file": files["client"], "key_file": files["client_key"]}
                near.config["extensions"]["basicauth"]["client_auth"]["password"] = "wrong"
                near.start()  # the spans it still has are refused for good: dead letters
                wait_for(lambda: near.own("taximeter_collector_dead_letters") == 1, "a letter")
            if protocol == "http":
                context = ssl.create_default_context(cafile=files["ca"])
                with pytest.raises(httpx.TransportError):
                    httpx.post(f"https://localhost:{far.ports['http']}/v1/traces", verify=context)
                context.load_cert_chain(files["client"], files["client_key"])
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                answer = httpx.post(f"https://localhost:{far.ports['http']}/v1/traces", verify=context)
                assert answer.status_code == 401


def test_slow_senders_and_too_many_connections_are_closed(tmp_path: Path) -> None:
    bounds = {"read_header_timeout": "300ms", "read_timeout": "500ms", "max_connections": 5}
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}, http=bounds) as made:
        made.start()
        address = ("127.0.0.1", made.ports["http"])

        def ends(sent: bytes, drip: bytes) -> float:
            begun = time.monotonic()
            with socket.create_connection(address) as slow:
                slow.sendall(sent)
                while time.monotonic() - begun < 20:
                    try:
                        slow.sendall(drip)
                        slow.settimeout(0.05)
                        if not slow.recv(100):
                            break
                    except TimeoutError:
                        continue
                    except OSError:
                        break
            return time.monotonic() - begun

        head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        for sent, drip in (
            (b"", b""),
            (b"POST /", b"x"),
            (head, b"a: b\r\n"),
            (head + b"content-length: 1000000\r\n\r\n", b"x"),
            (head, b"x" * 50_000),  # an endless header
        ):
            assert ends(sent, drip) < 15
        name = "taximeter_collector_refused_connections"
        assert made.own(name, reason="slow") == 4
        assert made.own(name, reason="header_size") == 1
        held = [socket.create_connection(address) for _ in range(20)]
        try:
            wait_for(lambda: made.own(name, reason="connections") >= 15, "the rest is turned away")
        finally:
            for connection in held:
                connection.close()
        wait_for(lambda: made.post(trace_request(0)).status_code == 200, "room for an honest sender")


def test_grpc_connections_are_bounded_too(tmp_path: Path) -> None:
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}, grpc={"max_connections": 4}) as made:
        made.start()
        held = [socket.create_connection(("127.0.0.1", made.ports["grpc"])) for _ in range(12)]
        closed = 0
        for connection in held:
            connection.settimeout(0.5)
            try:
                closed += not connection.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                closed += 1
        for connection in held:
            connection.close()
        assert closed >= 8
        wait_for(
            lambda: export(made.ports["grpc"], trace_request(0)) is grpc.StatusCode.OK, "an honest sender"
        )


GOOD = """
receivers: {otlp: {protocols: {http: }}}
exporters: {debug: , otlp: {endpoint: 'x:1'}}
extensions:
  bearertokenauth: {token: x}
  basicauth/server: {htpasswd: {inline: 'a:b'}}
  basicauth/client: {client_auth: {username: a, password: b}}
service:
  extensions: [bearertokenauth, basicauth/server, basicauth/client]
  pipelines: {traces: {receivers: [otlp], exporters: [debug, otlp]}}
"""
HTTP = "receivers: {otlp: {protocols: {http: {%s}}}}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            HTTP % "auth: {authenticator: nope}",
            "auth.authenticator: `nope` is no authenticator under extensions",
        ),
        (HTTP % "auth: {}", "http.auth.authenticator: is required"),
        (HTTP % "auth: {authenticator: basicauth/client}", "has no htpasswd, which a receiver needs"),
        ("exporters: {otlp: {auth: {authenticator: basicauth/server}}}", "has no client_auth, which an exp"),
        ("extensions: {bearertokenauth: {token: '', filename: ''}}", "bearertokenauth.token: is required"),
        ("extensions: {bearertokenauth: {tokens: [a]}}", "tokens: give either token or tokens"),
        ("extensions: {basicauth/x: {}}", "basicauth/x: give either htpasswd (for receivers) or client_auth"),
        ("extensions: {basicauth/x: {client_auth: {username: a}}}", "client_auth.password: is required"),
        ("service: {extensions: []}\n" + HTTP % "auth: {authenticator: bearertokenauth}", "is not started"),
        (HTTP % "tls: {cert_file: a}", "http.tls.key_file: is required: certificate and key come together"),
        (HTTP % "tls: {}", "http.tls.cert_file: is required"),
        (HTTP % "tls: {cert_file: a, key_file: b, min_version: '1.1'}", "'1.1' is not one of 1.2, 1.3"),
        (
            HTTP % "tls: {cert_file: a, key_file: b, min_version: '1.3', max_version: '1.2'}",
            "tls.min_version: 1.3 is above max_version",
        ),
        (
            "receivers: {otlp: {protocols: {grpc: {tls: {cert_file: a, key_file: b, min_version: '1.3'}}}}}",
            "grpc.tls.min_version: gRPC here speaks 1.2 and 1.3",
        ),
        ("exporters: {otlp: {tls: {ca_pem: x}}}", "the official collector has `ca_pem` here"),
    ],
)
def test_what_cannot_protect_is_refused(tmp_path: Path, change: str, message: str) -> None:
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path, text in zip(paths, (GOOD, change), strict=True):
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(paths, {})
    assert message in str(caught.value)


def test_what_is_open_to_strangers_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"

    def notes(**http: Any) -> str:
        document = yaml.safe_load(GOOD)
        document["receivers"]["otlp"]["protocols"]["http"] = http
        path.write_text(yaml.safe_dump(document))
        return "\n".join(load([path], {}).notes)

    assert "takes telemetry from anybody" in notes(endpoint="0.0.0.0:4318")
    assert "takes telemetry from anybody" not in notes(endpoint="127.0.0.1:4318")
    assert "takes telemetry from anybody" not in notes()
    auth = {"authenticator": "bearertokenauth"}
    assert "cross the network in the clear" in notes(endpoint="10.0.0.1:4318", auth=auth)
    tls = {"cert_file": "a", "key_file": "b"}
    assert notes(endpoint="10.0.0.1:4318", auth=auth, tls=tls).count("protocols.http") == 0
    tls["client_ca_file"] = "c"
    assert notes(endpoint=":4318", tls=tls).count("protocols.http") == 0


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        tls = {"cert_file": str(tmp_path / "no.pem"), "key_file": str(tmp_path / "no.key")}
        secure(made, {}, grpc={"tls": tls})
        made.start(wait=False)
        assert made.process is not None
        assert made.process.wait(30) == 2
        assert "receivers.otlp.protocols.grpc.tls.cert_file: " in made.log()
