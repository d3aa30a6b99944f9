"""What is dropped, sampled, masked and written to files: by hand, and beside the official collector."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.config.fields import Notes, read_section
from taximeter_collector.config.loader import load
from taximeter_collector.config.shaping import FILTER, PROBABILISTIC_SAMPLER, REDACTION
from taximeter_collector.errors import ConfigError
from taximeter_collector.log import Row
from taximeter_collector.process.chain import Chain
from taximeter_collector.process.filter import Filter
from taximeter_collector.process.head_sampling import HeadSampler, threshold_of
from taximeter_collector.process.redaction import Redaction
from taximeter_collector.process.tail_sampling import adjusted_count
from taximeter_collector.receive.encoding import from_json
from taximeter_collector.signals import SIGNALS
from taximeter_collector.values import plain
from tests.collector.support import collector, free_port, set_value, wait_for
from tests.collector.test_span_metrics import official

MS = 10**6
#: span name -> attributes
SPANS: dict[str, dict[str, str | int | float | bool]] = {
    "health": {"http.route": "/health", "http.response.status_code": 200},
    "chat": {"http.route": "/chat", "http.response.status_code": 500, "cost": 0.25},
    "probe": {"user_agent.original": "kube-probe/1.30", "synthetic": True},
    "db": {"db.system.name": "postgresql", "rows": 3},
    "bare": {},
}


def spans() -> Any:
    made = trace_service_pb2.ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    set_value(resource.resource.attributes.add(key="service.name").value, "shop")
    scope = resource.scope_spans.add()
    scope.scope.name = "lib"
    for number, (name, attributes) in enumerate(SPANS.items(), 1):
        span = scope.spans.add(trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name=name)
        span.kind = (number % 5) + 1  # type: ignore[assignment]
        span.status.code = number % 3  # type: ignore[assignment]
        span.start_time_unix_nano = 10**18
        span.end_time_unix_nano = 10**18 + number * 10 * MS
        for key, value in attributes.items():
            set_value(span.attributes.add(key=key).value, value)
        span.events.add(name="exception" if number % 2 else "log")
    return made


def names(request: Any) -> list[str]:
    return [s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]


def filtering(**values: Any) -> Filter:
    return Filter("filter", read_section(FILTER, values, "filter", Notes()))


#: condition -> the spans it is true of
CONDITIONS: list[tuple[str, set[str]]] = [
    ('attributes["http.route"] == "/health"', {"health"}),
    ('span.attributes["http.route"] == "/health" or name == "bare"', {"health", "bare"}),
    ('attributes["http.response.status_code"] >= 500', {"chat"}),
    ('attributes["http.response.status_code"] < 500.5', {"health", "chat"}),
    ('attributes["http.response.status_code"] == 200.0', {"health"}),
    ('attributes["http.response.status_code"] == "200"', set()),
    ('attributes["http.route"] != nil', {"health", "chat"}),
    ('attributes["http.route"] == nil', {"probe", "db", "bare"}),
    ('attributes["synthetic"] == true', {"probe"}),
    ('attributes["cost"] > 0.2 and status.code == STATUS_CODE_ERROR', {"chat"}),
    ('IsMatch(name, "^(db|bare)$")', {"db", "bare"}),
    ('IsMatch(attributes["user_agent.original"], "kube-probe.*")', {"probe"}),
    ("not (kind == SPAN_KIND_SERVER or kind == SPAN_KIND_CLIENT)", {"probe", "db", "bare"}),
    ("end_time_unix_nano - start_time_unix_nano < 20000000", {"health"}),
    ('resource.attributes["service.name"] == "shop"', set(SPANS)),
    ('HasPrefix(name, "ch")', {"chat"}),
    ('name == "db" and attributes["rows"] == 3 or false', {"db"}),
]


@pytest.mark.parametrize(("text", "gone"), CONDITIONS)
def test_conditions_on_spans(text: str, gone: set[str]) -> None:
    request = spans()
    filtering(traces={"span": [text]}).change(request)
    assert set(names(request)) == SPANS.keys() - gone
    assert bool(request.resource_spans) == bool(names(request)), "nothing empty is left"


def test_the_official_filter_drops_the_same(tmp_path: Path) -> None:
    port = free_port()
    cases = [text for text, _ in CONDITIONS]
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "processors": {f"filter/{n}": {"traces": {"span": [text]}} for n, text in enumerate(cases)},
        "exporters": {
            f"file/{n}": {"path": str(tmp_path / f"{n}.json"), "flush_interval": "100ms"}
            for n in range(len(cases))
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                f"traces/{n}": {
                    "receivers": ["otlp"],
                    "processors": [f"filter/{n}"],
                    "exporters": [f"file/{n}"],
                }
                for n in range(len(cases))
            },
        },
    }
    headers = {"content-type": "application/x-protobuf"}
    with official(tmp_path, config):
        url, body = f"http://127.0.0.1:{port}/v1/traces", spans().SerializeToString()
        wait_for(lambda: httpx.post(url, content=body, headers=headers).status_code == 200, "official", 60)

        def same(number: int) -> bool:
            text = (tmp_path / f"{number}.json").read_text()
            kept = set()
            for line in text.splitlines():
                payload = from_json(line.encode(), trace_service_pb2.ExportTraceServiceRequest)
                kept |= set(names(trace_service_pb2.ExportTraceServiceRequest.FromString(payload)))
            return kept == SPANS.keys() - CONDITIONS[number][1]

        for number, text in enumerate(cases):
            wait_for(partial(same, number), text)


def test_resources_events_metrics_and_logs() -> None:
    request = spans()
    filtering(traces={"spanevent": ['name == "log"']}).change(request)
    assert {e.name for s in request.resource_spans[0].scope_spans[0].spans for e in s.events} == {"exception"}
    filtering(traces={"resource": ['attributes["service.name"] == "shop"']}).change(request)
    assert not request.resource_spans
    metrics = metrics_service_pb2.ExportMetricsServiceRequest()
    scope = metrics.resource_metrics.add().scope_metrics.add()
    for name in ("runtime.gc", "keep.gauge", "keep.sum"):
        metric = scope.metrics.add(name=name)
        points = (metric.gauge if "gauge" in name else metric.sum).data_points
        for at in range(3):
            set_value(points.add(as_int=at).attributes.add(key="at").value, at)
    conditions = {
        "metric": ['IsMatch(name, "^runtime") and type == METRIC_DATA_TYPE_SUM'],
        "datapoint": ['metric.name == "keep.sum" and attributes["at"] < 2', 'metric.name == "keep.gauge"'],
    }
    filtering(metrics=conditions).change(metrics)
    (left,) = scope.metrics
    assert (left.name, [p.as_int for p in left.sum.data_points]) == ("keep.sum", [2])
    logs = logs_service_pb2.ExportLogsServiceRequest()
    records = logs.resource_logs.add().scope_logs.add().log_records
    for at, body in enumerate(("debugging", "paid")):
        records.add(severity_number=5 + 4 * at).body.string_value = body
    filtering(logs={"log_record": ["severity_number < SEVERITY_NUMBER_INFO"]}).change(logs)
    assert [r.body.string_value for r in logs.resource_logs[0].scope_logs[0].log_records] == ["paid"]


def test_what_is_dropped_whole_is_not_delivered() -> None:
    chain = Chain([filtering(traces={"span": ["true"]})], SIGNALS["traces"])
    row = chain.row(Row(1, 2, 5, spans().SerializeToString()))
    assert (row.items, row.payload) == (0, b"")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("filter: {traces: {span: ['nme == 1']}}", "processors.filter.traces.span[0]: 'nme == 1', before"),
        (
            "filter: {traces: {span: ['nme == 1']}}",
            "the path nme is not here; there are attributes, end_time",
        ),
        ("filter: {traces: {span: ['name == ']}}", "a value is expected, not 'the end'"),
        ("filter: {traces: {span: ['name = 1']}}", "is nothing that Taximeter's part of OTTL has"),
        ("filter: {traces: {span: ['Len(name) > 1']}}", "the function Len is not here; there are IsMatch"),
        ("filter: {traces: {span: ['IsMatch(name, \"(\")']}}", "'(' is no regular expression"),
        ("filter: {traces: {span: ['true true']}}", "'true' is not expected"),
        ("filter: {metrics: {include: {}}}", "the official collector has `include` here"),
        ("filter: {trace_conditions: []}", "the official collector has `trace_conditions` here"),
        ("probabilistic_sampler: {}", "sampling_percentage: is required"),
        ("probabilistic_sampler: {sampling_percentage: 1, sampling_precision: 15}", "is not one of 1 to 14"),
        ("redaction: {blocked_values: ['(']}", "redaction.blocked_values[0]: '(' is no regular expression"),
        ("redaction: {hash_function: hmac-sha256}", "redaction.hmac_key: is required for hmac-sha256"),
        ("redaction: {db_sanitizer: {}}", "the official collector has `db_sanitizer` here"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"processors: {{{change}}}")
    with pytest.raises(ConfigError) as caught:
        load([path], {})
    assert message in str(caught.value)


# --- probabilistic_sampler ------------------------------------------------------------


def sampled(
    trace_ids: list[bytes], states: dict[bytes, str] | None = None, **values: Any
) -> dict[bytes, str]:
    """trace id -> tracestate of what is kept."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for trace_id in trace_ids:
        scope.spans.add(trace_id=trace_id, trace_state=(states or {}).get(trace_id, ""))
    HeadSampler(read_section(PROBABILISTIC_SAMPLER, values, "s", Notes())).change(request)
    return {s.trace_id: s.trace_state for r in request.resource_spans for c in r.scope_spans for s in c.spans}


