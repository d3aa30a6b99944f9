"""OTLP over gRPC, with raw-bytes handlers: the message is decoded once, by the intake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from taximeter_collector.errors import Refusal, StartError
from taximeter_collector.listen import bind
from taximeter_collector.receive.intake import Intake, rpc_status
from taximeter_collector.signals import Signal

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcReceiver:
    """One gRPC server; signals that no pipeline takes answer UNIMPLEMENTED, as officially."""

    def __init__(self, intake: Intake, endpoint: str, max_message_mib: int, path: str) -> None:
        self._intake = intake
        self._endpoint = endpoint
        self._path = path
        self._max_bytes = max_message_mib << 20
        self._server: Any = None

    async def start(self) -> None:
        # gRPC reports every failure to bind with the same words, so a plain socket asks first.
        probe = bind(self._endpoint, self._path)
        address = probe.getsockname()
        probe.close()
        self._server = grpc.aio.server(
            options=[
                # Counts decompressed bytes too, so it bounds compression bombs as well.
                ("grpc.max_receive_message_length", self._max_bytes),
                ("grpc.so_reuseport", 0),  # else two collectors would share the port in silence
            ]
        )
        for signal in self._intake.signals:
            method = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            handlers = grpc.method_handlers_generic_handler(signal.service, {"Export": method})
            self._server.add_generic_rpc_handlers((handlers,))
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        try:
            self._server.add_insecure_port(f"{host}:{address[1]}")
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
