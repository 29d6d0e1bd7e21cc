"""Sampling settings say how the next token is picked: greedy, or drawn with a seed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from plm_edge.base.errors import ExitCode, PlmEdgeError


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Attributes:
        temp: temperature; 0 picks the likeliest token (greedy) and ignores the rest.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens that hold this share of the probability; 1 keeps all.
        min_p: drop tokens less likely than this share of the likeliest one; 0 drops none.
        seed: of the random numbers, 0 to 2³² - 2; None draws one.
    """

    temp: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None

    def checked(self) -> Sampling:
        """Returns this, with a seed drawn if there was none.

        Raises:
            PlmEdgeError: a setting is out of its range (code USAGE).
        """
        limits = (
            ("--temp", self.temp, 0.0 <= self.temp <= 100.0, "0 (greedy) to 100"),
            ("--top-k", self.top_k, 0 <= self.top_k < 1 << 31, "0 (off) or more"),
            ("--top-p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0, up to 1 (off)"),
            ("--min-p", self.min_p, 0.0 <= self.min_p < 1.0, "0 (off) up to below 1"),
            ("--seed", self.seed, self.seed is None or 0 <= self.seed < 0xFFFFFFFF, "0 to 2³²-2"),
        )
        for name, value, fits, range_ in limits:
            if not fits:
                raise PlmEdgeError(
                    f"{name} {value} is out of range",
                    f"{name} takes {range_}",
                    "give a value in that range, or leave the option out",
                    ExitCode.USAGE,
                )
        return replace(self, seed=secrets.randbelow(1 << 31)) if self.seed is None else self
