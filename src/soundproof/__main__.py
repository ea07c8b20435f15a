"""``python -m soundproof`` is the command line, where the script ``soundproof`` is not on the path."""

import sys

from soundproof.cli import main

if __name__ == "__main__":
    sys.exit(main())
