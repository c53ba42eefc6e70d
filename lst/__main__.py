"""``python -m lst`` is the command ``lst``."""

import sys

from lst.cli import main

if __name__ == "__main__":
    sys.exit(main())
