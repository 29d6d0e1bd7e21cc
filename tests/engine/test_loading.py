"""How weights come into memory: mapped in huge pages, or read by some threads; the bits stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import page_cache
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit.checkout import ROOT
from testkit.checkpoints import PlmShape, write_checkpoint

pytestmark = pytest.mark.slow

OPTIONS = Options(n_ctx=256, threads=2)
HUGE = page_cache.HUGE
# W_up and W_down have 9.4 MB in q4_0: more than is read at once
SHAPE = PlmShape(
    layers=1, hidden=512, heads=4, nope=64, rope=64, v=64, kv_lora=256, ffn=32768, vocab=512
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PLM of one layer, in the stock layout: all its matrices are interleaved where a CPU has
    that."""
    folder = tmp_path_factory.mktemp("loading")
    write_checkpoint(folder / "checkpoint", SHAPE, seed=3, dtype="bf16")
    convert(folder / "checkpoint", quant="q4_0", layout="stock", out=folder / "m.gguf")
    return folder / "m.gguf"


def logits(model: Path, **options: Any) -> NDArray[np.float32]:
    with Session.open(model, replace(OPTIONS, **options)) as session:
        session.context.append(list(range(40)))
        found: NDArray[np.float32] = session.context.row_logits().copy()
        return found


def copied(source: Path, target: Path, part: int) -> Path:
    """A copy that is written so many bytes at a time."""
    data = source.read_bytes()
    with target.open("wb", buffering=0) as file:
        for start in range(0, len(data), part):
            file.write(data[start : start + part])
        os.fsync(file.fileno())
    return target


@pytest.mark.parametrize("mmap", [None, True])
def test_mapped_or_read_it_has_the_same_bits(model: Path, mmap: bool | None) -> None:
    np.testing.assert_array_equal(logits(model, mmap=False), logits(model, mmap=mmap))


def test_rows_of_a_large_matrix_are_interleaved_part_by_part(model: Path) -> None:
    """A part in a wrong place would leave no logit as it was."""
    plain, interleaved = logits(model, repack=False), logits(model)
    assert np.abs(plain - interleaved).max() < 0.05 * plain.std()


def memory(model: Path) -> dict[str, int]:
    """Bytes of a process that has loaded it and decoded two tokens."""
    command = [sys.executable, "-m", "benchmarks.load_stages", str(model), "--tokens", "2"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_it_is_mapped_where_the_system_has_it_in_huge_pages(
    chat_gguf: Path, tmp_path: Path
) -> None:
    """Of a file system without huge pages only the other half is tested: there it is read."""
    large = copied(chat_gguf, tmp_path / "large.gguf", 2 * HUGE)
    has_huge = page_cache.huge_share(large) > 0.9
    small = copied(chat_gguf, tmp_path / "small.gguf", 1 << 16)
    assert page_cache.huge_share(small) < 0.1
    mapped, read = memory(large), memory(small)
    size = chat_gguf.stat().st_size if has_huge else 0
    assert mapped["RssFile"] - read["RssFile"] == pytest.approx(size, abs=8e6)
    assert read["RssAnon"] - mapped["RssAnon"] == pytest.approx(size, abs=8e6)
