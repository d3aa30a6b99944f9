"""Records a run of the example as it came over the wire, beside what its ledgers counted.

    python -m tests.analysis.recording            # writes tests/fixtures/run, about a minute

Between the service and the collector stands a tap that keeps every OTLP body as received. The
files are what the official collector's ``file`` exporter writes in its ``proto`` format (each message after
its length, four bytes, big-endian), gzipped; the ledgers are those of the guests and the provider, and
Postgres's own count of statements.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from examples.demo import ledgers
from examples.demo.stack import SERVICE_ROLE, running_stack

RUN = Path(__file__).parents[1] / "fixtures" / "run"
SIGNALS = ("traces", "metrics")


class Tap:
    """An OTLP/HTTP receiver on loopback that keeps what it hears and passes it on."""

    def __init__(self) -> None:
        self.heard: dict[str, list[bytes]] = {name: [] for name in SIGNALS}
        self._target = ""
        self._known = threading.Event()
        tap, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                tap._known.wait(60)
                names = ("Content-Type", "Content-Encoding")
                kept = {name: self.headers[name] for name in names if self.headers[name]}
                answer = httpx.post(tap._target + self.path, content=body, headers=kept, trust_env=False)
                signal = self.path.rpartition("/")[2]
                if answer.status_code == 200 and signal in tap.heard:
                    zipped = self.headers["Content-Encoding"] == "gzip"
                    with lock:
                        tap.heard[signal].append(gzip.decompress(body) if zipped else body)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forward_to(self, url: str) -> None:
        self._target = url
        self._known.set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def framed(messages: list[bytes]) -> bytes:
    """As the official collector's file exporter writes them."""
    return b"".join(len(message).to_bytes(4) + message for message in messages)


def record(folder: Path, *, seconds: float = 14, rate: float = 24) -> None:
    """Run the stack once and write the four files."""
    folder.mkdir(parents=True, exist_ok=True)
    tap = Tap()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": tap.url}
    try:
        with running_stack(scale="small", latency_scale=0.4, seed=11, service_env=environment) as stack:
            tap.forward_to(f"http://127.0.0.1:{stack.ports.otlp_http}")
            guests = stack.start_guests(duration=seconds, rate=rate, guests=40)
            if guests.popen.wait(180) != 0:
                raise SystemExit(guests.tail())
            stack.supervisor.stop("service")
            stack.drain()
            for name in SIGNALS:
                _write(folder / f"{name}.otlp.gz", framed(tap.heard[name]))
            _write(folder / "guests.jsonl.gz", stack.guests_log.read_bytes())
            _write(folder / "provider.jsonl.gz", stack.provider_ledger.read_bytes())
            counted = {"statements": ledgers.read_postgres(stack.postgres.dsn(), SERVICE_ROLE)}
            (folder / "postgres.json").write_text(json.dumps(counted) + "\n", encoding="utf-8")
    finally:
        tap.close()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, 9, mtime=0))
    sys.stdout.write(f"{path.name}: {len(data)} bytes, {path.stat().st_size} compressed\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]) if len(sys.argv) > 1 else RUN)
