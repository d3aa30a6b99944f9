"""Configuration: the official YAML is taken, anything else is one clear message and exit code 2."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taximeter_collector.command import DEFAULT_CONFIG
from taximeter_collector.config.components import EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS
from taximeter_collector.config.fields import duration
from taximeter_collector.config.loader import load
from taximeter_collector.config.official import OFFICIAL
from taximeter_collector.config.reference import reference
from taximeter_collector.errors import ConfigError
from tests.collector.support import collector, free_port, trace_request, wait_for

GOOD = """
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {debug: }
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
"""

BAD = [
    ("exporters: {otlp: {endpont: x:1}}", "exporters.otlp.endpont: unknown key; did you mean `endpoint`?"),
    ("exporters: {kafka: {}}", "exporters.kafka: the official collector has `kafka`; Taximeter does not"),
    ("exporters: {promtheus: {}}", "exporters.promtheus: unknown component; did you mean `prometheus`?"),
    ("exporters: {xyzzy: {}}", "exporters.xyzzy: unknown component; valid here: `debug`"),
    ("exporters: {batch: {}}", "exporters.batch: `batch` is not one of the exporters but of the processors"),
    ("receivers: {zipkin: {}}", "receivers.zipkin: the official collector has `zipkin`"),
    (
        "processors: {transform: {}}",
        "processors.transform: the official collector has `transform`",
    ),
    ("extensions: {pprof: {}}", "extensions.pprof: the official collector has `pprof`"),
    ("connectors: {failover: {}}", "connectors.failover: the official collector has `failover`; Taximeter"),
    (
        "{connectors: {request_metrics: }, service: {pipelines: {traces: {exporters: [request_metrics]}}}}",
        "connectors.request_metrics: is among the exporters of a pipeline, and among the receivers of none",
    ),
    (
        "{connectors: {request_metrics: }, service: {pipelines: {traces: {exporters: [request_metrics]}, "
        "metrics: {receivers: [request_metrics], exporters: [debug]}}}}",
        "service.pipelines.traces.exporters: `request_metrics` counts whole traces before any sampling",
    ),
    (
        "{connectors: {request_metrics: }, service: {pipelines: {logs: {receivers: [request_metrics], "
        "exporters: [debug]}}}}",
        "service.pipelines.logs.receivers: `request_metrics` makes metrics, not logs",
    ),
    ("exporter: {}", "exporter: unknown section; did you mean `exporters`?"),
    (
        "exporters: {otlp: {endpoint: 'x:1', keepalive: {}}}",
        "exporters.otlp.keepalive: the official collector has",
    ),
    (
        "exporters: {otlp: {endpoint: 'x:1', tls: {insecur: true}}}",
        "otlp.tls.insecur: unknown key; did you",
    ),
    (
        "exporters: {otlp: {endpoint: 'x:1', tls: {insecure: 'yes'}}}",
        "tls.insecure: 'yes' is not true or false",
    ),
    (
        "exporters: {otlp: {endpoint: 'x:1', timeout: 5}}",
        "exporters.otlp.timeout: 5 is not a duration such as",
    ),
    (
        "exporters: {otlp: {endpoint: 'x:1', compression: lzma}}",
        "compression: 'lzma' is not one of gzip, none",
    ),
    ("exporters: {otlp: {}}", "exporters.otlp.endpoint: is required"),
    ("exporters: {otlphttp: {endpoint: 'x:1'}}", "exporters.otlphttp.endpoint: 'x:1' is not a URL"),
    ("exporters: {prometheus: {}}", "exporters.prometheus.endpoint: is required"),
    (
        "exporters: {prometheus: {endpoint: '9464'}}",
        "exporters.prometheus.endpoint: '9464' is not an address",
    ),
    ("exporters: {span_store: {directory: x, max_rows: 0}}", "span_store.max_rows: must be greater than 0"),
    ("exporters: [debug]", "exporters: ['debug'] is not a mapping of components"),
    ("receivers: {otlp/2: {protocols: {}}}", "receivers.otlp/2.protocols: name at least one of `grpc`, "),
    (
        "receivers: {otlp: {protocols: {grcp: {}}}}",
        "receivers.otlp.protocols.grcp: unknown key; did you mean `grpc`",
    ),
    ("processors: {memory_limiter: {limit_mib: 5}}", "memory_limiter.check_interval: must be greater than 0"),
    (
        "processors: {batch: {send_batch_max_size: 5}}",
        "send_batch_max_size: 5 is less than send_batch_size 8192",
    ),
    (
        "service: {pipelines: {traces: {exporters: [debgu]}}}",
        "exporters: `debgu` is not defined under exporters; did",
    ),
    (
        "service: {pipelines: {traces: {exporters: []}}}",
        "service.pipelines.traces.exporters: name at least one",
    ),
    (
        "service: {pipelines: {traces: {processors: [batch]}}}",
        "`batch` is not defined under processors; `processors`",
    ),
    ("service: {pipelines: {trace: {}}}", "service.pipelines.trace: unknown signal; did you mean `traces`?"),
    ("service: {pipelines: {profiles: {}}}", "the official collector has `profiles`; Taximeter does not"),
    (
        "service: {pipelines: {traces: {receiver: []}}}",
        "traces.receiver: unknown key; did you mean `receivers`?",
    ),
    (
        "service: {extensions: [health_check]}",
        "service.extensions: `health_check` is not defined under extensions",
    ),
    ("service: {telemetry: {metrics: {adress: x}}}", "service.telemetry.metrics.adress: unknown key"),
    (
        "service: {telemetry: {metrics: {readers: [{periodic: {}}]}}}",
        "readers[0].periodic: the official collector",
    ),
    (
        "{exporters: {prometheus: {endpoint: 'x:1'}}, "
        "service: {pipelines: {traces: {exporters: [prometheus]}}}}",
        "service.pipelines.traces.exporters: `prometheus` takes metrics, not traces",
    ),
    (
        "exporters: {debug: {verbosity: '${env:NOT_SET_HERE}'}}",
        "debug.verbosity: environment variable NOT_",
    ),
    ("exporters: {debug: {verbosity: '${file:x}'}}", "only ${env:NAME} is supported"),
]


def write(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{number}.yaml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_configurations_say_where_and_what(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, GOOD, change), {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_good_one_is_good(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), {})
    grpc = config.receivers["otlp"].values["protocols"]["grpc"]
    assert (grpc["endpoint"], grpc["max_recv_msg_size_mib"]) == ("localhost:4317", 4)
    assert config.telemetry.metrics_endpoint == "localhost:8888"
    assert config.notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 1, column"),
        ("", "is empty or no mapping"),
        ("- a", "is empty or no mapping"),
        ("service: {pipelines: {}}", "service.pipelines: missing"),
        ("exporters: {}", "service: missing"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(write(tmp_path, text), {})


def test_variables(tmp_path: Path) -> None:
    over = """
    exporters:
      otlp_http:
        endpoint: http://${env:HOST}:${env:PORT:-4318}
        headers: {price: "5$$", token: "${TOKEN}"}
        retry_on_failure: {enabled: "${env:RETRY:-false}"}
    """
    config = load(write(tmp_path, GOOD, over), {"HOST": "h", "TOKEN": "t"})
    values = config.exporters["otlp_http"].values
    assert values["endpoint"] == "http://h:4318"
    assert values["headers"] == {"price": "5$", "token": "t"}
    assert values["retry_on_failure"]["enabled"] is False


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("1m30s", 90), ("1.5h", 5400), ("0", 0), (0, 0), ("10us", 1e-5)]
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text, "x") == pytest.approx(seconds)


def test_official_keys_without_effect_are_told(tmp_path: Path) -> None:
    over = "exporters: {otlp: {endpoint: 'x:1', sending_queue: {queue_size: 5}}}"
    notes = load(write(tmp_path, GOOD, over), {}).notes
    assert any("exporters.otlp.sending_queue.queue_size has no effect: the durable log" in n for n in notes)
    assert any("exporters.otlp is not used" in n for n in notes)


def test_the_official_list_knows_our_official_components() -> None:
    ours = {
        "receivers": RECEIVERS,
        "processors": PROCESSORS,
        "exporters": EXPORTERS,
        "extensions": EXTENSIONS,
    }
    missing = {name for kind, table in ours.items() for name in table if name not in OFFICIAL[kind]}
    assert missing == {"span_store", "pricing", "request_account"}


def test_the_reference_says_what_the_code_does() -> None:
    """``python -m taximeter_collector.config.reference > docs/collector-reference.md`` mends it."""
    assert Path("docs/collector-reference.md").read_text() == reference()
    for words in ("`retry_on_failure.max_elapsed_time` | `0s` | differs: officially 300s", "Refused: `"):
        assert words in reference()


def run(*args: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "taximeter_collector"]
    return subprocess.run(
        [sys.executable, *start, *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_exit_codes(tmp_path: Path) -> None:
    good, bad = write(tmp_path, GOOD, "exporters: {otlp: {endpont: 'x:1'}}")
    fine = run("validate", "--config", str(good))
    assert (fine.returncode, fine.stderr) == (0, "")
    wrong = run("run", "--config", str(good), "--config", str(bad))
    assert wrong.returncode == 2
    assert (
        wrong.stderr == "taximeter collector: exporters.otlp.endpont: unknown key; did you mean `endpoint`?\n"
    )
    absent = run("validate", "--config", str(tmp_path / "no.yaml"))
    assert (absent.returncode, "No such file" in absent.stderr) == (2, True)


def test_a_missing_extra_names_the_install_line() -> None:
    code = (
        "import sys; sys.modules.update({'grpc': None, 'pyarrow': None})\n"
        "import argparse; from taximeter_collector.command import configure, main\n"
        "p = argparse.ArgumentParser(); configure(p); sys.exit(main(p.parse_args()))"
    )
    result = run("run", "--config", "any.yaml", code=code)
    assert result.returncode == 2
    expected = "taximeter collector: grpcio, pyarrow not installed: pip install 'taximeter[collector]'\n"
    assert result.stderr == expected


@pytest.mark.parametrize(
    ("which", "path"),
    [
        ("grpc", "receivers.otlp.protocols.grpc.endpoint"),
        ("http", "receivers.otlp.protocols.http.endpoint"),
        ("health", "extensions.health_check.endpoint"),
        ("own", "service.telemetry.metrics"),
        ("prometheus", "exporters.prometheus.endpoint"),
    ],
)
def test_a_port_in_use_is_one_clear_message(tmp_path: Path, which: str, path: str) -> None:
    exporters: dict[str, Any] = {"prometheus": {"endpoint": f"127.0.0.1:{free_port()}"}, "debug": None}
    pipelines = {"traces": ["debug"], "metrics": ["prometheus"]}
    with socket.socket() as taken, collector(tmp_path, exporters, pipelines) as made:
        made.ports["prometheus"] = int(exporters["prometheus"]["endpoint"].split(":")[1])
        taken.bind(("127.0.0.1", made.ports[which]))
        taken.listen()
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(made.config))
        result = run("run", "--config", str(tmp_path / "c.yaml"))
        assert result.returncode == 1
        assert result.stderr == (
            f"taximeter collector: {path}: 127.0.0.1:{made.ports[which]} is already in use: "
            "stop the program that holds it, or set another endpoint\n"
        )


def test_the_built_in_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(tmp_path, {"debug": None}, {"traces": ["debug"]}) as made:
        values = {
            "GRPC_ENDPOINT": f"127.0.0.1:{made.ports['grpc']}",
            "HTTP_ENDPOINT": f"127.0.0.1:{made.ports['http']}",
            "HEALTH_ENDPOINT": f"127.0.0.1:{made.ports['health']}",
            "PROMETHEUS_ENDPOINT": f"127.0.0.1:{free_port()}",
            "OWN_HOST": "127.0.0.1",
            "OWN_PORT": str(made.ports["own"]),
            "STORE": str(tmp_path / "store"),
            "DATA": str(tmp_path / "data"),
        }
        for name, value in values.items():
            monkeypatch.setenv(f"TAXIMETER_{name}", value)
        made.config = yaml.safe_load(DEFAULT_CONFIG.read_text())
        made.start()
        assert made.post(trace_request(0)).status_code == 200
        wait_for(lambda: list((tmp_path / "store" / "spans").glob("*.parquet")), "a segment")


def test_without_a_file_the_built_in_configuration_is_meant() -> None:
    result = run("validate")
    assert (result.returncode, result.stdout) == (0, f"{DEFAULT_CONFIG}: valid, 2 pipelines\n")


def test_a_key_that_is_there_twice_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("receivers: {}\nreceivers: {}\n")
    with pytest.raises(ConfigError, match=r"c.yaml, line 2, column 1: the key `receivers` is there twice"):
        load([path])


def test_a_variable_keeps_its_text_where_a_text_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "receivers: {otlp: {protocols: {grpc: }}}\n"
        "exporters: {otlp: {endpoint: 'x:1', headers: {key: '${env:KEY}'}, tls: {insecure: '${env:ON}'}}}\n"
        "service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}\n"
    )
    values = load([path], {"KEY": "0123", "ON": "true"}).exporters["otlp"].values
    assert (values["headers"], values["tls"]["insecure"]) == ({"key": "0123"}, True)


@pytest.mark.parametrize("unit", ["mib", "percentage"])
def test_a_spike_as_large_as_the_limit_would_refuse_everything(tmp_path: Path, unit: str) -> None:
    text = f"processors: {{memory_limiter: {{check_interval: 1s, limit_{unit}: 50, spike_limit_{unit}: 50}}}}"
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + text)
    with pytest.raises(ConfigError, match=f"spike_limit_{unit}: 50 is not less than limit_{unit} 50"):
        load([path])
