"""Tail sampling: against an implementation that shares nothing with it, through restarts, and whole."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from taximeter_collector.config.sampling import policies as read_policies
from taximeter_collector.errors import ConfigError
from taximeter_collector.log import Log, Row
from taximeter_collector.memory import resident_bytes
from taximeter_collector.own_metrics import OwnMetrics
from taximeter_collector.process import raw
from taximeter_collector.process.chain import Chain
from taximeter_collector.process.policies import build
from taximeter_collector.process.stage import TailSamplingStage
from taximeter_collector.process.tail_sampling import Decided, Decision, Late, Sampler
from taximeter_collector.signals import SIGNALS
from tests.collector.support import (
    GrpcBackend,
    backend_exporter,
    collector,
    free_port,
    set_value,
    trace_request,
    wait_for,
)

MS = 10**6
S = 10**9
Trace = list[tuple[Any, Any]]  # (resource, span), decoded by the official classes

POLICIES: dict[str, dict[str, Any]] = {
    "always": {"type": "always_sample"},
    "slow": {"type": "latency", "latency": {"threshold_ms": 900}},
    "middling": {"type": "latency", "latency": {"threshold_ms": 300, "upper_threshold_ms": 600}},
    "failed": {"type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    "number": {
        "type": "numeric_attribute",
        "numeric_attribute": {"key": "n", "min_value": 10, "max_value": 12},
    },
    "not number": {
        "type": "numeric_attribute",
        "numeric_attribute": {"key": "n", "min_value": 3, "invert_match": True},
    },
    "text": {"type": "string_attribute", "string_attribute": {"key": "t", "values": ["a", "z"]}},
    "pattern": {
        "type": "string_attribute",
        "string_attribute": {"key": "t", "values": ["^b", "y$"], "enabled_regex_matching": True},
    },
    "not text": {
        "type": "string_attribute",
        "string_attribute": {"key": "t", "values": ["b"], "invert_match": True},
    },
    "of a resource": {"type": "string_attribute", "string_attribute": {"key": "zone", "values": ["z3"]}},
    "tenth": {"type": "probabilistic", "probabilistic": {"sampling_percentage": 10}},
    "salted": {"type": "probabilistic", "probabilistic": {"sampling_percentage": 33.3, "hash_salt": "x"}},
    "both": {
        "type": "and",
        "and": {
            "and_sub_policy": [
                {"name": "1", "type": "latency", "latency": {"threshold_ms": 500}},
                {"name": "2", "type": "string_attribute", "string_attribute": {"key": "t", "values": ["a"]}},
            ]
        },
    },
    "dear": {"type": "expensive", "expensive": {"min_usd": 0.05}},
    "loop": {"type": "n_plus_one", "n_plus_one": {"min_calls": 4}},
}


def fnv1a(data: bytes) -> int:
    state = 14695981039346656037
    for byte in data:
        state = (state ^ byte) * 1099511628211 % 2**64
    return state


def attribute(holder: Any, key: str) -> Any:
    for pair in holder.attributes:
        if pair.key == key:
            kind = pair.value.WhichOneof("value")
            return getattr(pair.value, kind)
    return None


def anywhere(trace: Trace, key: str, test: Callable[[Any], bool]) -> bool:
    found = [attribute(holder, key) for pair in trace for holder in pair]
    return any(value is not None and test(value) for value in found)


def took_ms(trace: Trace) -> int:
    return (
        int(max(s.end_time_unix_nano for _, s in trace) - min(s.start_time_unix_nano for _, s in trace)) // MS
    )


def met_on_the_way(trace: Trace, low: int, high: int) -> bool:
    return any(low < took_ms(trace[:n]) <= high for n in range(1, len(trace) + 1))


def most_repeated(trace: Trace) -> int:
    counts: dict[Any, int] = defaultdict(int)
    for _, span in trace:
        counts[attribute(span, "db.query.text")] += attribute(span, "db.query.text") is not None
    return max(counts.values())


def money(trace: Trace) -> float:
    return sum(attribute(span, "gen_ai.usage.cost.amount") or 0 for _, span in trace)


#: The same policies, written from the official documentation, on whole decoded traces.
ORACLE: dict[str, Callable[[bytes, Trace], bool]] = {
    "always": lambda i, t: True,
    "slow": lambda i, t: took_ms(t) > 900,
    "middling": lambda i, t: met_on_the_way(t, 300, 600),
    "failed": lambda i, t: any(span.status.code == 2 for _, span in t),
    "number": lambda i, t: anywhere(t, "n", lambda v: isinstance(v, int) and 10 <= v <= 12),
    "not number": lambda i, t: not anywhere(t, "n", lambda v: isinstance(v, int) and v >= 3),
    "text": lambda i, t: anywhere(t, "t", lambda v: v in ("a", "z")),
    "pattern": lambda i, t: anywhere(t, "t", lambda v: bool(re.search("^b|y$", v))),
    "not text": lambda i, t: not anywhere(t, "t", lambda v: v == "b"),
    "of a resource": lambda i, t: anywhere(t, "zone", lambda v: v == "z3"),
    "tenth": lambda i, t: fnv1a(b"default-hash-seed" + i) <= (2**64 - 1) // 10,
    "salted": lambda i, t: fnv1a(b"x" + i) <= int(0.333 * 2**64),
    "both": lambda i, t: took_ms(t) > 500 and anywhere(t, "t", lambda v: v == "a"),
    "dear": lambda i, t: money(t) >= 0.05,
    "loop": lambda i, t: most_repeated(t) >= 4,
}


def traffic(traces: int, seed: int = 7, *, per_row: int = 40) -> list[Row]:
    """Interleaved traces of 1-9 spans over 10 resources, in rows received 1 ms apart."""
    rnd = random.Random(seed)
    spans: list[tuple[float, int, Any]] = []
    for number in range(traces):
        trace_id = rnd.randbytes(16)
        begun = S + int(rnd.random() * traces * MS / 4)
        size = rnd.choice((1, 2, 3, 3, 5, 9))
        for index in range(size):
            span = (
                trace_service_pb2.ExportTraceServiceRequest()
                .resource_spans.add()
                .scope_spans.add()
                .spans.add()
            )
            span.trace_id, span.span_id = trace_id, struct.pack(">II", number, index)
            if index:
                span.parent_span_id = struct.pack(">II", number, 0)
            span.start_time_unix_nano = begun + int(rnd.expovariate(1 / 50) * MS)
            span.end_time_unix_nano = span.start_time_unix_nano + int(rnd.expovariate(1 / 150) * MS)
            span.status.code = rnd.choices((0, 1, 2), (80, 17, 3))[0]  # type: ignore[assignment]
            for key, value, share in (
                ("n", rnd.randrange(40), 0.3),
                ("t", rnd.choice(("a", "b", "bc", "xy", "z", "q")), 0.3),
                ("db.query.text", f"SELECT {rnd.randrange(3)}", 0.5),
                ("gen_ai.usage.cost.amount", rnd.random() / 20, 0.2),
                ("long", "a zone, t, n: keys that are no keys here; z3 " + "x" * 160, 0.5),
            ):
                if rnd.random() < share:
                    set_value(span.attributes.add(key=key).value, value)
            spans.append((begun + rnd.random() * 20 * MS, number % 10, span))
    spans.sort(key=lambda entry: entry[0])
    rows: list[Row] = []
    for at in range(0, len(spans), per_row):
        request = trace_service_pb2.ExportTraceServiceRequest()
        for zone in range(10):
            mine = [span for _, where, span in spans[at : at + per_row] if where == zone]
            if mine:
                resource = request.resource_spans.add()
                set_value(resource.resource.attributes.add(key="zone").value, f"z{zone}")
                resource.scope_spans.add().spans.extend(mine)
        seq = len(rows) + 1
        rows.append(Row(seq, seq * MS, len(spans[at : at + per_row]), request.SerializeToString()))
    return rows


def whole(rows: list[Row]) -> dict[bytes, Trace]:
    traces: dict[bytes, Trace] = defaultdict(list)
    for row in rows:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(row.payload)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    traces[span.trace_id].append((resource.resource, span))
    return traces


def sampler(*names: str, wait_s: float = 1000, **options: Any) -> Sampler:
    configured = read_policies([{"name": name, **POLICIES[name]} for name in names], "policies")
    settings = {"wait_after_root_s": 0, "max_traces": 10**9, "remembered": (10**9, 10**9), **options}
    return Sampler(build(configured), wait_s=wait_s, **settings)


def decided(found: Iterable[Decided | Late]) -> Iterator[tuple[bytes, Decision]]:
    """Each trace and its decision."""
    for outcome in found:
        if isinstance(outcome, Decided):
            assert len(outcome.places) in ((len(outcome.trace_ids),) if outcome.decision.kept else (0,))
            yield from zip(outcome.trace_ids, itertools.repeat(outcome.decision))


def outcomes(made: Sampler, rows: list[Row]) -> Iterator[tuple[bytes, Decision]]:
    for row in rows:
        yield from decided(made.take(row))
    yield from decided(made.due(1 << 62))


def kept_by(made: Sampler, rows: list[Row]) -> set[bytes]:
    return {trace_id for trace_id, decision in outcomes(made, rows) if decision.kept}


@pytest.fixture(scope="module")
def recorded() -> list[Row]:
    return traffic(20_000)


def test_each_policy_keeps_what_an_independent_implementation_keeps(recorded: list[Row]) -> None:
    traces = whole(recorded)
    assert len(traces) == 20_000
    for name, rule in ORACLE.items():
        expected = {trace_id for trace_id, trace in traces.items() if rule(trace_id, trace)}
        kept = kept_by(sampler(name), recorded)
        assert kept == expected, name
        assert name == "always" or 100 < len(kept) < 19_900, f"{name} keeps {len(kept)}: it proves nothing"


def test_an_inverted_no_wins_over_a_yes_and_reasons_are_given(recorded: list[Row]) -> None:
    traces = whole(recorded)
    for trace_id, decision in outcomes(sampler("not text", "failed", "slow"), recorded):
        trace = traces[trace_id]
        told = {name: ORACLE[name](trace_id, trace) for name in ("not text", "failed", "slow")}
        if not told["not text"]:
            expected = (False, "not text")
        elif told["failed"] or told["slow"]:
            expected = (True, "failed" if told["failed"] else "slow")
        else:
            expected = (True, "not text")
        assert (decision.kept, decision.reason) == expected


def test_a_trace_kept_by_chance_stands_for_others_and_an_upstream_weight_counts() -> None:
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    rnd = random.Random(5)
    for number in range(4000):
        state = "ot=th:8;p:1" if number % 2 else ""
        span = scope.spans.add(trace_id=rnd.randbytes(16), span_id=b"12345678", trace_state=state)
        span.status.code = 2 if number % 100 == 0 else 0  # type: ignore[assignment]
    row = Row(1, 1, 4000, request.SerializeToString())
    counts = [decision.count for _, decision in outcomes(sampler("tenth", "failed"), [row]) if decision.kept]
    assert set(counts) == {1, 10, 20}
    assert sum(counts) == pytest.approx(2000 + 2000 * 2, rel=0.15), "the estimate is of what was sent"


def test_the_rate_is_limited_in_the_time_of_the_log() -> None:
    configured = read_policies(
        [{"name": "r", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 100}}], "p"
    )
    made = Sampler(build(configured), wait_s=0, wait_after_root_s=0, max_traces=9, remembered=(9, 9))
    rows = [Row(n + 1, n * 2 * MS, 1, trace_request(n)) for n in range(5000)]  # 500 spans a second, for 10 s
    kept = len(kept_by(made, rows))
    assert kept == pytest.approx(200 + 10 * 100, abs=2)


def test_late_spans_follow_the_decision_and_too_many_traces_are_decided_early() -> None:
    made = sampler("failed", wait_s=1)
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, code in enumerate((2, 0)):
        scope.spans.add(trace_id=number.to_bytes(16)).status.code = code  # type: ignore[assignment]
    first = request.SerializeToString()
    assert list(made.take(Row(1, 0, 2, first))) == []
    assert [decision.kept for _, decision in decided(made.due(2 * S))] == [True, False]
    [late] = made.take(Row(2, 3 * S, 2, first))
    assert isinstance(late, Late)
    assert [part.trace_id for part, _ in late.spans] == [(0).to_bytes(16)]
    small = sampler("always", max_traces=3)
    evicted = [i for n in range(5) for i, _ in decided(small.take(Row(n + 1, n, 1, trace_request(n))))]
    assert evicted == [(1).to_bytes(16), (2).to_bytes(16)]


def test_a_root_may_bring_the_decision_forward() -> None:
    made = sampler("always", wait_s=100, wait_after_root_s=1)
    list(made.take(Row(1, 0, 1, trace_request(1))))
    assert (made.next_due_ns(), list(made.due(S - 1)), len(list(made.due(S)))) == (S, [], 1)


def test_a_hundred_thousand_open_traces_are_small() -> None:
    rows = [Row(n + 1, n, 100, trace_request(n * 100, 100, k="v" * 300)) for n in range(1000)]
    made = sampler("slow", "failed", "text", "loop", "dear")
    before = resident_bytes()
    for row in rows:
        assert list(made.take(row)) == []
    assert made.open_traces == 100_000
    assert resident_bytes() - before < 500 << 20


# --- between two logs ----------------------------------------------------------------------


class Run:
    """One life of the stage, with real logs; ``kill`` ends it without a word."""

    def __init__(self, folder: Path, *names: str, now: Callable[[], int]) -> None:
        self.source = Log(folder / "log" / "traces.sqlite", "traces", clock=now)
        self.kept = Log(folder / "log" / "kept.sqlite", "traces")
        self.source.register(["traces|tail"])
        self.kept.register(["out"])
        self.stage = TailSamplingStage(
            "tail", "traces", source=self.source, sources={"otlp"}, kept=self.kept,
            sampler=sampler(*names, wait_s=1), own=OwnMetrics(), chain=Chain([], SIGNALS["traces"]),
            clock=now,
        )  # fmt: skip
        self.source.start()
        self.kept.start()
        self.task = asyncio.create_task(self.stage.run())

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.source.close()
        await self.kept.close()

    async def written(self) -> list[raw.RawSpan]:
        batch = await self.kept.read(0, 1 << 60, 1 << 60, {"traces"})
        return [part for row in batch.rows for part in raw.spans(row.payload)]


async def test_kills_in_the_middle_change_nothing(tmp_path: Path) -> None:
    rows = traffic(2000, per_row=15)
    traces = whole(rows)
    names = ("failed", "tenth", "loop")
    expected = {i for i, t in traces.items() if any(ORACLE[name](i, t) for name in names)}
    rnd = random.Random(3)
    clock = itertools.count(0, 10 * MS)
    now = [0]
    run = Run(tmp_path, *names, now=lambda: now[0])
    for row in rows:
        now[0] = next(clock)
        await run.source.append(row.payload, row.items, "otlp")
        if rnd.random() < 0.03:
            await asyncio.sleep(rnd.random() / 20)
            await run.kill()
            run = Run(tmp_path, *names, now=lambda: now[0])
    await run.kill()
    with closing(sqlite3.connect(tmp_path / "log" / "kept.sqlite")) as database:
        [(early,)] = database.execute("SELECT SUM(LENGTH(trace_ids) / size) FROM decided")
    assert 100 < early < 2000, "the kills met no decision, or came after all of them"
    run = Run(tmp_path, *names, now=lambda: 1 << 62)  # everything is due
    for _ in range(600):
        if run.stage.open_traces == 0 and run.source.position("traces|tail") == run.source.last_seq:
            break
        await asyncio.sleep(0.05)
    found = await run.written()
    ids = [(part.trace_id, raw.Head.FromString(part.span).span_id) for part in found]
    assert len(ids) == len(set(ids)), "a span was passed on twice"
    assert set(ids) == {(i, span.span_id) for i in expected for _, span in traces[i]}
    await run.kill()


def test_the_collector_keeps_whole_traces_with_their_reason_through_kill_9(tmp_path: Path) -> None:
    port = free_port()
    with (
        collector(tmp_path, {"otlp": backend_exporter(port)}, {"traces": ["otlp"]}) as made,
        GrpcBackend(port) as backend,
    ):
        made.config["processors"] = {
            "tail_sampling": {
                "decision_wait": "3s",
                "policies": [{"name": "failed", **POLICIES["failed"]}, {"name": "dear", **POLICIES["dear"]}],
            }
        }
        made.config["service"]["pipelines"]["traces"]["processors"] = ["tail_sampling"]
        made.start()
        rows = traffic(300, per_row=20)
        for row in rows:
            assert made.post(row.payload).status_code == 200
        made.kill()
        made.start()
        wait_for(lambda: backend.received.requests, "the first kept trace", 90)
        made.kill()
        made.start()
        traces = whole(rows)
        expected = {
            (span.trace_id, span.span_id)
            for i, trace in traces.items()
            if ORACLE["failed"](i, trace) or ORACLE["dear"](i, trace)
            for _, span in trace
        }

        def received() -> list[Any]:
            with backend.received.lock:
                found = list(backend.received.requests)
            return [s for r in found for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

        wait_for(lambda: {(s.trace_id, s.span_id) for s in received()} >= expected, "all kept traces", 90)
        wait_for(
            lambda: made.own("otelcol_processor_tail_sampling_sampling_traces_on_memory") == 0, "all decided"
        )
        spans = received()
        assert {(s.trace_id, s.span_id) for s in spans} == expected
        reasons = {attribute(span, "taximeter.sampling.policy") for span in spans}
        assert reasons == {"failed", "dear"}
        assert {attribute(span, "taximeter.sampling.adjusted_count") for span in spans} == {1.0}
        assert made.stop() == 0


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (
            {"name": "p", "type": "latncy"},
            r"policies\[0\].type: unknown policy 'latncy'; did you mean `latency`",
        ),
        ({"name": "p", "type": "ottl_condition"}, "the official collector has the policy `ottl_condition`"),
        ({"type": "latency"}, r"policies\[0\].name: is required"),
        ({"name": "p", "type": "status_code"}, r"policies\[0\].status_code.status_codes: is required"),
        ({"name": "p", "type": "latency", "latency": {"treshold_ms": 1}}, "did you mean `threshold_ms`"),
        ({"name": "p", "type": "latency", "probabilistic": {}}, r"policies\[0\].probabilistic: unknown key"),
        ({"name": "p", "type": "and", "and": {"and_sub_policy": []}}, "a list of at least one policy"),
        (
            {
                "name": "p",
                "type": "string_attribute",
                "string_attribute": {"key": "k", "values": ["("], "enabled_regex_matching": True},
            },
            "is no regular expression",
        ),
    ],
)
def test_a_wrong_policy_is_named_with_its_place(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_policies([policy], "policies")
