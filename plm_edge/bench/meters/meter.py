"""The one interface of all meters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from plm_edge.bench.result.shape import MeterSource

Quantity = Literal["energy", "power", "temperature", "frequency", "throttled"]
UNITS: dict[str, str] = {
    "energy": "J",  # a counter that only grows
    "power": "W",
    "temperature": "°C",
    "frequency": "MHz",
    "throttled": "flag",  # 1 while throttled, else 0
}


class Meter(ABC):
    """Reads one quantity.

    Attributes:
        name: short, unique on its machine, such as "package-0".
        source: the file or command that is read.
        covers: what the figure is of, for a person: "CPU package", "whole board".
    """

    quantity: Quantity
    covers: str = ""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    @property
    def unit(self) -> str:
        return UNITS[self.quantity]

    @abstractmethod
    def read(self) -> float | None:
        """The value now, in `unit`; None when it cannot be read at this moment."""

    def describe(self) -> MeterSource:
        """What is read here, for a result."""
        return MeterSource(
            name=self.name,
            quantity=self.quantity,
            unit=self.unit,
            source=self.source,
            covers=self.covers,
        )


@dataclass
class Finding:
    """Meters that were found, and for those that cannot be used, why: (what, reason)."""

    meters: list[Meter] = field(default_factory=list)
    lacking: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Finding) -> None:
        self.meters += other.meters
        self.lacking += other.lacking

    def of(self, *quantities: str) -> list[Meter]:
        return [meter for meter in self.meters if meter.quantity in quantities]