IDS = [hashlib.md5(str(n).encode()).digest() for n in range(4000)]


def test_a_share_of_traces_by_the_specification() -> None:
    kept = sampled(IDS, sampling_percentage=25)
    assert kept.keys() == {i for i in IDS if int.from_bytes(i[9:]) >= 0xC0000000000000}
    assert set(kept.values()) == {"ot=th:c"}
    assert adjusted_count("ot=th:c") == 4
    less = sampled(IDS, sampling_percentage=10)
    assert less.keys() < kept.keys(), "consistent"
    assert sampled(IDS, sampling_percentage=100).keys() == set(IDS)
    assert sampled(IDS, sampling_percentage=0) == {}
    # A quarter of what another sampler left: a sixteenth of all, and told so.
    again = sampled(list(kept), kept, sampling_percentage=25)
    assert set(again.values()) == {"ot=th:f"}
    assert again.keys() == {i for i in IDS if int.from_bytes(i[9:]) >= 0xF0000000000000}
    equal = sampled(list(kept), kept, sampling_percentage=25, mode="equalizing")
    assert equal == kept
    explicit = {IDS[0]: "x=1,ot=rv:fffffffffffffe"}
    assert sampled(IDS[:1], explicit, sampling_percentage=1)[IDS[0]] == "ot=th:fd70a;rv:fffffffffffffe,x=1"


