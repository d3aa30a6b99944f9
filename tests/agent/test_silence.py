"""1,000 distinctive texts of guests go through a service; none of them leaves it in telemetry.

Searched are the raw bytes of every export, what the collector makes of them (its log on disk,
the span store, its metrics, its output) and the agent's own lines. The control run, where
``TAXIMETER_CAPTURE_CONTENT=all``, proves that the search finds what is there.
"""

from __future__ import annotations

import asyncio
import random
import re
import string
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pyarrow.parquet as pq
import pytest
import websockets

from taximeter import redact
from taximeter_collector.segments import Damaged, scan
from tests.agent.conftest import Service, Start
from tests.agent.receiver import Receiver
from tests.agent.talkative import STATEMENTS
from tests.collector.support import Collector, free_port, wait_for

TEXTS = 1000
MARK = "zqj"  # every text begins with it, so that one search finds any part of any
_PROMPTS = ("chat", "echo", "parrot", "responses", "embeddings", "claude", "claude-echo", "stream")
_SHORT = 10  # characters of a text that give it away


class Texts:
    """Letters only: no encoding of URLs, JSON or SQL can hide one from the search."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self.given: dict[str, str] = {}  # text -> where it went

    def __call__(self, where: str) -> str:
        text = MARK + "".join(self._random.choices(string.ascii_lowercase, k=13))
        self.given[text] = where
        return text

    def found(self, haystack: bytes) -> dict[str, str]:
        """Every text of which a part is in ``haystack``, and where it had gone."""
        lower = haystack.lower()
        begun = {match.decode() for match in re.findall(MARK.encode() + rb"[a-z]*", lower)}
        return {
            text: where
            for text, where in self.given.items()
            if any(text.startswith(part[:_SHORT]) and len(part) > len(MARK) for part in begun)
        }


def _exercise(service: Service, texts: Texts, count: int) -> None:
    turn = 0
    # A connection each: uvicorn closes that of a handler that raised, after its answer.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=service.url, timeout=60, limits=limits) as client:

        def ask(method: str, path: str, where: str, body: str = "") -> None:
            headers = {
                "user-agent": texts("user agent"),
                "x-forwarded-for": texts("forwarded for"),
                "cookie": f"session={texts('cookie')}",
                "authorization": f"Bearer {texts('authorization')}",
                "referer": f"http://example.org/{texts('referer')}",
                "baggage": f"name={texts('baggage')}",
                "tracestate": f"vendor={texts('tracestate')}",
            }
            try:
                client.request(method, path, headers=headers, content=body)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                assert "stream" in where, where  # it breaks off, on purpose

        while len(texts.given) < count:
            for how in _PROMPTS:
                ask("POST", f"/prompt/{how}?q={texts('query')}", f"prompt {how}", texts(f"prompt {how}"))
            for how in STATEMENTS:
                ask("POST", f"/sql/{how}", f"sql {how}", texts(f"sql {how}"))
            ask("GET", f"/guests/{texts('path')}?{texts('query')}", "path")
            ask("GET", f"/guests/{texts('error')}?fail=true", "error")
            ask("GET", f"/nowhere/{texts('unknown path')}", "unknown")
            ask(texts("method").upper(), "/guests/a", "method")
            asyncio.run(_socket(service, texts, turn % 2 == 1))
            turn += 1


async def _socket(service: Service, texts: Texts, fail: bool) -> None:
    address = f"ws://127.0.0.1:{service.port}/socket/{texts('socket path')}?{texts('query')}"
    async with websockets.connect(address) as connection:
        await connection.send(("fail " if fail else "") + texts("socket message"))
        await connection.recv()


@pytest.fixture(scope="module")
def people(database: str) -> Iterator[str]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (name text UNIQUE)")
    yield database


def _agent_lines(log: str) -> str:
    """The log without what the service says itself: uvicorn prints the tracebacks of its errors."""
    return "\n".join(
        line for line in log.splitlines() if re.match(r"(WARNING|INFO|ERROR) \w*taximeter", line)
    )


def test_no_text_of_a_guest_is_exported(start: Start, people: str, tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.start()
    texts = Texts()
    try:
        service = start(
            "talkative",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            DATABASE_URL=people,
            TAXIMETER_LOG_LEVEL="debug",
        )
        _exercise(service, texts, TEXTS)
        service.stop()
    finally:
        receiver.stop()
    assert len(texts.given) >= TEXTS
    assert len(receiver.spans) > TEXTS / 10
    assert receiver.count("http.server.request.duration") > 0
    # Not because nothing was traced: statements, types and stacks are there.
    assert any(span.attributes.get("error.type") for span in receiver.spans)
    assert any("SELECT ?" in str(span.attributes.get("db.query.text")) for span in receiver.spans)
    exported = b"\n".join(body for _, body in receiver.bodies)
    assert b"in guest" in exported  # a stack: file, line and function
    assert texts.found(exported) == {}
    assert texts.found(_agent_lines(service.log()).encode()) == {}
    assert texts.found(_through_the_collector(receiver, tmp_path)) == {}


def _through_the_collector(receiver: Receiver, folder: Path) -> bytes:
    """Everything a real collector stores and says about these exports."""
    ports = {name: free_port() for name in ("http", "prom", "health", "own")}
    own = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["own"]}}}}
    collector = Collector(
        folder,
        {
            "extensions": {
                "file_storage": {"directory": str(folder / "log")},
                "health_check": {"endpoint": f"127.0.0.1:{ports['health']}"},
            },
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{ports['http']}"}}}},
            "exporters": {
                "prometheus": {"endpoint": f"127.0.0.1:{ports['prom']}"},
                "span_store": {"directory": str(folder / "store")},
            },
            "service": {
                "extensions": ["file_storage", "health_check"],
                "telemetry": {"metrics": {"readers": [own]}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["span_store"]},
                    "metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]},
                },
            },
        },
        ports,
    )
    collector.start()
    try:
        for path, body in receiver.bodies:
            assert collector.post(body, path).status_code == 200
        wait_for(collector.settled, "everything is exported")
        metrics = httpx.get(f"http://127.0.0.1:{ports['prom']}/metrics", timeout=20).content
        assert b"http_server_request_duration" in metrics
    finally:
        collector.stop()
    files = [file for file in folder.rglob("*") if file.is_file()]
    rows = [str(pq.read_table(file).to_pylist()) for file in files if file.suffix == ".parquet"]
    assert rows, "the span store is empty"
    logs = [record for file in files if file.suffix == ".seg" for record in scan(file)]
    payloads = [found[0].payload for found in logs if not isinstance(found, Damaged)]
    assert payloads, "the log is empty"
    return b"\n".join((metrics, *payloads, *(file.read_bytes() for file in files), "".join(rows).encode()))


def test_what_is_asked_for_is_exported(start: Start, people: str) -> None:
    """The control: the same texts are found, of every kind, where the settings let them through."""
    receiver = Receiver()
    receiver.start()
    texts = Texts()
    try:
        service = start(
            "talkative",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            DATABASE_URL=people,
            TAXIMETER_CAPTURE_CONTENT="all, nonsense",
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
        )
        _exercise(service, texts, 200)
        service.stop()
    finally:
        receiver.stop()
    assert "names 'nonsense', which is no kind of content and is ignored" in service.log()
    found = set(texts.found(b"\n".join(body for _, body in receiver.bodies)).values())
    missing = {
        *("query", "path", "unknown path", "error", "user agent", "forwarded for", "socket path"),
        *("prompt chat", "prompt echo", "prompt stream", "sql plain", "sql dollars", "sql unique-parameter"),
    } - found
    assert not missing
    assert not {"cookie", "authorization", "referer"} & found


def test_kinds_can_be_let_through_one_by_one() -> None:
    given = {
        "exception.message": "m",
        "url.query": "q",
        "url.path": "/guests/ann",
        "http.route": "/guests/{name}",
        "db.query.text": "SELECT 'x'",
        "gen_ai.input.messages": "i",
        "llm.input_messages.0.message.content": "c",
        "client.address": "1.2.3.4",
        "mine": "kept",
    }
    silent = redact.Redactor().attributes(given, server=True)
    assert silent == {
        "url.path": "/guests/{name}",
        "http.route": "/guests/{name}",
        "db.query.text": "SELECT ?",
        "mine": "kept",
    }
    assert redact.Redactor(frozenset(redact.KINDS)).attributes(given, server=True) is given
    for kind in redact.KINDS:
        more = redact.Redactor(frozenset({kind})).attributes(given, server=True)
        assert more != silent, kind


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (
            "https://me:hush@api.openai.com/v1/chat/completions?key=1#x",
            "https://api.openai.com/v1/chat/completions",
        ),
        ("http://pms.local:8080/guests/Ann/bookings", "http://pms.local:8080/*/*/*"),
        ("https://x.supabase.co/rest/v1/guests?name=eq.Ann", "https://x.supabase.co/rest/v1/guests"),
        ("https://x.supabase.co/rest/v1/rpc/match_faq", "https://x.supabase.co/rest/v1/rpc/match_faq"),
        ("https://x.supabase.co/rest/v1/guests/Ann", "https://x.supabase.co/rest/v1/*/*"),
        ("http://[broken", "*"),
    ],
)
def test_addresses_keep_their_host_and_the_words_of_known_interfaces(address: str, kept: str) -> None:
    assert redact.url(address) == kept


def test_statements_of_other_systems() -> None:
    redactor = redact.Redactor()
    assert redactor.attributes({"db.system.name": "redis", "db.query.text": "GET guest:ann"}) == {
        "db.system.name": "redis",
        "db.query.text": "GET",
    }
    mysql = {"db.system": "mysql", "db.statement": 'SELECT * FROM t WHERE a = "ann"'}
    assert redactor.attributes(mysql)["db.statement"] == "SELECT"
