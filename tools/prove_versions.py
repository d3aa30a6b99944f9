"""The agent's tests on every Python and every set of OpenTelemetry that is said to work.

``make prove-versions`` makes an environment for each row of ``SETS`` in a temporary folder, with this tree
installed as it is there, and runs all of ``tests/agent`` in it. A set pins OpenTelemetry's pieces to
each other, as they pin themselves. Where a Python is neither on the path nor pyenv's, its row says so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Python, SDK, instrumentors, models' instrumentors.
SETS = (
    ("3.11", "1.45.1", "0.66b1", "1.3b0"),
    ("3.12", "1.45.1", "0.66b1", "1.3b0"),
    ("3.13", "1.45.1", "0.66b1", "1.3b0"),
    ("3.14", "1.45.1", "0.66b1", "1.3b0"),
    ("3.11", "1.45.0", "0.66b0", "1.3b0"),
    ("3.14", "1.45.0", "0.66b0", "1.3b0"),
)
TESTS = ("tests/agent",)
#: LangSmith's plugin of pytest, which tests of ours do not use, warns as it is loaded.
_QUIET = ("-p", "no:langsmith_plugin")


def python_of(version: str) -> str | None:
    """An interpreter of ``version``: on the path, or one of pyenv's."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    if found := shutil.which(f"python{version}"):
        probe = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return found
    base = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = sorted(base.glob(f"{version}.*/bin/python")) if base.is_dir() else []
    return str(places[-1]) if places else None


def requirements(sdk: str, contrib: str, models: str) -> list[str]:
    """What is installed here, but for OpenTelemetry, which is of the given set."""
    pins = []
    for each in distributions():
        name, version = each.metadata["Name"].lower().replace("_", "-"), each.version
        if name in {"taximeter", "pip", "setuptools", "virtualenv"}:
            continue
        if name.startswith("opentelemetry-"):
            # Of one release each: the SDK's number, the instrumentors' or the models'.
            kind = re.sub(r"[\d.]+b?\d*$", "", version)
            assert kind == "", version
            version = models if version.startswith("1.3b") else contrib if "b" in version else version
            version = sdk if version.startswith("1.45.") else version
        pins.append(f"{name}=={version}")
    return sorted(set(pins))


def environment(python: str, place: Path) -> list[str]:
    """Make an environment, with uv where that is installed; how to install into it."""
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", python, str(place)], check=True)
        into = ["--prerelease", "allow", "--python", str(place / "bin/python")]
        return [uv, "pip", "install", "--quiet", *into]
    subprocess.run([python, "-m", "venv", str(place)], check=True)
    return [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def prove(row: tuple[str, str, str, str], tests: list[str], folder: Path) -> str:
    """One row of the table."""
    wanted, *pieces = row
    shown = f"| {wanted} | {' | '.join(pieces)} |"
    python = python_of(wanted)
    if python is None:
        return f"{shown} not installed here |"
    place = folder / "-".join(row)
    if not (place / "done").exists():
        pip = environment(python, place)
        (folder / "pins.txt").write_text("\n".join(requirements(*pieces)))
        for words in (["-r", str(folder / "pins.txt")], ["--no-deps", "-e", str(ROOT)]):
            done = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{shown} cannot be installed: {done.stderr.strip().splitlines()[-1]} |"
        (place / "done").touch()
    command = [str(place / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *_QUIET, *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        return f"{shown} did not run: {(done.stdout + done.stderr).strip().splitlines()[-1]} |"
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            say(f"  {line[:200]}")
    return f"{shown} {re.sub(r' in [0-9.]+s.*', '', done.stdout.strip().splitlines()[-1])} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="a Python, e.g. 3.12")
    parser.add_argument("--set", help="an SDK, e.g. 1.45.0")
    parser.add_argument("--folder", help="keep the environments here, and use those that are there")
    parser.add_argument("tests", nargs="*", default=TESTS, help="tests, or options of pytest (after --)")
    options = parser.parse_args()
    tests = list(options.tests)
    say(f"{' '.join(tests)}\n")
    say("| Python | SDK | instrumentors | models' instrumentors | result |")
    say("| --- | --- | --- | --- | --- |")
    well = True
    with tempfile.TemporaryDirectory(prefix="taximeter-versions-") as temporary:
        folder = Path(options.folder or temporary).resolve()
        for row in SETS:
            if options.only in {None, row[0]} and options.set in {None, row[1]}:
                started = time.monotonic()
                line = prove(row, tests, folder)
                well &= "passed" in line and "failed" not in line and "error" not in line
                say(line)
                sys.stderr.write(f"  {time.monotonic() - started:.0f} s\n")
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
