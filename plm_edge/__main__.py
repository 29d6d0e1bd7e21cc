"""`python -m plm_edge`, the same as `plm-edge`."""

from __future__ import annotations

import sys

from plm_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
