"""Whether a model fits this machine is told from its header, before it is fetched or loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from plm_edge.base.console import size
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.options import choose_ctx
from plm_edge.machine import memory
from plm_edge.model import need as needs
from plm_edge.model import sizes
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.need import Need

LEAST_CTX = 512  # tokens; with fewer a model is of little use


@dataclass(frozen=True)
class Fit:
    """What running a model takes.

    Attributes:
        n_ctx: tokens of context that a command takes where nobody says.
        wanted: with that context, the cache in f16.
        least: with LEAST_CTX tokens.
        token: bytes of cache a token, by type of the cache; without those that do not fit.
    """

    n_ctx: int
    wanted: Need
    least: Need
    token: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, in bytes."""
        return {
            "n_ctx": self.n_ctx,
            "need": {**asdict(self.wanted), "total": self.wanted.total},
            "cache_per_token": self.token,
        }


def of(model: GGUFFile, weights: int | None = None) -> Fit:
    """Returns what running a model takes.

    Args:
        weights: bytes of all weights; counted from the header and those of its parts when None.

    Raises:
        PlmEdgeError: a part of a split file is missing or damaged.
    """
    n_ctx, known = choose_ctx(model, None), sizes.of(model, weights)
    wanted, least = (needs.of(known, tokens, "f16") for tokens in (n_ctx, min(n_ctx, LEAST_CTX)))
    kinds = [kind for kind in needs.KV_TYPES if known.cache_can_be(kind)]
    token = {kind: known.kv.bytes_per_token(kind) for kind in kinds} if known.kv else {}
    return Fit(n_ctx, wanted, least, token)


def check(name: str, fit: Fit) -> str:
    """Refuse what this machine can never run; returns a remark on what it cannot run now.

    Returns:
        A sentence, or an empty text.

    Raises:
        PlmEdgeError: all of the machine's memory is too little for it (code RESOURCES).
    """
    whole = memory.total()
    if fit.least.total > whole:
        raise PlmEdgeError(
            f"{name} is too large for this machine",
            f"it needs about {size(fit.least.total)} of memory with {LEAST_CTX} tokens of "
            f"context, and there are {size(whole)} in all",
            "take a smaller quantisation, or insist with --force (for another machine)",
            ExitCode.RESOURCES,
        )
    room = memory.available().bytes
    if fit.wanted.total > room:
        return (
            f"running it needs about {size(fit.wanted.total)} with {fit.n_ctx:,} tokens of "
            f"context, and {size(room)} are free now"
        )
    return ""
