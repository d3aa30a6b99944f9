"""Processors that change requests: prices for foreign dialects, and the official attribute actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.config.actions import actions
from taximeter_collector.errors import ConfigError
from taximeter_collector.log import Row
from taximeter_collector.process.attributes import Attributes, Resource
from taximeter_collector.process.chain import Chain, Processor
from taximeter_collector.process.pricing import Pricing
from taximeter_collector.signals import SIGNALS
from taximeter_collector.values import plain
from tests.collector.support import collector, set_value, span_store, trace_request, wait_for

JULY_2026 = 1_782_900_000 * 10**9


def request(*spans: dict[str, Any]) -> Any:
    """Spans given by their attributes; ``parent`` is the number of another, from 1."""
    made = trace_service_pb2.ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for number, attributes in enumerate(spans, 1):
        span = scope.spans.add(trace_id=bytes(16), span_id=number.to_bytes(8), end_time_unix_nano=JULY_2026)
        for key, value in attributes.items():
            if key == "parent":
                span.parent_span_id = value.to_bytes(8)
            else:
                set_value(span.attributes.add(key=key).value, value)
    return made


def priced(*spans: dict[str, Any], prices_file: str = "") -> list[tuple[float | None, str | None]]:
    """(amount, why there is none) that the processor adds to each span."""
    made = request(*spans)
    Pricing("pricing", {"prices_file": prices_file, "hosts": {"gateway": ""}}).change(made)
    found = []
    for span in made.resource_spans[0].scope_spans[0].spans:
        about = {pair.key: plain(pair.value) for pair in span.attributes}
        found.append((about.get("taximeter.cost.amount"), about.get("taximeter.cost.unpriced")))
    return found


OPENLLMETRY: dict[str, str | int] = {
    "gen_ai.system": "OpenAI",
    "llm.request.type": "chat",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.prompt_tokens": 1000,
    "gen_ai.usage.completion_tokens": 100,
    "gen_ai.usage.cache_read_input_tokens": 400,
}
#: gpt-4o: 2.50 in, 1.25 cached, 10.00 out, USD per million.
GPT_4O = (600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (OPENLLMETRY, GPT_4O),
        (
            {
                "openinference.span.kind": "LLM",
                "llm.provider": "openai",
                "llm.model_name": "gpt-4o",
                "llm.token_count.prompt": 1000,
                "llm.token_count.completion": 100,
                "llm.token_count.prompt_details.cache_read": 400,
            },
            GPT_4O,
        ),
        (
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.provider": "openai.chat",
                "ai.model.id": "gpt-4o",
                "ai.usage.promptTokens": 1000,
                "ai.usage.completionTokens": 100,
            },
            (1000 * 2.5 + 100 * 10) / 1e6,
        ),
        (
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "text-embedding-3-small",
                "gen_ai.usage.input_tokens": 5000,
            },
            5000 * 0.02 / 1e6,
        ),
    ],
)
def test_dialects_are_priced(span: dict[str, Any], expected: float) -> None:
    [(amount, reason)] = priced(span)
    assert amount == pytest.approx(expected, rel=1e-12)
    assert reason is None


def test_a_price_that_came_is_kept_and_an_unknown_one_is_absent_with_its_reason() -> None:
    known = {**OPENLLMETRY, "gen_ai.usage.cost.amount": 1.0}
    unknown = {**OPENLLMETRY, "gen_ai.response.model": "gpt-99"}
    silent = {k: v for k, v in OPENLLMETRY.items() if "usage" not in k}
    assert priced(known, unknown, silent, {"db.query.text": "gen_ai."}) == [
        (None, None),
        (None, "unknown_model"),
        (None, "no_usage"),
        (None, None),
    ]


def test_an_unknown_host_has_no_price_unless_it_is_said_who_serves_there() -> None:
    found = priced(
        {**OPENLLMETRY, "server.address": "elsewhere"}, {**OPENLLMETRY, "server.address": "gateway"}
    )
    assert found == [(None, "unknown_model"), (pytest.approx(GPT_4O), None)]


def test_one_call_told_by_two_nested_spans_is_priced_once() -> None:
    other = {**OPENLLMETRY, "gen_ai.usage.prompt_tokens": 7}
    found = priced(OPENLLMETRY, {**OPENLLMETRY, "parent": 1}, {**other, "parent": 1})
    assert [amount is not None for amount, _ in found] == [True, False, True]


def test_contract_prices_win_and_a_bad_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(
        '{"version": 1, "source": "contract", "providers": {"openai": {"models": [{"id": "gpt-4o", '
        '"input": 1.0, "output": 1.0, "cache_read": 1.0}]}}}'
    )
    [(amount, _)] = priced({**OPENLLMETRY, "gen_ai.response.model": "gpt-4o"}, prices_file=str(path))
    assert amount == pytest.approx(1100 / 1e6)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"processors.pricing.prices_file: .*prices.json"):
        Pricing("pricing", {"prices_file": str(path), "hosts": {}})


def test_a_foreign_service_is_priced_in_the_store(tmp_path: Path) -> None:
    with collector(tmp_path, {"span_store": span_store(tmp_path)}, {"traces": ["span_store"]}) as made:
        made.config["processors"] = {
            "pricing": None,
            "resource": {"attributes": [{"key": "service.version", "action": "upsert", "value": "v2"}]},
        }
        made.config["service"]["pipelines"]["traces"]["processors"] = ["pricing", "resource"]
        made.start()
        assert made.post(trace_request(0, 3, **OPENLLMETRY)).status_code == 200
        wait_for(lambda: list((tmp_path / "store" / "spans").glob("*.parquet")), "a segment")
        query = f"SELECT cost_usd, version, ai_provider FROM '{tmp_path}/store/spans/*.parquet'"
        rows = duckdb.connect().execute(query).fetchall()
        assert rows == [(pytest.approx(GPT_4O), "v2", "OpenAI")] * 3
        assert made.stop() == 0


def acted(processor: type[Attributes], given: list[dict[str, Any]], **attributes: Any) -> dict[str, Any]:
    made = request(attributes)
    for key, value in attributes.items():
        set_value(made.resource_spans[0].resource.attributes.add(key=key).value, value)
    processor(actions(given, "actions")).change(made)
    group = made.resource_spans[0]
    holder = group.resource if processor is Resource else group.scope_spans[0].spans[0]
    return {pair.key: plain(pair.value) for pair in holder.attributes}


@pytest.mark.parametrize("processor", [Attributes, Resource])
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"key": "a", "action": "insert", "value": 9}, {"a": 1, "b": "x"}),
        ({"key": "c", "action": "insert", "value": 9.5}, {"a": 1, "b": "x", "c": 9.5}),
        ({"key": "a", "action": "update", "value": True}, {"a": True, "b": "x"}),
        ({"key": "c", "action": "update", "value": 9}, {"a": 1, "b": "x"}),
        ({"key": "a", "action": "upsert", "value": "t"}, {"a": "t", "b": "x"}),
        ({"key": "c", "action": "upsert", "from_attribute": "b"}, {"a": 1, "b": "x", "c": "x"}),
        ({"key": "c", "action": "upsert", "from_attribute": "z"}, {"a": 1, "b": "x"}),
        ({"key": "a", "action": "delete"}, {"b": "x"}),
        ({"pattern": "^[ab]$", "action": "delete"}, {}),
        (
            {"key": "b", "action": "hash"},
            {"a": 1, "b": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
        ),
    ],
)
def test_actions(processor: type[Attributes], action: dict[str, Any], expected: dict[str, Any]) -> None:
    assert acted(processor, [action], a=1, b="x") == expected


def test_actions_reach_points_and_log_records() -> None:
    added = [{"key": "k", "action": "insert", "value": "v"}]
    metrics = metrics_service_pb2.ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points.add()
    logs = logs_service_pb2.ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add()
    processor = Attributes(actions(added, "p"))
    processor.change(metrics)
    processor.change(logs)
    assert b"\n\x01k" in metrics.SerializeToString()
    assert b"\n\x01k" in logs.SerializeToString()


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"key": "a"}, r"p\[0\].action: is required"),
        ({"action": "delete"}, r"p\[0\].key: is required"),
        ({"key": "a", "action": "insert"}, r"p\[0\].value: give one of value and from_attribute"),
        ({"key": "a", "action": "extract"}, "the official collector has `extract`"),
        ({"key": "a", "action": "upset", "value": 1}, "is not one of insert"),
        ({"key": "a", "action": "insert", "value": 1, "pattern": "x"}, "belongs to delete and hash"),
        ({"pattern": "(", "action": "delete"}, "no regular expression"),
    ],
)
def test_a_wrong_action_is_named_with_its_place(action: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        actions([action], "p")


def test_what_concerns_nobody_is_not_touched_and_a_failure_passes_the_request_on() -> None:
    class Broken(Processor):
        def change(self, request: Any) -> None:
            raise ValueError("no")

    row = Row(1, 1, 1, trace_request(1))
    assert Chain([Pricing("pricing", {"prices_file": "", "hosts": {}})], SIGNALS["traces"]).row(row) is row
    assert Chain([Broken()], SIGNALS["traces"]).row(row) is row
