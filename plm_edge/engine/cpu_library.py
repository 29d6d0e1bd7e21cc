"""The library of the CPU backend holds our kernels, with functions that set and count."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def find(folder: Path, function: str) -> ctypes.CDLL | None:
    """Returns the library, or None where it is not of its own or lacks the function.

    Args:
        folder: where the loaded engine lies.
    """
    try:
        library = ctypes.CDLL(str(folder / f"libggml-cpu{_SUFFIX}"))
        getattr(library, function)
    except (OSError, AttributeError):
        return None
    return library
