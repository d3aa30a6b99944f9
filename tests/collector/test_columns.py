"""The spans of a request by columns: against the official classes, for writers of every habit."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from taximeter_collector.process import decisions
from taximeter_collector.process.columns import Columns
from taximeter_collector.process.fnv import fnv1a, hashes
from taximeter_collector.process.raw import varint
from taximeter_collector.process.tail_sampling import Decided, Decision


def plain(span: Any) -> bytes:
    encoded: bytes = span.SerializeToString()
    return encoded


def backwards(span: Any) -> bytes:
    """The same span, its fields from the last to the first."""
    pieces = []
    for field, _ in reversed(span.ListFields()):
        one = Span()
        source, into = getattr(span, field.name), getattr(one, field.name)
        if field.is_repeated:
            into.extend(source)
        elif field.message_type:
            into.CopyFrom(source)
        else:
            setattr(one, field.name, source)
        pieces.append(one.SerializeToString())
    return b"".join(pieces)


def message(number: int, *contents: bytes) -> bytes:
    return b"".join(bytes([number << 3 | 2]) + varint(len(each)) + each for each in contents)


def spans(rnd: random.Random, habit: str) -> list[Any]:
    made = []
    trace_id = b""
    for _ in range(rnd.randrange(1, 12)):
        trace_id = trace_id if trace_id and rnd.random() < 0.6 else rnd.randbytes(16)
        span = Span(
            trace_id=trace_id, span_id=rnd.randbytes(8), name="x", start_time_unix_nano=rnd.randrange(1, 99)
        )
        span.end_time_unix_nano = span.start_time_unix_nano + rnd.randrange(99)
        if habit == "endless" and rnd.random() < 0.5:
            span.end_time_unix_nano = 0
        if habit == "short ids" and rnd.random() < 0.5:
            span.trace_id = b""
        if habit == "trace state" and rnd.random() < 0.5:
            span.trace_state = "ot=th:8"
        code = rnd.choice((0, 0, 1, 2))
        if code or habit == "always a status":
            span.status.SetInParent()
            span.status.code = code  # type: ignore[assignment]
            span.status.message = rnd.choice(("", "failed"))
        if habit == "flags":
            span.flags = 0x101
        span.attributes.add(key="k").value.string_value = rnd.choice(("\x18\x02", "needle", "need", "le", ""))
        made.append(span)
    return made


HABITS = ("plain", "backwards", "endless", "short ids", "trace state", "always a status", "flags")


@pytest.mark.parametrize("habit", HABITS)
def test_columns_say_what_the_official_classes_say(habit: str) -> None:
    rnd = random.Random(habit)
    encode: Callable[[Any], bytes] = backwards if habit == "backwards" else plain
    for turn in range(200):
        scopes = [spans(rnd, habit) for _ in range(rnd.choice((1, 1, 3)))]
        encoded = [message(2, *map(encode, scope)) for scope in scopes]
        payload = b"".join(message(1, message(2, scope)) for scope in encoded)
        everything = [span for scope in scopes for span in scope]
        assert [
            span
            for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ] == everything, "the test encodes wrongly"
        columns = Columns(payload, careful=turn % 10 == 0)
        assert columns.trace_ids == [span.trace_id for span in everything]
        assert columns.starts == [span.start_time_unix_nano for span in everything]
        assert columns.ends == [span.end_time_unix_nano for span in everything]
        assert columns.coded == [(i, s.status.code) for i, s in enumerate(everything) if s.status.code]
        holding = [i for i, span in enumerate(columns.spans) if b"needle" in span]
        found = list(columns.holding(b"needle"))
        assert set(found) >= set(holding)
        assert found == sorted(set(found))
        if any(span.trace_state for span in everything):
            assert columns.heads
            assert [head.trace_state for head in columns.heads] == [s.trace_state for s in everything]
        runs = columns.runs()
        firsts = {scope.begin for scope in columns.scopes}
        ids = columns.trace_ids
        assert runs == [i for i in range(len(ids)) if i in firsts or ids[i] != ids[i - 1]] + [len(ids)]


def test_an_empty_request_has_no_spans() -> None:
    columns = Columns(message(1, message(2)))
    assert (columns.runs(), columns.coded, list(columns.holding(b"x"))) == ([], [], [])


def test_many_hashes_are_each_the_hash_of_one() -> None:
    rnd = random.Random(1)
    for ids in ([], [b"\xff" * 16], [rnd.randbytes(16) for _ in range(300)], [b"", b"x", rnd.randbytes(16)]):
        assert hashes(7, ids) == [fnv1a(7, each) for each in ids]


# --- decisions on disk ---------------------------------------------------------------------


def database(*statements: str) -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements:
        made.executescript(statement)
    return made


def test_decisions_are_read_as_they_were_written_whole_or_cut_and_traces_are_forgotten() -> None:
    ids = [bytes([n]) * 16 for n in range(9)]
    kept, dropped = Decision(True, "slow", 5, 2.0), Decision(False, "no policy", 6, 0.0)
    whole = Decided(3, kept, ids[:5], [[1]] * 5)
    made = database(decisions.SCHEMA)
    decisions.restored(made, "log")
    decisions.write(made, [whole.part(0, 2)], [], 0)
    decisions.write(made, [whole.part(2, 5), Decided(4, dropped, [*ids[5:], b"", b"short"], [])], [], 7)
    found, late = decisions.restored(made, "log")
    assert [(one.number, one.decision, one.trace_ids) for one in found] == [
        (3, kept, ids[:5]),
        (4, dropped, [*ids[5:], b"", b"short"]),
    ]
    assert late == 7
    decisions.forget(made, {ids[1], ids[3], b"short"})
    found, _ = decisions.restored(made, "log")
    assert [one.trace_ids for one in found] == [[ids[0], ids[2], ids[4]], [*ids[5:], b""]]
    decisions.write(made, [], [3], 8)
    [left], late = decisions.restored(made, "another log")
    assert (left.number, left.decision.at_seq, late) == (4, 0, 0)


def test_decisions_of_an_earlier_release_are_taken_over() -> None:
    made = database(
        "CREATE TABLE decisions (trace_id BLOB PRIMARY KEY, kept INTEGER, reason TEXT, at_seq INTEGER, "
        "count REAL) WITHOUT ROWID",
        decisions.SCHEMA,
    )
    rows = [(bytes([n]) * 16, n % 2, "failed" if n % 2 else "no policy", n // 4, 1.0) for n in range(20)]
    made.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", rows)
    made.executemany("INSERT INTO stage VALUES (?, ?)", [("log_id", "log"), ("late", "3")])
    found, late = decisions.restored(made, "log")
    told = {trace_id: one.decision for one in found for trace_id in one.trace_ids}
    assert told == {row[0]: Decision(bool(row[1]), *row[2:]) for row in rows}
    assert (late, len(found)) == (3, 10)
    assert not made.execute("SELECT 1 FROM sqlite_master WHERE name = 'decisions'").fetchone()
