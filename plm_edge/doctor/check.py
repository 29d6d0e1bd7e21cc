"""A check is one line of what `doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Check:
    """One line. `missing` is something needed; `note` something that only some commands want."""

    name: str
    status: Status
    value: str
    why: str = ""
    fix: str = ""
