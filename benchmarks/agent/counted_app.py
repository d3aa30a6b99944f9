"""The service, with the bytecodes of one warm request counted. In a peer's own environment: nothing of ours.

``BENCH_COUNTED`` names the file for the counts: by code object, how many bytecodes and how many calls.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from service import app as service  # type: ignore[import-not-found]  # beside it, when it runs

_WARM = 40  # requests before: caches are full and Python has specialised its code
_requests = count(1)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or next(_requests) != _WARM:
        await service(scope, receive, send)
        return
    bytecodes: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            bytecodes[f"{frame.f_code.co_filename}::{frame.f_code.co_qualname}"] += 1
        return inside

    def entered(frame: FrameType, _: str, __: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        calls[f"{frame.f_code.co_filename}::{frame.f_code.co_qualname}"] += 1
        return inside

    sys.settrace(entered)
    try:
        await service(scope, receive, send)
    finally:
        sys.settrace(None)
        _write([bytecodes, calls])


def _write(counts: list[Counter[str]]) -> None:
    Path(os.environ["BENCH_COUNTED"]).write_text(json.dumps(counts))
