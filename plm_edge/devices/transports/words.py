"""Words of a device's shell."""

from __future__ import annotations

import shlex


def quote(path: str) -> str:
    """A path on the device as a word of its shell, never an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
