"""``python -m taximeter_collector run --config FILE``."""

from __future__ import annotations

import argparse
import sys

from taximeter_collector.command import configure, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m taximeter_collector")
    configure(parser)
    sys.exit(main(parser.parse_args()))
