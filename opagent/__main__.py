"""`python -m opagent` is `opagent`."""

from __future__ import annotations

import sys

from opagent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
