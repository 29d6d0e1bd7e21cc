"""A report says what a conversion made, and what it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge.converters.write.gguf_header import TensorInfo


@dataclass(frozen=True)
class TypeTotal:
    """All tensors of one type. `size` in bytes."""

    type: str
    tensors: int
    elements: int
    size: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that a value takes on average."""
        return 8 * self.size / self.elements


@dataclass(frozen=True)
class Report:
    """What a conversion made.

    Attributes:
        size: of the file, in bytes.
        peak_rss: the most memory that the process had, in bytes.
        warnings: for the person.
    """

    out: Path
    quant: str
    layout: str
    types: tuple[TypeTotal, ...]
    size: int
    threads: int
    seconds: float
    peak_rss: int
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> TypeTotal:
        """All tensors together."""
        return TypeTotal(
            "all",
            sum(t.tensors for t in self.types),
            sum(t.elements for t in self.types),
            sum(t.size for t in self.types),
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns every field, and the bits a weight, for --json."""
        return {
            **asdict(self),
            "out": str(self.out),
            "types": [asdict(t) | {"bits_per_weight": t.bits_per_weight} for t in self.types],
            "bits_per_weight": self.total.bits_per_weight,
        }


def type_totals(tensors: Iterable[TensorInfo]) -> tuple[TypeTotal, ...]:
    """Sums tensors up by type, the type with the most bytes first."""
    totals: dict[str, TypeTotal] = {}
    for tensor in tensors:
        name = tensor.type.name.lower()
        old = totals.get(name, TypeTotal(name, 0, 0, 0))
        totals[name] = TypeTotal(
            name, old.tensors + 1, old.elements + tensor.elements, old.size + tensor.size
        )
    return tuple(sorted(totals.values(), key=lambda t: -t.size))
