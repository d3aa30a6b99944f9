"""``make prove-prices``: the recorded answers through Taximeter, OpenLIT and Logfire, side by side.

Taximeter's column is what its agent puts on the span of a real SDK's call where one can be made,
else the price of the same answer read from its file. The peers are installed in environments of
their own under ``.venv-peers``. OpenLIT fetches its price list from the network when it starts; give a
copy with ``OPENLIT_PRICES=FILE`` where that cannot be reached, else it prices everything 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.agent.test_money import BY_HAND, PAYLOADS, price

ROOT = Path(__file__).resolve().parents[1]
PEERS = {
    "openlit": ["openlit", "openai", "anthropic"],
    "logfire": ["logfire", "genai-prices", "openai", "anthropic"],
}
NOTHING = "-"


def main() -> int:
    costs = {"taximeter": {name: price(payload)[0] for name, payload in PAYLOADS.items()}}
    versions = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payloads.json"
        path.write_text(json.dumps(PAYLOADS))
        for peer, packages in PEERS.items():
            python = _environment(peer, packages)
            versions[peer] = _version(python, peer)
            costs[peer] = _ask(python, peer, path)
    _print(costs, versions)
    wrong = [name for name in PAYLOADS if _verdict(costs["taximeter"][name], BY_HAND[name]) == "wrong"]
    return 1 if wrong else 0


def _environment(peer: str, packages: list[str]) -> Path:
    folder = ROOT / ".venv-peers" / peer
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-U", "pip"], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return python


def _version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def _ask(python: Path, peer: str, payloads: Path) -> Mapping[str, float | None]:
    prices = [os.environ["OPENLIT_PRICES"]] if peer == "openlit" and "OPENLIT_PRICES" in os.environ else []
    done = subprocess.run(
        [str(python), "-m", "tools.peers.peer", peer, str(payloads), *prices],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    text = done.stdout[done.stdout.rfind("{") :]
    if not text:
        raise SystemExit(f"{peer} said nothing:\n{done.stderr[-2000:]}")
    found: Mapping[str, float | None] = json.loads(text)
    return found


def _verdict(cost: float | None, hand: float | str) -> str:
    """right, wrong, or none (no price: right where there is none to give, else only missing)."""
    if isinstance(hand, str):
        return "right" if cost is None else "wrong"
    if cost is None:
        return "none"
    return "right" if abs(cost - hand / 1e6) <= 0.001 * hand / 1e6 + 1e-12 else "wrong"


def _print(costs: Mapping[str, Mapping[str, float | None]], versions: Mapping[str, str]) -> None:
    table = Table(title="What one answer costs, in USD")
    table.add_column("answer")
    table.add_column("by hand", justify="right")
    for who in costs:
        table.add_column(f"{who} {versions.get(who, '')}".strip(), justify="right")
    sums: dict[str, dict[str, int]] = {
        who: {"right": 0, "wrong": 0, "none": 0, "not asked": 0} for who in costs
    }
    for name, hand in BY_HAND.items():
        row = [name, hand if isinstance(hand, str) else f"{hand / 1e6:.8f}"]
        for who, found in costs.items():
            if name not in found:
                sums[who]["not asked"] += 1
                row.append(NOTHING)
                continue
            verdict = _verdict(found[name], hand)
            sums[who][verdict] += 1
            row.append(_shown(found[name], verdict, hand))
        table.add_row(*row)
    console = Console(width=132, highlight=False, color_system=None)
    console.print(table)
    for who, counts in sums.items():
        console.print(f"{who}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    console.print(
        f"wrong: more than 0.1 % off, or a price where none is known. none: no price given. {NOTHING}: not "
        "asked, since no call of an SDK installed beside it brings this answer."
    )


def _shown(cost: float | None, verdict: str, hand: float | str) -> str:
    if cost is None:
        return "no price" if verdict == "right" else "none"
    if verdict == "right":
        return f"{cost:.8f}"
    off = f" {cost / (hand / 1e6) - 1:+.0%}" if not isinstance(hand, str) and hand else ""
    return f"WRONG {cost:.8f}{off}"


if __name__ == "__main__":
    sys.exit(main())
