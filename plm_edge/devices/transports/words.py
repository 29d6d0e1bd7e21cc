"""This module quotes words for a device's shell."""

from __future__ import annotations

import shlex


def quote(path: str) -> str:
    """Quote a path as a word of the device's shell that no program takes for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
