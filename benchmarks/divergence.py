"""How far a quantised tiny-plm is from the f32 one: KL divergence, through the engine.

    measure = Divergence(f32_gguf, held_out_windows(20))
    measure.of(gguf)                                # [window], nats a token

A file must have tiny-plm's tokens; nothing else is assumed of it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from tokenizers import Tokenizer

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality.divergence import Divergence
from testkit.checkout import ROOT

__all__ = ["CHECKPOINT", "WINDOW", "Divergence", "detokenised", "held_out_windows"]
CHECKPOINT = ROOT / "examples/tiny-plm/checkpoint"
WINDOW = 512  # tokens


def held_out_windows(count: int) -> list[list[int]]:
    """The middle of `count` files of the standard library that tiny-plm was not trained on, each
    of another file, in the order of their hashes. (Of the Python that it was trained with: see
    examples/tiny-plm/README.md.)"""
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    windows: list[list[int]] = []
    for source in _corpus().read_sources(only_held_out=True):
        if len(windows) < count:
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


def detokenised(model: Path, windows: list[list[int]]) -> str:
    """The windows as one text."""
    with Session.open(model, Options(n_ctx=WINDOW, threads=1)) as session:
        pieces = [session.vocabulary.piece(token) for window in windows for token in window]
    return b"".join(pieces).decode("utf-8", "replace")


def _corpus() -> ModuleType:
    """The module that reads what tiny-plm was trained on; its folder is no package."""
    name = "tiny_plm_corpus"
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples/tiny-plm/corpus.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
