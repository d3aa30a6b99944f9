"""The collector under libfaketime: ``python -m tests.collector.fast_clock run --config FILE``.

libfaketime sets the clock of the process, but the kernel gives new files the ordinary time. The store goes by
the time at which a segment was written, so a new one gets the process's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from taximeter_collector.store import segments

_plain = segments.write_whole


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    _plain(path, write)
    now = time.time()
    os.utime(path, (now, now))


segments.write_whole = _write_whole  # before the writer takes it

if __name__ == "__main__":
    from taximeter_collector.command import configure, main

    parser = argparse.ArgumentParser(prog="python -m tests.collector.fast_clock")
    configure(parser)
    sys.exit(main(parser.parse_args()))
