#!/usr/bin/env python3
"""Bring the pinned llama.cpp tree, with our overlay and patches, to `vendor/llama.cpp/.tree`.

    sync.py             fetch, verify, lay in, patch; print the tree's path (twice does no more)
    sync.py sdist       fetch and verify only; print the path of the source distribution
    sync.py bindings F  place the C-level Python bindings of that distribution into the folder F
    sync.py check       prove that the patches apply, export back byte for byte and carry their
                        headers, and that the tree on disk has the recorded hash
    sync.py refresh P   fold what was edited in .tree into patches/P (made anew if it is not there)
    sync.py pin         sync, then write the resulting tree's hash to PIN.toml

It runs inside the package build, before anything is installed; what it does is in
`plm_edge/upstream`, which needs the standard library alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # what lies beside it, not what is installed

from plm_edge.base.errors import PlmEdgeError  # noqa: E402
from plm_edge.upstream import bindings, sdist, tree, upkeep  # noqa: E402
from plm_edge.upstream.pin import Pin  # noqa: E402


def main(arguments: list[str]) -> None:
    pin = Pin.read(HERE)
    if not arguments:
        tree.sync(HERE, pin)
        print(tree.place(HERE))
    elif arguments == ["sdist"]:
        print(sdist.fetch(pin))
    elif len(arguments) == 2 and arguments[0] == "bindings":
        bindings.place(pin, Path(arguments[1]))
    elif arguments == ["check"]:
        print(upkeep.check(HERE, pin))
    elif arguments == ["pin"]:
        print(upkeep.record(HERE, pin))
    elif len(arguments) == 2 and arguments[0] == "refresh":
        print(upkeep.refresh(HERE, pin, arguments[1]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PlmEdgeError as error:
        sys.exit(f"error: {error.what}\n  why: {error.why}\n  fix: {error.fix}")
    except OSError as error:
        sys.exit(
            f"error: the engine's source could not be prepared\n  why: {error}\n"
            "  fix: make room on the disk, or make the folder writable, and call it again"
        )
