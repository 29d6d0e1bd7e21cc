"""Fixtures of the converter's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.engine import library
from testkit.checkpoints import PlmShape, write_checkpoint

# Every row a multiple of 256, as K-quants want them, and layers enough for each rule of a recipe.
SHAPE_256 = PlmShape(
    layers=9, hidden=256, heads=2, nope=96, rope=32, v=128, kv_lora=256, ffn=512, vocab=520
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint of the test's own, to be damaged at will."""
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that every type fits; to be left as it is."""
    return write_checkpoint(tmp_path_factory.mktemp("large") / "checkpoint", SHAPE_256)


@pytest.fixture(scope="session")
def quantizer() -> Quantizer:
    """ggml's quantisers."""
    return Quantizer(library.load().ggml)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "sharded", shards=3)


Edit = Callable[[dict[str, torch.Tensor]], object]


def edit_weights(checkpoint: Path, edit: Edit) -> None:
    """Change the tensors of a checkpoint of one file."""
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file({name: w.contiguous() for name, w in weights.items()}, path)


def said(error: pytest.ExceptionInfo[PlmEdgeError]) -> str:
    """All that the person reads; checks that it is three lines with something on each."""
    lines = str(error.value).split("\n")
    assert len(lines) == 3
    assert all(line.strip() for line in lines)
    return str(error.value)
