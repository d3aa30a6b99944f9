"""``python -m examples.guests --url URL --log FILE.jsonl``: play guests and log what they saw."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from .plan import Planned, make_plan
from .run import play
from .sender import Sender


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


async def _run(options: argparse.Namespace, plan: list[Planned]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sender = Sender(options.url, options.guests, trace=not options.no_traceparent)
    try:
        with options.log.open("w", encoding="utf-8") as log:
            tally = await play(plan, sender, log, stop, options.prefix)
    except OSError as error:
        print(f"cannot write the log {options.log}: {error.strerror}; name a file in an existing folder "
              "with --log", file=sys.stderr)  # fmt: skip
        return 1
    finally:
        await sender.close()
    print(json.dumps(tally.summary()), flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.guests", description=__doc__)
    parser.add_argument("--url", required=True, help="the service, e.g. http://127.0.0.1:8000")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, one per request; overwritten")
    parser.add_argument("--guests", type=_count, default=100)
    parser.add_argument("--duration", type=_positive, default=60.0, help="seconds of new requests")
    parser.add_argument("--rate", type=_positive, default=20.0, help="mean requests per second of all guests")
    parser.add_argument("--requests", type=_count, help="exactly so many requests, however long it takes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--spread", type=float, default=0.0, help="another mix of requests and hotels: sigma of their weights"
    )
    parser.add_argument(
        "--prefix", default="g", help="of the requests' ids; another for every run of one ledger"
    )
    parser.add_argument("--no-traceparent", action="store_true", help="send no W3C trace context")
    options = parser.parse_args()
    plan = make_plan(
        seed=options.seed,
        guests=options.guests,
        rate=options.rate,
        duration_s=options.duration,
        requests=options.requests,
        spread=options.spread,
    )
    return asyncio.run(_run(options, plan))


if __name__ == "__main__":
    sys.exit(main())
