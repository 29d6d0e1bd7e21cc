"""Sizes as a person writes them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse(text: str) -> int | None:
    """Returns the bytes that a size such as 500M, 1.5 GiB or 4096 means; None if it is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    return round(float(match[1]) * _UNITS[match[2].upper()]) if match else None
