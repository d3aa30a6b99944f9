"""OTLP over gRPC, with raw-bytes handlers: the message is decoded once, by the intake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from taximeter_collector import tls
from taximeter_collector.auth import Authenticator
from taximeter_collector.errors import Refusal, StartError
from taximeter_collector.listen import bind
from taximeter_collector.receive.intake import Intake, rpc_status, unauthenticated
from taximeter_collector.signals import Signal

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class _Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses before the message is read."""

    def __init__(self, intake: Intake, authenticator: Authenticator) -> None:
        self._intake, self._authenticator = intake, authenticator

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        headers = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        why = await self._authenticator.refuse(headers)
        if not why:
            return await continuation(details)
        refusal = self._intake.refused(unauthenticated(why), "grpc")

        async def deny(payload: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal.message)
            raise refusal  # abort has raised already

        return grpc.unary_unary_rpc_method_handler(deny)


class GrpcReceiver:
    """One gRPC server; signals that no pipeline takes answer UNIMPLEMENTED, as officially."""

    def __init__(
        self, intake: Intake, values: Mapping[str, Any], path: str, authenticator: Authenticator | None = None
    ) -> None:
        self._intake = intake
        self._endpoint: str = values["endpoint"]
        self._path = f"{path}.endpoint"
        self._values = values
        self._credentials = tls.grpc_server(values["tls"], f"{path}.tls") if values["tls"] else None
        self._authenticator = authenticator
        self._server: Any = None

    async def start(self) -> None:
        # gRPC reports every failure to bind with the same words, so a plain socket asks first.
        probe = bind(self._endpoint, self._path)
        address = probe.getsockname()
        probe.close()
        self._server = grpc.aio.server(
            interceptors=[_Gate(self._intake, self._authenticator)] if self._authenticator else [],
            options=[
                # Counts decompressed bytes too, so it bounds compression bombs as well.
                ("grpc.max_receive_message_length", self._values["max_recv_msg_size_mib"] << 20),
                ("grpc.max_concurrent_streams", self._values["max_concurrent_streams"] or 2**31 - 1),
                ("grpc.max_allowed_incoming_connections", self._values["max_connections"]),
                ("grpc.server_handshake_timeout_ms", 20_000),
                ("grpc.so_reuseport", 0),  # else two collectors would share the port in silence
            ],
        )
        for signal in self._intake.signals:
            method = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            handlers = grpc.method_handlers_generic_handler(signal.service, {"Export": method})
            self._server.add_generic_rpc_handlers((handlers,))
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        try:
            where = f"{host}:{address[1]}"
            if self._credentials is None:
                self._server.add_insecure_port(where)
            else:
                self._server.add_secure_port(where, self._credentials)
        except RuntimeError as error:
            raise StartError(f"{self._path}: {self._endpoint} cannot be listened on ({error})") from error
        await self._server.start()

    def _handler(self, signal: Signal) -> Handler:
        async def export(payload: bytes, context: Any) -> bytes:
            try:
                return await self._intake.accept(signal, payload, "grpc")
            except Refusal as refusal:
                code = grpc.StatusCode.UNAVAILABLE if refusal.retryable else grpc.StatusCode.INVALID_ARGUMENT
                details = ("grpc-status-details-bin", rpc_status(refusal).SerializeToString())
                await context.abort(code, refusal.message, (details,))
                raise  # abort has raised already

        return export

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=3)
