"""What the end-to-end tests share: short runs of the stack, a real Prometheus, a second OTLP receiver."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from examples.demo import books, figures, ledgers
from examples.demo.figures import Sample
from examples.demo.ledgers import Figures
from examples.demo.stack import ROOT, SERVICE_ROLE, Stack, python_module
from taximeter_analysis import open_store
from taximeter_cli.supervise import Spec, Supervisor, free_port, http_healthy, port_open

client = httpx.Client(trust_env=False, timeout=30)


def ledger_of(stack: Stack) -> Figures:
    """The three ledgers of a finished run."""
    return ledgers.ledger_figures(
        ledgers.read_guests(stack.guests_log),
        ledgers.read_lines(stack.provider_ledger),
        ledgers.read_postgres(stack.postgres.dsn(), SERVICE_ROLE),
    )


def finish(stack: Stack) -> None:
    """Wait for the guests, stop the service politely, let the collector drain."""
    guests = stack.supervisor.processes["guests"]
    assert guests.popen.wait(180) == 0, guests.tail()
    assert stack.supervisor.stop("service") in {0, -15}
    stack.drain()


def store_figures(stack: Stack) -> dict[str, Figures]:
    """Taximeter's figures from the store: by spans and by accounts; the store must be sound."""
    with open_store(stack.store) as store:
        check = store.check()
        assert check.ok, check
        return {"spans": figures.from_spans(store), "accounts": figures.from_accounts(store)}


def assert_balanced(source: str, ours: Figures, ledger: Figures) -> None:
    """Every row of the books, or a failure that names the rows."""
    assert ledger.requests > 0
    assert ledger.cost_usd > 0
    wrong = [str(row) for row in books.compare(source, ours, ledger) if not row.balanced]
    assert not wrong, "\n".join(wrong)


@dataclass
class Prometheus:
    """A running Prometheus server."""

    url: str

    def query(self, expression: str) -> list[Sample]:
        """An instant query: one sample per series of the answer."""
        answer = client.get(f"{self.url}/api/v1/query", params={"query": expression})
        answer.raise_for_status()
        return [
            Sample(item["metric"].pop("__name__", ""), item["metric"], float(item["value"][1]))
            for item in answer.json()["data"]["result"]
        ]

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """The exemplars of a selector over the last hour, each with ``labels`` and ``value``."""
        now = time.time()
        answer = client.get(
            f"{self.url}/api/v1/query_exemplars",
            params={"query": expression, "start": str(now - 3600), "end": str(now + 60)},
        )
        answer.raise_for_status()
        return [exemplar for series in answer.json()["data"] for exemplar in series["exemplars"]]

    def wait_scraped_after(self, moment: float) -> None:
        """Block until the target was scraped successfully after ``moment`` (Unix seconds)."""
        deadline = time.monotonic() + 30
        while True:
            # The name alone: of any expression, timestamp() is the moment of the query.
            scraped = [sample.value for sample in self.query("timestamp(up)")]
            well = [sample.value for sample in self.query("up")]
            if scraped and min(scraped) > moment and all(well):
                return
            assert time.monotonic() < deadline, "Prometheus has not scraped the collector for 30 s"
            time.sleep(0.2)


def start_prometheus(
    supervisor: Supervisor,
    binary: str,
    directory: Path,
    targets: list[int] | Mapping[str, list[int]],
    rules: Path | None = None,
) -> Prometheus:
    """Scrape ``targets`` (ports on loopback, by job) every second, exemplars stored; evaluate ``rules``."""
    port = free_port()
    directory.mkdir(parents=True)
    jobs = targets if isinstance(targets, Mapping) else {"taximeter": targets}
    text = "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
    text += f"rule_files: ['{rules}']\n" if rules else ""
    text += "scrape_configs:\n"
    for job, ports in jobs.items():
        addresses = ", ".join(f"'127.0.0.1:{target}'" for target in ports)
        text += f"  - job_name: {job}\n    honor_labels: true\n"
        text += f"    static_configs: [{{targets: [{addresses}]}}]\n"
    (directory / "prometheus.yml").write_text(text)
    argv = [
        binary,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    url = f"http://127.0.0.1:{port}"
    supervisor.start(Spec("prometheus", argv, healthy=http_healthy(f"{url}/-/ready")))
    return Prometheus(url)


@dataclass(frozen=True)
class Receiver:
    """A running ``tests.e2e.receiver``."""

    port: int
    path: Path

    def spans(self) -> Counter[tuple[int, int, int]]:
        """(trace id's halves, span id) as the store spells them -> times received."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        pairs = (line.split(" ") for line in lines)
        return Counter((int(trace[:16], 16), int(trace[16:], 16), int(span, 16)) for trace, span in pairs)


@contextlib.contextmanager
def otlp_receiver(directory: Path) -> Iterator[Receiver]:
    """Listen on loopback until the block ends."""
    receiver = Receiver(free_port(), directory / "received.txt")
    argv = python_module("tests.e2e.receiver", receiver.port, receiver.path)
    with Supervisor(directory / "logs") as supervisor:
        supervisor.start(Spec("receiver", argv, cwd=ROOT, healthy=port_open(receiver.port)))
        yield receiver


def processes_marked(marker: str) -> list[int]:
    """Ids of living processes that inherited an environment variable's value (``NAME=value``)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found
