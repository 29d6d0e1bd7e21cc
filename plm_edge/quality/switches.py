"""What each switch of the engine changes in a model's predictions, against all of them off.

A switch is exact (the same bits), rounds (the same sums in another order or precision), or
approximates (something is left out).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine import accelerators, library
from plm_edge.engine.options import Options
from plm_edge.machine.threads import default_threads
from plm_edge.quality import predictions, reference, text
from plm_edge.quality.misses import Misses
from plm_edge.quality.predictions import Rows
from plm_edge.quality.text import Chunks

Claim = Literal["exact", "rounds", "approximates"]
OFF = Options(
    kv="f32",
    flash_attn="off",
    threads=1,
    gpu_layers=0,
    mmap=False,
    repack=False,
    skip_zeros=False,
    exact=True,
)
"""The CPU alone, no flash attention, one thread, the cache in 32 bits, a chunk computed at once,
weights as they lie in the file, every row of W_down read, and nothing approximated."""
FLASH = replace(OFF, flash_attn="on")
ON = Options(kv="f32", flash_attn="on", threads=1, gpu_layers=0)
"""What is exact is compared with this, too: all else on, but for a GPU."""


@dataclass(frozen=True)
class Switch:
    """One switch.

    Attributes:
        name: what it does, in words.
        claim: what is said of it.
        options: with it on, all others off.
        against: what it is compared with.
    """

    name: str
    claim: Claim
    options: Options
    against: Options = OFF


@dataclass(frozen=True)
class Found:
    """What a switch changed.

    Attributes:
        same: whether all log probabilities have the same bits.
        kl, kl_max: KL divergence from the predictions without it, nats a token, mean and largest.
        same_top: share of tokens with the same likeliest token, 0 to 1.
        missed: of a switch that approximates, by name (`misses.WAYS`): of the tokens that a way of
            sampling picks from without the switch, the share that it would not pick from with it,
            0 to 1.
    """

    name: str
    claim: Claim
    same: bool
    kl: float
    kl_max: float
    same_top: float
    missed: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether what is said of it is so."""
        return self.same or self.claim != "exact"


def switches(n_ctx: int) -> list[Switch]:
    """Returns all switches that this machine has.

    Args:
        n_ctx: tokens of a chunk.
    """
    several = max(2, default_threads())
    gpu = Switch("all layers on the GPU", "rounds", replace(OFF, gpu_layers=accelerators.ALL))
    return [
        Switch(f"{several} threads", "exact", replace(OFF, threads=several)),
        Switch(f"{several} threads, all else on", "exact", replace(ON, threads=several), ON),
        Switch("weights mapped, not read (mmap)", "exact", replace(OFF, mmap=True)),
        Switch(
            "guesses checked by eights, all else on",
            "exact",
            replace(ON, n_ubatch=8),
            replace(ON, n_ubatch=1),
        ),
        Switch("rows of zero neurons skipped", "rounds", replace(OFF, skip_zeros=True)),
        Switch(
            "rows of zero neurons skipped, tokens one by one",
            "rounds",
            replace(OFF, n_ubatch=1, skip_zeros=True),
            replace(OFF, n_ubatch=1),
        ),
        Switch(
            "lower bits of W_up left out for rows below zero, tokens one by one",
            "approximates",
            replace(OFF, n_ubatch=1, exact=False),
            replace(OFF, n_ubatch=1),
        ),
        Switch(
            "logits in two stages, tokens one by one",
            "approximates",
            replace(OFF, n_ubatch=1, exact=False, planes=False, full_logits=False),
            replace(OFF, n_ubatch=1),
        ),
        Switch("weights repacked", "rounds", replace(OFF, repack=True)),
        Switch("flash attention", "rounds", replace(OFF, flash_attn="on")),
        Switch("prompts in micro-batches of 32", "rounds", replace(OFF, n_ubatch=min(32, n_ctx))),
        Switch("tokens one by one", "rounds", replace(OFF, n_ubatch=1)),
        Switch("cache in f16", "rounds", replace(OFF, kv="f16")),
        # a cache of values, where a model has one, is quantised with flash attention alone
        Switch("cache in q8_0", "approximates", replace(FLASH, kv="q8_0"), FLASH),
        Switch("cache in q4_0", "approximates", replace(FLASH, kv="q4_0"), FLASH),
        *([gpu] if accelerators.gpus(library.load()) else []),
    ]


def measure(
    model: Path,
    words: str,
    n_ctx: int = 128,
    most: int | None = 2,
    progress: Progress | None = None,
) -> list[Found]:
    """Compute a text with each switch on alone.

    Args:
        words: the text.
        n_ctx: tokens of a chunk.
        most: chunks; None takes all.
        progress: told of switches.

    Raises:
        PlmEdgeError: the text is too short, or the model cannot be computed.
    """
    progress = progress or NoProgress()
    n_vocab = len(reference.vocabulary_of(model))
    wanted = switches(n_ctx)
    progress.begin(len(wanted))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        kept: dict[Options, Path] = {}
        for switch in wanted:
            if switch.against not in kept:
                path = Path(folder) / f"{len(kept)}.f32"
                with path.open("wb") as file:
                    for rows in _rows(model, words, n_vocab, n_ctx, most, switch.against):
                        rows.tofile(file)
                kept[switch.against] = path
            known: Any = np.memmap(kept[switch.against], np.float32, "r").reshape(-1, n_vocab)
            found.append(_compare(switch, known, model, words, n_ctx, most))
            progress.advance(1)
    return found


def _compare(
    switch: Switch, known: Rows, model: Path, words: str, n_ctx: int, most: int | None
) -> Found:
    same, at = True, 0
    kl, tops = [], []
    misses = Misses() if switch.claim == "approximates" else None
    for rows in _rows(model, words, known.shape[1], n_ctx, most, switch.options):
        before = known[at : at + len(rows)]
        same = same and np.array_equal(rows, before)
        kl.append((np.exp(before) * (before - rows)).sum(1, dtype=np.float64))
        tops.append(before.argmax(1) == rows.argmax(1))
        if misses:
            misses.add(before, rows)
        at += len(rows)
    all_kl = np.concatenate(kl)
    top = float(np.concatenate(tops).mean())
    return Found(
        *(switch.name, switch.claim, same, float(all_kl.mean()), float(all_kl.max()), top),
        misses.shares() if misses else {},
    )


def _rows(
    model: Path, words: str, n_vocab: int, n_ctx: int, most: int | None, options: Options
) -> Iterator[Rows]:
    with predictions.open_for(model, n_vocab, n_ctx, options) as session:
        chunks: Chunks = text.cut(session.vocabulary, words, n_ctx, most)
        for chunk in range(len(chunks)):
            yield from predictions.log_probabilities(session, chunks, chunk)
