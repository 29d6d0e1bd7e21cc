"""This module chooses the context and the type of the KV cache so that a model fits the memory.

The rule, for `run`, `chat`, `serve` and Python alike, here and on devices. What a person gives is
kept. Else the context is the model's own, at most 4096 tokens, and the cache is f16. Where that
does not fit, the first of these does: the same context in q8_0, half of it in q8_0, a quarter, then
q4_0 in short contexts; never below 512 tokens. Where nothing fits, the model is refused, unless the
person insists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plm_edge.machine import memory
from plm_edge.machine.memory import Room
from plm_edge.model import need as needs
from plm_edge.model import sizes
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.need import N_BATCH, Need
from plm_edge.model.sizes import Sizes

LARGEST_CTX = 4096  # PLM's own; a model trained for more gets it only when asked (--ctx)
SMALLEST_CTX = 512  # of the contexts that we choose
PREFERRED_KV = "f16"


@dataclass(frozen=True)
class Fit:
    """A context and a cache for a model in some memory.

    Attributes:
        n_ctx: tokens of context of each conversation.
        kv: type of the cache.
        need: what the model then takes.
        room: what is available.
        preferred: the context and the type that would have been taken with enough memory.
    """

    n_ctx: int
    kv: str
    need: Need
    room: Room
    preferred: tuple[int, str]

    @property
    def fits(self) -> bool:
        """Whether it is expected to fit."""
        return self.need.total <= self.room.bytes

    @property
    def note(self) -> str | None:
        """One sentence that says what was chosen and why; None where nothing was given up."""
        n_ctx, kv = self.preferred
        if (self.n_ctx, self.kv) == self.preferred:
            return None
        chosen = [f"{self.n_ctx:,} tokens of context"] if self.n_ctx != n_ctx else []
        chosen += [f"a {self.kv} cache"] if self.kv != kv else []
        flags = [f"--ctx {n_ctx}"] if self.n_ctx != n_ctx else []
        flags += [f"--kv {kv}"] if self.kv != kv else []
        return (
            f"memory is short: {' with '.join(chosen)}, so that about "
            f"{needs.mib(self.need.total)} MiB fit the {needs.mib(self.room.bytes)} MiB that "
            f"{self.room.bound_by} has ({' '.join(flags)} --force insists)"
        )


def preferred_ctx(model: GGUFFile | Sizes) -> int:
    """Returns the tokens of context with enough memory: the model's, at most 4096."""
    trained = sizes.of(model).n_ctx_train or 0
    return min(trained, LARGEST_CTX) if trained > 0 else LARGEST_CTX


def choose(
    model: GGUFFile | Sizes,
    n_ctx: int | None = None,
    kv: str | None = None,
    *,
    n_ubatch: int = N_BATCH,
    n_seq: int = 1,
    room: Room | None = None,
    force: bool = False,
    share: float = 1.0,
) -> Fit:
    """Choose the context and the type of the cache, before anything is loaded.

    Args:
        model: its header, or the sizes in it.
        n_ctx: tokens of context that the person wants for each conversation; None: chosen.
        kv: type of the cache that the person wants; None: chosen.
        n_ubatch: tokens computed at once in prefill.
        n_seq: conversations at once.
        room: memory; None: what is available to this process now.
        force: take what is wanted, and what is preferred else, even if it will not fit.
        share: of the layers that stay here, the rest being on other devices.

    Raises:
        PlmEdgeError: it will not fit; names the numbers and what to lower (code RESOURCES).
    """
    room = memory.available() if room is None else room
    known = sizes.of(model)
    preferred = _preferred(known, n_ctx, kv)
    first: Fit | None = None
    for ctx, kind in offers(known, n_ctx, kv):
        need = needs.of(known, ctx, kind, n_ubatch, n_seq).of_share(share)
        found = Fit(ctx, kind, need, room, preferred)
        first = first or found
        if found.fits or force:
            return found
    assert first is not None
    raise needs.refusal(known, first.need, *preferred, n_ubatch, room, n_seq)


def offers(
    model: GGUFFile | Sizes, n_ctx: int | None = None, kv: str | None = None
) -> Iterator[tuple[int, str]]:
    """Yields the pairs of context and type for a model, the best first; see `choose`."""
    known = sizes.of(model)
    any_kv = kv is None and all(known.cache_can_be(kind) for kind in needs.KV_TYPES)
    return candidates(_preferred(known, n_ctx, kv), any_ctx=n_ctx is None, any_kv=any_kv)


def _preferred(model: Sizes, n_ctx: int | None, kv: str | None) -> tuple[int, str]:
    return n_ctx or preferred_ctx(model), kv or PREFERRED_KV


def candidates(
    preferred: tuple[int, str], *, any_ctx: bool, any_kv: bool
) -> Iterator[tuple[int, str]]:
    """Yields pairs of context and type, the best first; see the module's rule.

    Args:
        preferred: with enough memory.
        any_ctx: whether the context may be smaller.
        any_kv: whether the type may be another.
    """
    n_ctx, kv = preferred
    smaller = [n_ctx]
    while any_ctx and smaller[-1] // 2 >= SMALLEST_CTX:
        smaller.append(smaller[-1] // 2)
    yield preferred
    if not any_kv:
        yield from ((ctx, kv) for ctx in smaller[1:])
        return
    if not any_ctx:
        yield from ((n_ctx, kind) for kind in ("q8_0", "q4_0"))
        return
    long = [ctx for ctx in smaller if ctx >= n_ctx // 4]
    yield from ((ctx, "q8_0") for ctx in long)
    yield from ((ctx, "q4_0") for ctx in smaller if ctx <= long[-1])
