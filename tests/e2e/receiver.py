"""An OTLP/gRPC receiver that shares no code with ours, as a process: generated stubs, and a file.

A process of its own, because gRPC's threads and a test that forks others do not go together.
Every span is one line: trace id, space, span id, in hex.
"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc


def main(port: int, path: Path) -> None:
    """Serve until SIGTERM."""
    lock = threading.Lock()

    class Servicer(service_grpc.TraceServiceServicer):
        def Export(  # noqa: N802  (the protocol's name)
            self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> service.ExportTraceServiceResponse:
            scopes = (scope for resource in request.resource_spans for scope in resource.scope_spans)
            lines = [
                f"{span.trace_id.hex()} {span.span_id.hex()}\n" for scope in scopes for span in scope.spans
            ]
            with lock, path.open("a") as stream:
                stream.writelines(lines)
            return service.ExportTraceServiceResponse()

    options = [("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    service_grpc.add_TraceServiceServicer_to_server(Servicer(), server)  # type: ignore[no-untyped-call]
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(None).wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
