#!/usr/bin/env python3
"""This program writes the hashes of the page's script and style into its Content-Security-Policy.

A browser runs only the script and style that they name. With `--check` nothing is written; the exit
code says whether they are right.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "plm_edge/serve/page/index.html"


def sealed(page: str) -> str:
    """Returns the page with the hash of each of its two parts in its policy."""
    for part in ("script", "style"):
        found = re.findall(rf"<{part}>(.*?)</{part}>", page, re.S)
        if len(found) != 1:
            raise ValueError(f"the page has {len(found)} of <{part}>; it needs one")
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        page = re.sub(rf"{part}-src 'sha256-[^']*'", f"{part}-src 'sha256-{digest}'", page)
    return page


def main(arguments: list[str]) -> int:
    """Seals the page, or with --check compares it; returns the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = sealed(page)
    if arguments == ["--check"]:
        return int(page != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
