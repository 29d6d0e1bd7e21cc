"""Products with matrices, as the estimate adds them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Product:
    """One token's products with matrices of a kind.

    Attributes:
        kernels: what computes them, by the names of `bench/cycles/kernels.py`: the speed of the
            first that is known of a machine counts. The last is the weights' type.
        n: multiplications.
        skips: what leaves some of them out: W_down's rows that are "zeros", W_up's "lower" bits
            that need not be read, rows of the output matrix ("head") whose logits stay coarse.
        within: where none of `kernels` is known, another product's time holds this one's.
    """

    kernels: tuple[str, ...]
    n: int
    skips: Literal["", "zeros", "lower", "head"] = ""
    within: bool = False
