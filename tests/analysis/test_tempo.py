"""Reading a Tempo: a search without a second page, traces fetched whole, and what is said when that fails.

A stand-in speaks the three calls of Tempo's documented HTTP API on the recorded run (`make prove-readers`
asks a real one); it returns at most ``limit`` traces, like Tempo.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_analysis import Filters, NothingToReport, Report, StoreError
from taximeter_analysis.readers import tempo
from taximeter_analysis.readers.opened import report_from
from taximeter_analysis.readers.place import parse
from tests.analysis import raw
from tests.analysis.leaves import differences
from tests.analysis.recording import RUN


@dataclass
class StandIn:
    """A Tempo of the recorded run, and what it was asked."""

    url: str = ""
    traces: dict[str, ExportTraceServiceRequest] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    searches: list[dict[str, str]] = field(default_factory=list)
    v2: bool = True
    partial: str = ""


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    made = StandIn()
    for body in raw.messages(RUN / "traces.otlp.gz"):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    name = span.trace_id.hex()
                    trace = made.traces.setdefault(name, ExportTraceServiceRequest())
                    part = trace.resource_spans.add(resource=resource.resource).scope_spans.add(
                        scope=scope.scope
                    )
                    part.spans.add().CopyFrom(span)
                    start = span.start_time_unix_nano / 1e9
                    made.starts[name] = min(start, made.starts.get(name, start))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            words = {name: values[0] for name, values in parse_qs(asked.query).items()}
            name = asked.path.rpartition("/")[2]
            status, body = 404, b""
            if asked.path == "/api/search":
                made.searches.append(words)
                inside = [
                    name for name, at in made.starts.items() if int(words["start"]) <= at < int(words["end"])
                ][: int(words["limit"])]
                status, body = (
                    200,
                    json.dumps({"traces": [{"traceID": name.lstrip("0")} for name in inside]}).encode(),
                )
            elif name in made.traces and (made.v2 or not asked.path.startswith("/api/v2/")):
                status, body = 200, made.traces[name].SerializeToString()
                if asked.path.startswith("/api/v2/"):  # TraceByIDResponse: trace = 1, metrics = 2, status = 3
                    size = len(body)
                    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
                    body = (
                        b"\x0a"
                        + length
                        + body
                        + b"\x12\x02\x08\x05"
                        + (b"\x18\x01" if name == made.partial else b"")
                    )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def whole() -> Report:
    return report_from(f"file:{RUN / 'traces.otlp.gz'}", now=0.0)


def window(whole: Report) -> Filters:
    return Filters(since=whole.window.first - 1, until=whole.window.last + 1)


def reading(standin: StandIn, whole: Report, most: int = tempo.MOST_TRACES) -> tempo.Tempo:
    return tempo.Tempo(parse(f"tempo+{standin.url}"), window(whole), 0.0, lambda text: None, most)


def test_the_report_is_the_files(standin: StandIn, whole: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempo, "_PAGE", 60)  # the fourteen seconds hold more than one page
    standin.searches.clear()
    found = report_from(f"tempo+{standin.url}", window(whole), now=0.0)
    names = ("totals", "routes", "tenants", "models", "slow", "repeated", "totals_from_spans", "slowest")
    ours, theirs = found.to_dict(), whole.to_dict()
    assert differences({name: ours[name] for name in names}, {name: theirs[name] for name in names}) == []
    assert len(standin.searches) > 3
    assert all(words["limit"] == "60" for words in standin.searches)


def test_an_older_tempo_has_the_first_version_only(standin: StandIn, whole: Report) -> None:
    standin.v2 = False
    try:
        bodies = list(reading(standin, whole).requests())
    finally:
        standin.v2 = True
    assert set(bodies) == {trace.SerializeToString() for trace in standin.traces.values()}


def test_a_second_over_full_and_a_partial_trace_are_said(
    standin: StandIn, whole: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempo, "_PAGE", 5)
    per_second: dict[int, int] = defaultdict(int)
    for at in standin.starts.values():
        per_second[int(at)] += 1
    over = sum(number >= 5 for number in per_second.values())
    reader = reading(standin, whole)
    list(reader.requests())
    assert f"{over} second(s) hold 5 traces or more" in " ".join(reader.notes)
    monkeypatch.undo()
    standin.partial = next(iter(standin.traces))
    try:
        reader = reading(standin, whole)
        assert len(list(reader.requests())) == len(standin.traces) - 1
    finally:
        standin.partial = ""
    assert reader.notes == ["1 trace(s) that the search found could not be fetched whole"]


def test_too_many_traces_are_sampled_evenly(standin: StandIn, whole: Report) -> None:
    reader = reading(standin, whole, most=100)
    assert len(list(reader.requests())) == 100
    assert f"a uniform sample of 100 of {len(standin.traces)} traces was read" in reader.notes[0]


def test_a_service_goes_into_the_question_as_text(standin: StandIn, whole: Report) -> None:
    standin.searches.clear()
    name = 'x" || true || "'
    with pytest.raises(NothingToReport):
        report_from(f"tempo+{standin.url}", Filters(since=0.0, until=10.0, service=name), now=0.0)
    assert standin.searches[0]["q"].startswith('{ resource.service.name = "x\\" || true || \\"" && (')
    with pytest.raises(StoreError, match="is this address a Prometheus"):
        report_from(f"prometheus+{standin.url}", window(whole), now=whole.window.last)
