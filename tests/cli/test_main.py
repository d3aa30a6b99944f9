"""The command line: help, lazy loading, and a missing extra named with its remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taximeter_cli.main import COMMANDS, main


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "taximeter_cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60, check=False)


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


def test_help_imports_no_command() -> None:
    code = "import sys; from taximeter_cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'duckdb','pyarrow','grpc'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_command_and_an_unknown_one_are_usage_errors() -> None:
    assert run().returncode == 2
    done = run("colector")
    assert done.returncode == 2
    assert "invalid choice: 'colector'" in done.stderr


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("report", "duckdb", "analysis"), ("collector", "yaml", "collector")],
)
def test_a_missing_extra_is_one_line_with_the_remedy(
    tmp_path: Path, command: str, package: str, extra: str
) -> None:
    # A finder that knows nothing of the package is what an environment without it looks like.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {package!r}:\n"
        f"            raise ModuleNotFoundError('No module named {package}', name={package!r})\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    words = [command, "run", "--config", "x.yaml"] if command == "collector" else [command]
    done = run(*words, env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"taximeter {command}" in line
    assert package in line.lower()
    assert f"pip install 'taximeter[{extra}]'" in line


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("taximeter 0.")
