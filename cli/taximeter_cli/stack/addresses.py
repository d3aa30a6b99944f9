"""Where each part of the stack listens, and where the others find it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """``host:port`` as the others reach a part, and the host it listens on."""

    host: str
    port: int
    bind: str = "127.0.0.1"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def listen(self) -> str:
        return f"{self.bind}:{self.port}"


def _local(port: int) -> Place:
    return Place("127.0.0.1", port)


def _container(name: str, port: int) -> Place:
    return Place(name, port, "0.0.0.0")  # noqa: S104  (inside a container; compose publishes on loopback)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Every listener of the stack. The defaults are each program's own, on loopback."""

    otlp_grpc: Place = field(default=_local(4317))
    otlp_http: Place = field(default=_local(4318))
    metrics: Place = field(default=_local(8889))
    own_metrics: Place = field(default=_local(8888))
    health: Place = field(default=_local(13133))
    prometheus: Place = field(default=_local(9090))
    alertmanager: Place = field(default=_local(9093))
    tempo: Place = field(default=_local(3200))
    tempo_otlp: Place = field(default=_local(14317))
    grafana: Place = field(default=_local(3000))
    postgres_exporter: Place | None = None


COMPOSE = Addresses(
    otlp_grpc=_container("collector", 4317),
    otlp_http=_container("collector", 4318),
    metrics=_container("collector", 8889),
    own_metrics=_container("collector", 8888),
    health=_container("collector", 13133),
    prometheus=_container("prometheus", 9090),
    alertmanager=_container("alertmanager", 9093),
    tempo=_container("tempo", 3200),
    tempo_otlp=_container("tempo", 4317),
    grafana=_container("grafana", 3000),
    postgres_exporter=_container("postgres-exporter", 9187),
)
