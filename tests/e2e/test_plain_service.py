"""Somebody else's ten-line service, with no code change; and an unmodified SDK, by gRPC and by HTTP."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from examples.demo import ledgers
from examples.demo.stack import running_stack
from taximeter_analysis import Filters, open_store
from taximeter_analysis import report as make_report
from taximeter_cli.supervise import Spec, free_port, port_open
from tests.e2e import harness

pytestmark = pytest.mark.e2e

PLAIN = textwrap.dedent("""
    from fastapi import FastAPI
    from openai import AsyncOpenAI

    app, client = FastAPI(), AsyncOpenAI()

    @app.get("/ask/{topic}")
    async def ask(topic: str) -> str | None:
        prompt = [{"role": "user", "content": f"Tell me about {topic}"}]
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=prompt)
        return answer.choices[0].message.content
""")


def test_ten_lines_are_traced_and_priced_and_any_sdk_reaches_the_collector(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    with running_stack(scale="small", latency_scale=0.05) as stack:
        stack.supervisor.stop("service")
        stack.reset_ledgers()
        port = free_port()
        instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
        argv = [instrument, str(Path(sys.executable).with_name("uvicorn")), "plain:app", "--port", str(port)]
        environment = {
            **stack.provider_env,
            "OTEL_SERVICE_NAME": "plain",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_http}",
        }
        stack.supervisor.start(Spec("plain", argv, env=environment, cwd=tmp_path, healthy=port_open(port)))
        for topic in ("pools", "breakfast", "parking"):
            assert harness.client.get(f"http://127.0.0.1:{port}/ask/{topic}").status_code == 200
        stack.supervisor.stop("plain")

        grpc = GrpcExporter(endpoint=f"http://127.0.0.1:{stack.ports.otlp_grpc}", insecure=True)
        http = HttpExporter(endpoint=f"http://127.0.0.1:{stack.ports.otlp_http}/v1/traces")
        for name, exporter in (("by-grpc", grpc), ("by-http", http)):
            provider = TracerProvider(resource=Resource({"service.name": name}))
            provider.add_span_processor(BatchSpanProcessor(exporter))
            for _ in range(50):
                with provider.get_tracer("test").start_as_current_span("work"):
                    pass
            provider.shutdown()
        stack.drain()

        with open_store(stack.store) as store:
            counts = dict(store.rows("SELECT service, count(*) FROM spans GROUP BY 1"))
            told = make_report(store, Filters(service="plain"))
        assert counts["by-grpc"] == counts["by-http"] == 50
        spent = sum(float(line["cost_usd"]) for line in ledgers.read_lines(stack.provider_ledger))
        assert spent > 0
        [route] = told.routes
        assert (route.label, route.usage.requests, route.usage.model_calls) == ("GET /ask/{topic}", 3, 3)
        assert route.usage.cost_usd == pytest.approx(spent, rel=1e-9)
