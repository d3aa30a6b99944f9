"""``python -m taximeter_cli`` is ``taximeter``."""

import sys

from taximeter_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
