"""`python -m aiozpat`."""

import sys

from aiozpat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
