"""How many bytecodes watching takes on a request's own thread: exact, whatever else the machine does.

``python -m benchmarks.agent.counted``: one warm request of each route, with stock OpenTelemetry and with
Taximeter. What a request at work costs follows these counts and the number of functions touched, since both
have to be fetched into the processor's caches. Built-in functions and what other threads do are not in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import urllib.request
from collections import Counter
from pathlib import Path

from benchmarks.agent.__main__ import ROUTES, peers, spec
from benchmarks.agent.variants import VARIANTS, Variant
from examples.demo.postgres import run_directory
from taximeter_cli.supervise import Supervisor, free_port

_REQUESTS = 45
_WATCHING = re.compile(r"/(opentelemetry|taximeter|wrapt|deprecated|asgiref)/")


@dataclasses.dataclass(frozen=True)
class Count:
    """Bytecodes and calls by function, of OpenTelemetry's and Taximeter's code."""

    bytecodes: Counter[str]
    calls: Counter[str]

    def row(self) -> str:
        return f"{self.bytecodes.total():,} in {self.calls.total():,} calls of {len(self.bytecodes):,}"


def _read(file: Path) -> Count:
    kept: list[Counter[str]] = []
    for found in json.loads(file.read_text()):
        ours: Counter[str] = Counter()
        for name, count in found.items():
            path, _, function = name.partition("::")
            if _WATCHING.search(path):
                ours[f"{path.rpartition('/site-packages/')[2].rpartition('/agent/')[2]} {function}"] += count
        kept.append(ours)
    if not kept[0]:
        raise RuntimeError("this Python tells of no bytecodes (3.12 does not): count with another")
    return Count(*kept)


def count(variant: Variant, route: str, folder: Path) -> Count:
    """One request of ``route``, served by ``variant``."""
    with run_directory() as scratch, Supervisor(scratch / "logs") as supervisor:
        sink, port, file = free_port(), free_port(), scratch / "counted.json"
        with peers(supervisor, scratch, [sink]) as env:
            told = {**env, "BENCH_COUNTED": str(file)}
            supervisor.start(spec(variant, folder, told, sink, port, app="counted_app:app"))
            for number in range(_REQUESTS):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{route}/{number + 1}") as answer:
                    answer.read()
            return _read(file)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent.counted", description=__doc__)
    parser.add_argument("--route", choices=ROUTES, help="one route; its functions are listed too")
    parser.add_argument("--venvs", type=Path, default=Path("/tmp/taximeter-bench"), help="kept between runs")
    options = parser.parse_args()
    print("| route | stock: bytecodes, calls, functions | Taximeter | bytecodes, of stock |")
    print("| --- | ---: | ---: | ---: |")
    by_name = {variant.name: variant for variant in VARIANTS}
    for route in [options.route] if options.route else ROUTES:
        sys.stderr.write(f"counting {route}\n")
        stock, ours = (count(by_name[name], route, options.venvs) for name in ("stock", "taximeter"))
        ratio = ours.bytecodes.total() / stock.bytecodes.total()
        print(f"| {route} | {stock.row()} | {ours.row()} | {ratio:.2f} |", flush=True)
    if options.route:
        print()
        for name, bytecodes in ours.bytecodes.most_common():
            print(f"{bytecodes:7,} bytecodes {ours.calls[name]:5,} calls  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
