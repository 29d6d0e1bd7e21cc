"""How many threads compute changes no bit: the engine may change their number at any token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit.checkout import ROOT

PROMPT = [(37 * i) % 3000 + 5 for i in range(700)]  # upstream cuts a cache of 512 and more


def logits(model: Path, threads: int, kv: str, flash: str) -> list[bytes]:
    """Of the prompt's last token, of single tokens after it, and of a small batch."""
    options = Options(threads=threads, n_ctx=1024, kv=kv, flash_attn=flash)
    with Session.open(model, options) as session:
        context, found = session.context, []
        for tokens in (PROMPT[:512], PROMPT[512:], [100], [101], [7, 8, 9]):
            context.append(tokens)
            found.append(np.array(context.row_logits()).tobytes())
    return found


SETTINGS = pytest.mark.parametrize(("kv", "flash"), [("f16", "on"), ("q8_0", "on"), ("f16", "off")])


@SETTINGS
@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_plm(layout: str, kv: str, flash: str, tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    convert(ROOT / "examples/tiny-plm/checkpoint", quant="q4_k", layout=layout, out=model)
    assert logits(model, 2, kv, flash) == logits(model, 1, kv, flash)


@SETTINGS
def test_a_llama(chat_gguf: Path, kv: str, flash: str) -> None:
    assert logits(chat_gguf, 2, kv, flash) == logits(chat_gguf, 1, kv, flash)
