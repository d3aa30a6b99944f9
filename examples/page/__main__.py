"""``python -m examples.page``: rehearse a page."""

import sys

from examples.page.run import main

if __name__ == "__main__":
    sys.exit(main())
