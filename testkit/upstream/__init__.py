"""Upstream's converter as a program of its own, with a stand-in for the transformers it imports."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": str(_HERE / "standin"), "PYTHONDONTWRITEBYTECODE": "1"}


def command(tree: Path, *jobs: str) -> list[str]:
    """The command that converts, to be run with ENVIRONMENT.

    Args:
        tree: upstream's source.
        jobs: CHECKPOINT:TYPE:OUTFILE each, the type as --outtype takes it.
    """
    return [sys.executable, str(_HERE / "convert.py"), str(tree), *jobs]
