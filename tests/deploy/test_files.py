"""Every file of ``deploy/``, judged by the tool that reads it, as far as the tool is here.

promtool, `validate` of our collector and of the official one, systemd-analyze, kustomize with the published
schemas of Kubernetes, and Docker Compose or its loader. A tool that is not installed skips its test and says
so; what can be said of a file without its tool is tested always.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from taximeter_alerts.rules import alerts_file
from taximeter_cli.main import main
from taximeter_cli.stack import deploy, files
from taximeter_dashboards.render import PROMETHEUS_UID
from tests.official import official, official_collector

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
EVERY_FILE = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def run(*argv: str, **environment: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no `{name}` on PATH")
    return found


def documents(text: str) -> Iterator[dict[str, Any]]:
    return (document for document in yaml.safe_load_all(text) if document)


def test_rendered_files_have_not_drifted() -> None:
    assert deploy.drifted() == [], "run: python -m taximeter_cli.stack.deploy"


def test_every_file_is_judged_by_a_test() -> None:
    known = {".service", ".timer", ".yaml", ".yml", ".env"}
    assert [path for path in EVERY_FILE if path.suffix not in known and path.name != "Dockerfile"] == []
    for path in EVERY_FILE:
        if path.suffix in {".yaml", ".yml"}:
            assert list(documents(path.read_text())), path


def test_collector_accepts_its_configuration() -> None:
    assert main(["collector", "validate", "--config", str(DEPLOY / "config" / "collector.yaml")]) == 0


COLLECTOR_FILES = sorted(
    path
    for path in ROOT.rglob("*.y*ml")
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
    and re.search(r"^receivers:.*\n(.*\n)*service:", path.read_text(), re.MULTILINE)
    and "alertmanager" not in path.name
)


def test_every_collector_file_is_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in COLLECTOR_FILES}
    assert names >= {
        "collector/taximeter_collector/default.yaml",
        "deploy/config/collector.yaml",
        "deploy/kubernetes/config/gateway.yaml",
        "deploy/kubernetes/config/sampling.yaml",
        "examples/demo/collector.yaml",
    }


@pytest.mark.parametrize("path", COLLECTOR_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_official_collector_accepts_the_file(path: Path, tmp_path: Path) -> None:
    """As it stands; what only Taximeter has is taken out first, and nothing else."""
    binary = official_collector()
    text = path.read_text()
    config = tmp_path / "collector.yaml"
    config.write_text(yaml.safe_dump(without_own_parts(yaml.safe_load(text))))
    variables = {
        name: "4317" if name.endswith("PORT") else "localhost:4317" if "ENDPOINT" in name else str(tmp_path)
        for name in re.findall(r"\$\{env:(\w+)", text)
    }
    run(binary, "validate", f"--config={config}", **{**variables, "REMOTE_WRITE_URL": "http://localhost/x"})


def test_the_official_collector_refuses_a_typing_error(tmp_path: Path) -> None:
    binary = official_collector()
    text = (DEPLOY / "kubernetes" / "config" / "sampling.yaml").read_text()
    config = tmp_path / "collector.yaml"
    config.write_text(text.replace("decision_wait:", "decision_weight:"))
    argv = [binary, "validate", f"--config={config}"]
    environment = {**os.environ, "TEMPO_ENDPOINT": "localhost:4317"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode != 0
    assert "decision_weight" in done.stderr


OWN_PARTS = {"span_store", "pricing", "request_account", "request_metrics"}
OWN_KEYS = {"max_size_mib", "start_at_zero", "dry_run"}


def without_own_parts(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without Taximeter's own components and keys, and without pipelines left empty."""

    def official_only(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {
                k: official_only(v)
                for k, v in value.items()
                if str(k).split("/")[0] not in OWN_PARTS | OWN_KEYS
            }
            return kept or None
        if isinstance(value, list):
            return [official_only(one) for one in value if str(one).split("/")[0] not in OWN_PARTS]
        return value

    made: dict[str, Any] = official_only(config)
    pipelines = made["service"]["pipelines"]
    for name in [name for name, parts in pipelines.items() if not parts["exporters"]]:
        pipelines[name]["exporters"] = ["debug"]
        made["exporters"] = {**(made["exporters"] or {}), "debug": None}
    return made


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    promtool = tool("promtool")
    text = (DEPLOY / "config" / "prometheus.yml").read_text()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/rules", str(ROOT / "alerts" / "rules")))
    said = run(promtool, "check", "config", str(config))
    assert "rules found" in said


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    for path in unit.parent.iterdir():  # the others are in the folder, for those a unit names
        text = path.read_text().replace("/opt/taximeter/bin/taximeter", "/bin/true")
        (tmp_path / path.name).write_text(text)
    run(analyze, "verify", "--recursive-errors=no", str(tmp_path / unit.name))


def manifests() -> list[dict[str, Any]]:
    """What kustomize makes."""
    return list(documents(run(official("kustomize"), "build", str(DEPLOY / "kubernetes"))))


def test_kubernetes_schemas_accept_every_manifest() -> None:
    made = manifests()
    assert {"Deployment", "StatefulSet", "Service", "NetworkPolicy"} <= {one["kind"] for one in made}
    for manifest in made:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_kubernetes_schemas_refuse_a_typing_error() -> None:
    gateway = next(one for one in manifests() if one["kind"] == "Deployment")
    gateway["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(gateway, KUBERNETES, strict=True)


def test_containers_have_limits_probes_and_no_rights() -> None:
    for one in manifests():
        if one["kind"] in {"Deployment", "StatefulSet"}:
            pod = one["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            for container in pod["containers"]:
                assert container["resources"]["limits"]["memory"]
                assert container["readinessProbe"] and container["livenessProbe"]
                assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
                config = {volume["name"] for volume in pod["volumes"]}
                assert {mount["name"] for mount in container["volumeMounts"]} <= config


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    """By Docker Compose where it is, else by its own loader, whose command forgets the environment."""
    argv = ["docker", "compose", "version"]
    plugin = shutil.which("docker") and not subprocess.run(argv, capture_output=True, check=False).returncode
    variables = {"GRAFANA_ADMIN_PASSWORD": "x", "COMPOSE_PROFILES": "example"}
    if plugin:
        said = run("docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", **variables)
    else:
        text = (DEPLOY / "compose.yaml").read_text()
        filled = tmp_path / "compose.yaml"
        filled.write_text(re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: variables[found[1]], text))
        said = run(official("compose-spec"), str(filled), **variables)
    assert yaml.safe_load(said)["services"].keys() == compose()["services"].keys()


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_compose_publishes_on_loopback_pins_images_and_mounts_what_exists() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is published beyond loopback: {port}"
        if image := service.get("image"):
            assert re.search(r":(v?\d+\.\d+|pg\d+)", image), f"{name}: {image} is not pinned"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            place = (DEPLOY / source).resolve()
            assert place.exists() if source.startswith(".") else source in compose()["volumes"], volume
        for other in service.get("depends_on", ()):
            assert other in services
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"_PASSWORD: [^$\n]", text), "no password is committed"


def test_images_copy_what_exists() -> None:
    for line in (DEPLOY / "images" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line
        assert not re.match(r"FROM \S+:latest", line)


def test_grafana_is_given_the_uids_that_dashboards_and_alerts_link_to() -> None:
    text = (DEPLOY / "provisioning" / "datasources" / "taximeter.yaml").read_text()
    sources = {source["uid"]: source for source in yaml.safe_load(text)["datasources"]}
    assert PROMETHEUS_UID == files.PROMETHEUS_UID
    assert {PROMETHEUS_UID, files.TEMPO_UID} <= sources.keys()
    assert files.TEMPO_UID in alerts_file()
    exemplars = sources[PROMETHEUS_UID]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplars == [{"name": "trace_id", "datasourceUid": files.TEMPO_UID}]
    data = sources[files.TEMPO_UID]["jsonData"]
    assert data["tracesToMetrics"]["datasourceUid"] == data["serviceMap"]["datasourceUid"] == PROMETHEUS_UID
    assert not re.search(r"(?<!\$)\$(?!\$)", text), "a single $ would be an environment variable"