def test_a_seed_hashes_as_officially() -> None:
    def fnv1a(data: bytes) -> int:
        found = 2166136261
        for byte in data:
            found = ((found ^ byte) * 16777619) % 2**32
        return found

    kept = sampled(IDS, sampling_percentage=15, hash_seed=22)
    rate = int(15 * 0x4000 / 100)
    assert kept.keys() == {i for i in IDS if fnv1a((22).to_bytes(4, "little") + i) % 0x4000 < rate}
    assert kept.keys() != sampled(IDS, sampling_percentage=15, hash_seed=23).keys()
    for state in list(kept.values())[:20]:
        assert adjusted_count(state) == pytest.approx(0x4000 / rate)
    twice = sampled(list(kept), kept, sampling_percentage=100, hash_seed=1)
    assert twice == {}, "a sampled span has no business in this mode"
    assert sampled(list(kept), kept, sampling_percentage=1, hash_seed=1, fail_closed=False) == kept


def test_a_priority_wins_and_no_trace_id_is_an_error() -> None:
    request = spans()
    for span, priority in zip(request.resource_spans[0].scope_spans[0].spans, (0, 1, 5, 0, 0), strict=True):
        set_value(span.attributes.add(key="sampling.priority").value, priority)
    values = {"sampling_percentage": 50}
    HeadSampler(read_section(PROBABILISTIC_SAMPLER, values, "s", Notes())).change(request)
    assert names(request) == ["chat", "probe"]
    assert sampled([bytes(16)], sampling_percentage=50) == {}
    assert sampled([bytes(16)], sampling_percentage=50, fail_closed=False) == {bytes(16): ""}


@pytest.mark.parametrize(
    ("share", "digits"),
    [(1, "0"), (0.5, "8"), (0.1, "e666"), (0.01, "fd70a"), (1 / 3, "aaab"), (0.99, "028f6")],
)
def test_thresholds_have_the_digits_they_need(share: float, digits: str) -> None:
    assert f"{threshold_of(share, 4):014x}".rstrip("0") == digits.rstrip("0")


# --- redaction ------------------------------------------------------------------------


def redacted(attributes: dict[str, Any], **values: Any) -> dict[str, Any]:
    request = trace_service_pb2.ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    for key, value in attributes.items():
        set_value(span.attributes.add(key=key).value, value)
    Redaction(read_section(REDACTION, values, "r", Notes())).change(request)
    return {pair.key: plain(pair.value) for pair in span.attributes}


CARD = "4[0-9]{12}(?:[0-9]{3})?"


