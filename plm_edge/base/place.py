"""This module knows where the package lies, and the files that come with it.

In a checkout they lie beside the package and are newer than any copy; a wheel holds copies under
plm_edge/data.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder plm_edge/."""

ROOT = PACKAGE.parent
"""The folder on the import path: the checkout, or site-packages."""

DATA = PACKAGE / "data"
"""What the build copies into a wheel."""


def checkout() -> Path | None:
    """Returns the checkout's folder, or None for an installed package."""
    return ROOT if (ROOT / "vendor/llama.cpp/sync.py").is_file() else None


def shipped(in_checkout: str, in_data: str) -> tuple[Path, ...]:
    """Returns the places of a file or folder that comes with the program, the one to prefer first.

    Args:
        in_checkout: its path in the checkout, such as "devices".
        in_data: its path in a wheel's plm_edge/data.
    """
    root = checkout()
    return (*([root / in_checkout] if root else []), DATA / in_data)
