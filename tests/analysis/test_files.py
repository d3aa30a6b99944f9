"""OTLP in files, in every form in which the official collector's file exporter and a shell leave it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_analysis import Filters, NothingToReport, Report
from taximeter_analysis.readers import place
from taximeter_analysis.readers.opened import report_from
from taximeter_cli.main import main
from tests.analysis import raw
from tests.analysis.leaves import differences
from tests.analysis.recording import RUN, framed

MESSAGES = list(raw.messages(RUN / "traces.otlp.gz"))[:2]
OTHER = '{"resourceMetrics":[{"resource":{}}]}\n'


def line(message: bytes) -> str:
    """A request as the official collector writes it: ids in hex, enums as numbers."""
    request = ExportTraceServiceRequest.FromString(message)
    data = json_format.MessageToDict(request, use_integers_for_enums=True)

    def hexed(value: Any) -> Any:
        if isinstance(value, list):
            return [hexed(item) for item in value]
        if isinstance(value, dict):
            return {
                name: base64.b64decode(item).hex()
                if name in ("traceId", "spanId", "parentSpanId")
                else hexed(item)
                for name, item in value.items()
            }
        return value

    return json.dumps(hexed(data)) + "\n"


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def lines(messages: list[bytes]) -> bytes:
    return "".join(map(line, messages)).encode()


FORMS: dict[str, Callable[[list[bytes]], bytes]] = {
    "json lines": lines,
    "json lines, gzip": lambda messages: gzip.compress(lines(messages)),
    "json lines, zstd": lambda messages: zstd(lines(messages)),
    "proto": framed,
    "proto, each message zstd": lambda messages: framed([zstd(message) for message in messages]),
    "json, each message zstd": lambda messages: framed([zstd(line(item).encode()) for item in messages]),
}


def told(path: Path | str, **filters: Any) -> dict[str, Any]:
    found: Report = report_from(f"file:{path}", Filters(**filters), now=0.0)
    return {**found.to_dict(), "store": ""}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("otlp") / "plain"
    path.write_bytes(framed(MESSAGES))
    return told(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_report(form: str, expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "traces"
    path.write_bytes(FORMS[form](MESSAGES))
    assert differences(told(path), expected) == []
    assert expected["totals"]["requests"] > 5


def test_several_files_of_which_one_is_being_written(expected: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(line(MESSAGES[0]) + OTHER)
    (tmp_path / "b.json").write_text(line(MESSAGES[1]) + line(MESSAGES[0])[:200])
    found = told(f"{tmp_path}/*.json")
    assert list(found["notes"]) == [
        "1 message(s) of metrics or logs were passed over",
        "1 last message(s) were cut off: they are still being written",
        *expected["notes"],
    ]
    assert differences(found["totals"], expected["totals"]) == []
    assert differences(told(tmp_path)["totals"], expected["totals"]) == []  # a directory: all of its files


def test_spans_sent_twice_count_once(expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "twice"
    path.write_bytes(framed(MESSAGES + MESSAGES))
    assert differences(told(path)["totals"], expected["totals"]) == []


def test_the_window_and_the_filters_hold(expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    path.write_bytes(lines(MESSAGES))
    middle = expected["window"]["first"] + expected["window"]["observed_s"] / 2
    halves = [told(path, until=middle), told(path, since=middle)]
    both = sum(half["totals"]["requests"] for half in halves)
    assert both == expected["totals"]["requests"]
    tenant = expected["tenants"][0]["tenant"]
    assert differences(told(path, tenant=tenant)["totals"], expected["tenants"][0]["usage"]) == []
    with pytest.raises(NothingToReport, match=r"traces.json: nothing found \(service 'other'\)"):
        told(path, service="other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no span; is it the right one"),
        (OTHER.encode(), "holds no span; is it the right one"),
        (b'{"spans": 1}\n', "line 1: has no resourceSpans"),
        (b"{nonsense}\n" + b"{}\n", "line 1: the body (11 bytes) is not a valid"),
        (b"PK\x03\x04 a zip archive, say", "neither JSON lines nor messages after their length"),
        (framed([b"\xff\xff\xff"]), "message 1 is no OTLP"),
        (gzip.compress(b"{}" * 5000)[:40], "cannot be read"),
    ],
)
def test_what_is_no_otlp_is_refused_by_name(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "traces.json"
    path.write_bytes(content)
    assert main(["report", "--from", f"file:{path}"]) == 2
    error = capsys.readouterr().err
    assert message in error and "traces.json" in error
    assert len(error.splitlines()) == 1


def test_places() -> None:
    found = place.parse("tempo+http://me:secret@localhost:3200/")
    assert (str(found), found.user) == ("tempo+http://localhost:3200", ("me", "secret"))
    assert str(place.parse("prometheus+https://host/base")) == "prometheus+https://host/base"
    assert place.is_place("file:x") and place.is_place("tempo+http://x") and not place.is_place("tempo-store")
    for text in ("file:", "tempo+ftp://x", "loki+http://x", "prometheus", "tempo+http://"):
        with pytest.raises(ValueError, match="write"):
            place.parse(text)
    assert main(["report", "--from", "file:/nowhere/*.json"]) == 2
