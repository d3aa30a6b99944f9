"""A real Tempo beside the example, where one is: it answers the search that a page links to."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from taximeter import semconv
from taximeter_cli.stack import files, programs
from taximeter_cli.stack.addresses import Addresses, Place
from taximeter_cli.supervise import StartFailed, Supervisor, free_port


def find() -> str | None:
    """The binary that TAXIMETER_TEMPO names, or the one on PATH."""
    return os.environ.get("TAXIMETER_TEMPO") or shutil.which("tempo")


@dataclass
class Tempo:
    """Configured as `taximeter up` configures it."""

    at: Addresses

    @classmethod
    def on_free_ports(cls, prometheus_port: int) -> Tempo:
        """Its service graph is written to that Prometheus."""
        made = Addresses(*(Place("127.0.0.1", free_port()) for _ in range(9)))
        prometheus = Place("127.0.0.1", prometheus_port)
        return cls(Addresses(tempo=made.tempo, tempo_otlp=made.tempo_otlp, prometheus=prometheus))

    @property
    def url(self) -> str:
        return self.at.tempo.url

    def start(self, supervisor: Supervisor, folder: Path) -> None:
        binary = find()
        if binary is None:
            raise StartFailed("no `tempo` on PATH nor in TAXIMETER_TEMPO (a binary of Tempo's releases)")
        (folder / "tempo.yaml").write_text(files.tempo(self.at, storage=str(folder / "tempo")))
        program = next(one for one in programs.PROGRAMS if one.name == "tempo")
        supervisor.start(program.spec(binary, self.at, folder))

    def fed_by(self, config: dict[str, Any]) -> None:
        """Have a collector's configuration send its traces here as well."""
        exporter = {"endpoint": self.at.tempo_otlp.address, "tls": {"insecure": True}}
        config["exporters"]["otlp_grpc/tempo"] = exporter
        config["service"]["pipelines"]["traces"]["exporters"].append("otlp_grpc/tempo")

    def has(self, trace_id: str) -> bool:
        """Whether the trace is found by its id, as Grafana asks for it."""
        return self._get(f"/api/v2/traces/{trace_id}").status_code == httpx.codes.OK

    def search(self, traceql: str) -> list[str]:
        """The ids that a TraceQL search of the last hour finds. Raises where Tempo does not take it."""
        answer = self._get("/api/search", q=traceql, limit=20)
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{traceql}: {answer.status_code} {answer.text.strip()}")
        return [trace["traceID"] for trace in answer.json().get("traces") or ()]

    def statements(self, trace_id: str) -> Counter[str]:
        """How often each statement stands in a trace."""
        answer = self._get(f"/api/v2/traces/{trace_id}").raise_for_status().json()
        return Counter(
            value["stringValue"]
            for name, value in _attributes(answer)
            if name == semconv.DB_QUERY_TEXT and "stringValue" in value
        )

    def _get(self, path: str, **params: str | int) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", params=params, trust_env=False, timeout=30)


def _attributes(answer: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    trace = answer.get("trace", answer)
    for resource in trace.get("resourceSpans") or trace.get("batches") or ():
        for scope in resource.get("scopeSpans") or ():
            for span in scope.get("spans") or ():
                for attribute in span.get("attributes") or ():
                    yield attribute["key"], attribute["value"]


def with_tempo(base: Path, tempo: Tempo, target: Path) -> Path:
    """The collector's configuration ``base``, which feeds Tempo as well, written to ``target``."""
    config = yaml.safe_load(base.read_text())
    tempo.fed_by(config)
    target.write_text(yaml.safe_dump(config, sort_keys=False))
    return target
