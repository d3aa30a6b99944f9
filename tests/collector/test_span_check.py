"""Spans with wrong ids or times are told from right ones, in one look at all and then each by itself."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from taximeter_collector.receive.span_check import check, good_spans
from tests.collector.hostile import PATHS, Hostile, good


def _request(*changes: dict[str, Any]) -> bytes:
    """One span for each, right but for the changes."""
    request = ExportTraceServiceRequest()
    for number, change in enumerate(changes):
        if number % 3 == 0:
            scope = request.resource_spans.add().scope_spans.add()
        right: dict[str, Any] = {
            "trace_id": b"t" * 16, "span_id": b"s" * 8, "name": f"{number}", "start_time_unix_nano": 10**18,
            "end_time_unix_nano": 10**18 + number, "trace_state": "ot=th:8", "kind": 3,
        }  # fmt: skip
        scope.spans.add(**{**right, **change})
    return request.SerializeToString()


def _names(payload: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(payload)
    return [s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]


RIGHT: list[dict[str, Any]] = [
    {},
    {"parent_span_id": b"p" * 8},
    {"start_time_unix_nano": 2**63 - 2, "end_time_unix_nano": 2**63 - 2},
    {"trace_id": bytes(15) + b"1"},
    {"attributes": [{"key": "k", "value": {"string_value": "\n\x10" + "\0" * 16}}]},
]


def test_right_spans_are_seen_to_be_right_without_a_look_at_each() -> None:
    for count in (1, 2, 40, 700):
        assert check(_request(*[RIGHT[n % len(RIGHT)] for n in range(count)])) == (count, True)
    assert check(good(3)) == (3, True)
    assert check(b"") == (0, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trace_id": b"t" * 15}, "trace_id has 15 bytes, not 16"),
        ({"trace_id": b"t" * 32}, "trace_id has 32 bytes, not 16"),
        ({"trace_id": b""}, "trace_id has 0 bytes, not 16"),
        ({"trace_id": bytes(16)}, "trace_id is all zeros"),
        ({"span_id": b"s" * 9}, "span_id has 9 bytes, not 8"),
        ({"span_id": bytes(8)}, "span_id is all zeros"),
        ({"parent_span_id": b"p"}, "parent_span_id has 1 bytes, not 8"),
        ({"end_time_unix_nano": 10**18 - 1}, f"it ends ({10**18 - 1}) before it starts ({10**18})"),
        ({"end_time_unix_nano": 1}, f"it ends (1) before it starts ({10**18})"),
        ({"start_time_unix_nano": 2**64 - 1}, f"it ends ({10**18 + 1}) before it starts ({2**64 - 1})"),
    ],
    ids=str,
)
def test_one_wrong_span_is_found_among_right_ones_and_left_out(change: dict[str, Any], says: str) -> None:
    for before, after in ((0, 0), (1, 1), (0, 5), (70, 3)):
        changes = [RIGHT[n % len(RIGHT)] for n in range(before + 1 + after)]
        # The wrong one is always number 1 of a scope: the times above count on it.
        at = before - before % 3 + 1 if before else 0
        changes.insert(at, {**change, **({"end_time_unix_nano": 10**18 + 1} if "trace" in says else {})})
        payload = _request(*changes)
        assert check(payload)[1] is False
        left = good_spans(payload)
        assert _names(left.payload) == [f"{n}" for n in range(len(changes)) if n != at]
        assert left.spans == len(changes) - 1
        assert left.wrong.split(" (", maxsplit=1)[0] == says.split(" (", maxsplit=1)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"start_time_unix_nano": 0},
        {"end_time_unix_nano": 0},
        {"start_time_unix_nano": 0, "end_time_unix_nano": 0},
        {"start_time_unix_nano": 2**63, "end_time_unix_nano": 2**64 - 1},
        {"parent_span_id": bytes(8)},
    ],
    ids=str,
)
def test_what_a_look_at_all_cannot_tell_a_look_at_each_does(change: dict[str, Any]) -> None:
    payload = _request({}, change, {})
    assert good_spans(payload) == (payload, 3, "")


def _times_as_lists(request: ExportTraceServiceRequest) -> bool:
    """Whether a time came as a list of numbers: to the official classes a field they do not know."""
    spans = [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
    return any(
        field.field_number in (7, 8) and field.wire_type == 2
        for s in spans
        for field in UnknownFieldSet(s)  # type: ignore[attr-defined]
    )


def test_the_same_bytes_are_refused_as_by_the_official_classes_and_times_that_are_lists() -> None:
    hostile = Hostile(11)
    shots = [shot for shot in (hostile.shot() for _ in range(4000)) if shot.path == PATHS[0]]
    refused = lists = 0
    for shot in shots:
        try:
            request = ExportTraceServiceRequest.FromString(shot.body)
        except DecodeError:
            refused += 1
            with pytest.raises(DecodeError):
                check(shot.body)
            continue
        count = sum(len(scope.spans) for r in request.resource_spans for scope in r.scope_spans)
        try:
            spans, right = check(shot.body)
        except DecodeError:
            lists += 1
            assert _times_as_lists(request), shot
            continue
        assert spans == count
        if right:
            assert good_spans(shot.body).spans == count
    assert 1000 < refused < len(shots) - 500
    assert lists < 20
