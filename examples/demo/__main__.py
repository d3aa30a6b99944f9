"""``python -m examples.demo``: takes the signals first, for the imports take seconds."""

import signal
import sys

if __name__ == "__main__":
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        from examples.demo.run import main

        code = main()
    except KeyboardInterrupt:
        print("interrupted before anything was started")
        code = 130
    sys.exit(code)
