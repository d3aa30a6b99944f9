"""``python -m examples.loop``."""

import sys

from examples.loop.run import main

if __name__ == "__main__":
    sys.exit(main())
