"""The edge layout's mixtures against llama.cpp's of the same name, on tiny-plm, through the engine.

The text is short: that the difference is more than luck is what benchmarks/recipes.py measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import LlamaFileType
from tokenizers import Tokenizer

from benchmarks.divergence import Divergence
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.engine.options import Options
from plm_edge.model import gguf_file
from plm_edge.quality import imatrix
from plm_edge.quality.sums import Reading
from testkit import tiers
from testkit.checkout import ROOT, TINY_PLM
from tests.converters.gguf_content import read

# Each has a file type; general.file_type should name what most weights are.
BASES = {recipe.file_type: recipe.base for recipe in RECIPES.values()}
EDGE = [name for name, recipe in RECIPES.items() if recipe.edge]


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "f32.gguf"
    convert(TINY_PLM, quant="f32", layout="stock", out=out)
    return out


@pytest.fixture(scope="module")
def matrix(f32: Path) -> Path:
    """An importance matrix, for the types that are not to be had without."""
    text = (ROOT / "plm_edge/engine/context.py").read_text(encoding="utf-8")[:8000]
    out = f32.with_name("imatrix.gguf")
    how = Reading(options=Options(kv="f32", threads=1))
    imatrix.collect(f32, text, how).write(out, "context.py")
    return out


@pytest.fixture(scope="module")
def divergence(f32: Path) -> Divergence:
    """On the beginnings of tiny-plm's own programs, which its training did not see."""
    tokenizer = Tokenizer.from_file(str(TINY_PLM / "tokenizer.json"))
    texts = [path.read_text() for path in sorted((ROOT / "examples/tiny-plm").glob("*.py"))]
    windows = [tokenizer.encode(text).ids[:256] for text in texts]
    return Divergence(f32, windows, threads=1)


def test_there_are_some() -> None:
    assert {"q4_k_m", "q4_k_s", "q3_k_m", "q2_k"} <= set(EDGE)


@pytest.mark.parametrize("quant", tiers.quant_cells(EDGE))
def test_no_worse_and_no_larger(
    divergence: Divergence, matrix: Path, tmp_path: Path, quant: str
) -> None:
    """Program by program: the loss, if there is one, is within two standard errors, and small."""
    given = matrix if RECIPES[quant].needs_imatrix else None
    lost, sizes = {}, {}
    for layout in ("edge", "stock"):
        out = tmp_path / f"{layout}.gguf"
        convert(TINY_PLM, quant=quant, layout=layout, imatrix=given, out=out)
        sizes[layout] = sum(tensor.n_bytes for tensor in gguf_file.read(out).tensors)
        lost[layout] = divergence.of(out)
    more = lost["edge"] - lost["stock"]
    assert more.mean() <= 2 * more.std() / np.sqrt(more.size)
    assert 0 < lost["edge"].mean() <= 1.05 * lost["stock"].mean()
    assert sizes["edge"] <= sizes["stock"]


@pytest.mark.parametrize("quant", tiers.quant_cells(EDGE))
def test_the_file_type_names_what_most_weights_are(
    matrix: Path, tmp_path: Path, quant: str
) -> None:
    out = tmp_path / "m.gguf"
    convert(TINY_PLM, quant=quant, imatrix=matrix, out=out)
    content = read(out)
    weights: dict[str, int] = {}
    for tensor in content.tensors.values():
        weights[tensor.type.name] = weights.get(tensor.type.name, 0) + int(np.prod(tensor.shape))
    file_type = LlamaFileType(content.value("general.file_type"))
    assert BASES[file_type].name == max(weights, key=lambda name: weights[name])


def test_a_recipe_file_has_llama_cpps_mixture_in_both_layouts(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('base = "q4_k_m"\n')
    made = {}
    for layout in ("edge", "stock"):
        out = tmp_path / f"{layout}.gguf"
        convert(TINY_PLM, recipe=recipe, layout=layout, out=out)
        content = read(out)
        made[layout] = {name: tensor.type for name, tensor in content.tensors.items()}
        assert content.value("general.file_type") == LlamaFileType.MOSTLY_Q4_K_M
    assert made["edge"] == made["stock"]
