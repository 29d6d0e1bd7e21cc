"""How far a quantised tiny-plm is from the f32 one: KL divergence, through the engine.

    measure = Divergence(f32_gguf, held_out_windows(20))
    measure.of(gguf)                                # [window], nats a token

A file must have tiny-plm's tokens; nothing else is assumed of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer

from plm_edge.quality.divergence import Divergence

__all__ = ["CHECKPOINT", "WINDOW", "Divergence", "held_out_windows"]
ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "examples/tiny-plm/checkpoint"
WINDOW = 512  # tokens


def held_out_windows(count: int) -> list[list[int]]:
    """The middle of `count` files of the standard library that tiny-plm was not trained on, each
    of another file, in the order of their hashes. (Of the Python that it was trained with: see
    examples/tiny-plm/README.md.)"""
    sys.path.insert(0, str(ROOT / "examples/tiny-plm"))
    from corpus import read_sources

    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    windows: list[list[int]] = []
    for source in read_sources():
        if source.held_out and len(windows) < count:
            ids = tokenizer.encode(source.text).ids
            start = (len(ids) - WINDOW) // 2
            if start >= 0:
                windows.append(ids[start : start + WINDOW])
    if len(windows) < count:
        sys.exit(
            f"error: {count} windows are not to be had\n  why: {len(windows)} held-out files are "
            f"long enough\n  fix: ask for fewer --windows"
        )
    return windows