def test_keys_and_values() -> None:
    given = {"name": "Ali", "note": "card 4111111111111111 ok", "secret": "x", "safe": "4111111111111111"}
    assert redacted(given) == {}, "an empty list allows nothing"
    assert redacted(given, allowed_keys=["name", "note"], blocked_values=[CARD], ignored_keys=["safe"]) == {
        "name": "Ali",
        "note": "card **** ok",
        "safe": "4111111111111111",
    }
    debug = redacted(given, allowed_keys=["note"], blocked_values=[CARD], summary="debug")
    assert debug == {
        "note": "card **** ok",
        "redaction.redacted.keys": "name,safe,secret",
        "redaction.redacted.count": 3,
        "redaction.masked.keys": "note",
        "redaction.masked.count": 1,
    }
    everything = {"allow_all_keys": True, "blocked_key_patterns": ["secr.*"]}
    assert redacted(given, **everything)["secret"] == "****"
    assert redacted(given, hash_function="sha1", **everything)["secret"] == hashlib.sha1(b"x").hexdigest()
    mails = {"mail": "me@own.com", "other": "me@x.com"}
    kept = redacted(mails, allow_all_keys=True, blocked_values=[".+@.+"], allowed_values=[".+@own.com"])
    assert kept == {"mail": "me@own.com", "other": "****"}
    number = {"card": 4111111111111111}
    assert redacted(number, allow_all_keys=True, blocked_values=[CARD]) == number
    assert redacted(number, allow_all_keys=True, blocked_values=[CARD], redact_all_types=True) == {
        "card": "****"
    }


def test_nothing_slips_through_elsewhere() -> None:
    """A secret in every place that a request has for attributes, and in a log's body."""
    values = {"allow_all_keys": True, "blocked_values": ["s3cret"]}
    processor = Redaction(read_section(REDACTION, values, "r", Notes()))
    traces = spans()
    group = traces.resource_spans[0]
    span = group.scope_spans[0].spans[0]
    for holder in (group.resource, group.scope_spans[0].scope, span, span.events[0], span.links.add()):
        set_value(holder.attributes.add(key="k").value, "a s3cret b")
        inner = holder.attributes.add(key="list").value.array_value.values.add()
        inner.string_value = "s3cret"
    logs = logs_service_pb2.ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add()
    deep = record.body.kvlist_value.values.add(key="a").value.array_value.values.add()
    deep.kvlist_value.values.add(key="b").value.string_value = "s3cret"
    metrics = metrics_service_pb2.ExportMetricsServiceRequest()
    point = metrics.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points.add()
    set_value(point.attributes.add(key="k").value, "s3cret")
    for request in (traces, logs, metrics):
        assert b"s3cret" in request.SerializeToString()
        processor.change(request)
        assert b"s3cret" not in request.SerializeToString()


def test_what_redaction_breaks_on_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Redaction(read_section(REDACTION, {}, "r", Notes()))
    monkeypatch.setattr(processor, "_attributes", lambda attributes: 1 / 0)
    row = Chain([processor], SIGNALS["traces"]).row(Row(1, 2, 3, spans().SerializeToString()))
    assert row.payload == b""


# --- file -----------------------------------------------------------------------------


def test_lines_of_json_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "out" / "spans.json"
    values = {"path": str(path), "create_directory": True, "rotation": {"max_megabytes": 1, "max_backups": 2}}
    with collector(tmp_path, {"file": values}, {"traces": ["file"]}) as made:
        made.start()
        for number in range(3):
            request = spans()
            request.resource_spans[0].scope_spans[0].spans[0].name = f"n-{number}"
            assert made.post(request.SerializeToString()).status_code == 200
        wait_for(made.settled, "three lines")
        lines = path.read_bytes().splitlines()
        documents = [json.loads(line) for line in lines]
        first = documents[0]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        assert (first["name"], first["traceId"], first["kind"]) == ("n-0", "0" * 31 + "1", 2)
        assert first["startTimeUnixNano"] == "1000000000000000000"
        back = from_json(lines[2], trace_service_pb2.ExportTraceServiceRequest)
        assert names(trace_service_pb2.ExportTraceServiceRequest.FromString(back))[0] == "n-2"
        made.kill()
        with path.open("ab") as file:
            file.write(b'{"cut short')  # as by a kill
        made.start()
        for number in range(40):
            request = spans()
            span = request.resource_spans[0].scope_spans[0].spans[0]
            set_value(span.attributes.add(key="long").value, f"{number}" + "x" * 150_000)
            assert made.post(request.SerializeToString()).status_code == 200
        wait_for(made.settled, "more lines")
        assert made.stop() == 0
        files = sorted(path.parent.iterdir())
        assert len(files) == 3, "two backups and the newest"
        for file_ in files:
            assert file_.stat().st_size <= 1 << 20
            for line in file_.read_bytes().splitlines():
                json.loads(line)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    values = {"path": str(tmp_path / "no" / "x.json")}
    with collector(tmp_path, {"file": values}, {"traces": ["file"]}) as made:
        made.start(wait=False)
        assert made.process is not None
        assert made.process.wait(30) == 1
        assert "exporters.file.path: " in made.log()
