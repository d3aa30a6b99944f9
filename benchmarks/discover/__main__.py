"""``make prove-discover``: `taximeter discover` on real open code bases, against labels made by hand.

`labels.json` holds, for 20 files of each of three code bases, every line that counts, found by reading. The
same draw is made again here: from the commit's files, by the seed, so that nobody can choose which files are
judged. Two more code bases were *held out*: labelled when the program was written and had seen none of them.

The repositories are looked for in ``TAXIMETER_CODEBASES`` (``<owner>+<name>/repo``, a git directory), else
cloned from GitHub into a temporary folder. None of their code is in this repository.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from taximeter_analysis.discover.discover import discover, read_file
from taximeter_analysis.discover.model import KINDS, SourceFile

LABELS = json.loads(Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
_WORD = re.compile(
    rb"supabase|openai|\bembed|cache|\bdb\.|session\.|\.execute\(|\.query\(|@\w*(router|app)\.|"
    rb"\b(router|app)\.(get|post)\(|function (GET|POST|DELETE)\b|Promise\.|gather\(|TODO",
    re.I,
)
_TEST = re.compile(
    r"(^|/)(tests?|__tests__|evals?|e2e)/|(^|/)test_[^/]*$|_test\.py$|\.(test|spec)\.[jt]sx?$|conftest\.py$|\.d\.ts$"
)


def git(repository: Path, *words: str, data: bytes | None = None) -> bytes:
    """What git prints."""
    return subprocess.run(
        ["git", "-C", str(repository), *words], input=data, capture_output=True, check=True
    ).stdout


def place(name: str, folder: Path) -> Path:
    """Where the repository is, cloning it if need be."""
    if given := os.environ.get("TAXIMETER_CODEBASES"):
        for found in (Path(given, name.replace("/", "+"), "repo"), Path(given, name)):
            if found.is_dir():
                return found
    target = folder / name.replace("/", "+")
    address = f"https://github.com/{name}.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", address, str(target)], check=True)
    return target


def sources(repository: Path, commit: str, endings: tuple[str, ...]) -> dict[str, bytes]:
    """Path -> bytes of every file of the commit that ends so and is there."""
    listing = git(repository, "ls-tree", "-r", commit).decode().splitlines()
    ids = {line.split("\t", 1)[1]: line.split()[2] for line in listing if line.endswith(endings)}
    wanted = "\n".join(ids.values()).encode() + b"\n"
    answer = git(repository, "cat-file", "--batch", data=wanted)
    found: dict[str, bytes] = {}
    at = 0
    for path in ids:
        end = answer.index(b"\n", at)
        head = answer[at:end].split()
        at = end + 1
        if head[1] == b"missing":
            continue
        size = int(head[2])
        found[path] = answer[at : at + size]
        at += size + 1
    return found


def drawn(files: dict[str, bytes], endings: tuple[str, ...]) -> list[str]:
    """The sample: files with a telling word, of bounded length, no tests."""
    draw = LABELS["draw"]
    fit = [
        path
        for path, data in files.items()
        if path.endswith(endings)
        and not (_TEST.search(path) or "node_modules" in path)
        and data.count(b"\n") <= draw["most_lines"]
        and _WORD.search(data)
    ]
    return sorted(random.Random(draw["seed"]).sample(fit, draw["files"]))


def judge(root: Path, labels: dict[str, dict[str, list[int]]]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts by (kind, found | wrong | missed), and the differences."""
    counts: Counter[tuple[str, str]] = Counter()
    told: list[str] = []
    for path, lines in labels.items():
        read = read_file(root, path)
        got = {(each.kind, each.line) for each in read.sightings} if isinstance(read, SourceFile) else set()
        wanted = {(kind, line) for kind, each in lines.items() for line in each}
        for outcome, which in (("found", wanted & got), ("wrong", got - wanted), ("missed", wanted - got)):
            counts.update((kind, outcome) for kind, _ in which)
            if outcome != "found":
                told += [f"{outcome}: {path}:{line} {kind}" for kind, line in sorted(which)]
    return counts, told


def rates(found: int, wrong: int, missed: int) -> str:
    """Recall and precision as text."""
    recall = f"{found / (found + missed):6.3f}" if found + missed else "     -"
    precision = f"{found / (found + wrong):6.3f}" if found + wrong else "     -"
    return f"{found:5} {wrong:5} {missed:6}  {recall}  {precision}"


def table(title: str, counts: Counter[tuple[str, str]]) -> None:
    """Prints one table."""
    print(f"\n{title}\n{'kind':<12} {'found':>5} {'wrong':>5} {'missed':>6}  recall  precision")
    for kind in (*KINDS, "all"):
        each = [
            sum(number for (of, what), number in counts.items() if what == outcome and kind in (of, "all"))
            for outcome in ("found", "wrong", "missed")
        ]
        if sum(each):
            print(f"{kind:<12} {rates(each[0], each[1], each[2])}")


def examine(entry: dict[str, Any], folder: Path, *, sampled: bool) -> Counter[tuple[str, str]]:
    """One code base: the whole of it, then the labelled files."""
    repository = place(entry["name"], folder)
    files = sources(repository, entry["commit"], (".py", ".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs"))
    root = folder / "code" / entry["name"]
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    began = time.process_time()
    whole = discover(root)
    spent = time.process_time() - began
    print(f"\n{entry['name']} at {entry['commit'][:12]}: {whole.read} files in {spent:.1f} s")
    print("  " + ", ".join(f"{kind} {getattr(whole.counts, kind)}" for kind in KINDS))
    if sampled and drawn(files, tuple(entry["endings"])) != sorted(entry["files"]):
        raise SystemExit(f"{entry['name']}: the labelled files are not those that the seed draws")
    counts, told = judge(root, entry["files"])
    table(f"{len(entry['files'])} files read by hand", counts)
    print(*told, sep="\n")
    return counts


def main() -> int:
    """Runs it; returns the exit code: 0 whatever the figures, which are for a reader to judge."""
    whole: Counter[tuple[str, str]] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for entry in LABELS["repositories"]:
            whole += examine(entry, Path(folder), sampled=True)
        print("\n--- held out: labelled after the program was written, which had seen none of them")
        for entry in LABELS["held_out"]:
            held += examine(entry, Path(folder), sampled=False)
    table("All three, 60 files", whole)
    table("Held out, 16 files, as the program is now", held)
    first = LABELS["first_run"]
    print("\nHeld out, the program's first run, before what it missed was mended:")
    print(f"{'all':<12} {rates(first['found'], first['wrong'], first['missed'])}")
    print(*first["missed_what"], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
