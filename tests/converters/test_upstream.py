"""The stock layout, key by key and bit by bit against upstream's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import pytest
from _pytest.mark.structures import ParameterSet

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.convert import convert
from testkit import upstream as upstream_converter
from testkit.checkout import TINY_PLM, Upstream
from testkit.checkpoints import PlmShape, write_checkpoint
from testkit.tiers import quant_cells
from tests.converters.conftest import SHAPE_256
from tests.converters.gguf_content import assert_same, read
from tests.converters.imatrix_files import write_imatrix

FLOATS = ("f32", "f16", "bf16")
OLDER = ("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0")
NEWER = ("q5_0", "iq4_nl", "iq4_xs", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k")
WEIGHTED = ("iq3_m", "iq3_s", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m")
# Rows of 64, 96, 160 and 72 values, which no K-quant fits, and 72 not even a block of 32.
SMALL = PlmShape(heads=3, layers=3)
# Layers enough for the rules that speak of sixteenths. Few of its matrices get a recipe's base
# type, and WIDE's hardly any other: together they are much less work than one that has it all.
DEEP = PlmShape(16, hidden=32, heads=8, nope=8, rope=8, v=32, kv_lora=256, ffn=256, vocab=270)
WIDE = PlmShape(2, hidden=256, heads=2, nope=16, rope=8, v=16, kv_lora=32, ffn=32, vocab=270)
# Has it all, for the types whose tables take ggml seconds to build: each of them but once.
EIGHT = PlmShape(8, hidden=256, heads=2, nope=16, rope=8, v=128, kv_lora=256, ffn=256, vocab=270)
ALL, SOME = (*OLDER, *NEWER, *FLOATS), ("q8_0", "q5_k_m", "q4_k_s", "q2_k", "iq4_xs", "f16")
CASES = {
    **{"k256-bf16": (*OLDER, *FLOATS), "small-bf16": ALL, "deep": NEWER, "wide": NEWER},
    **{"tiny": ("q4_k_m", "q5_0", "q3_k_m", "iq4_nl", *FLOATS), "k256-f32": (*SOME, "f32", "bf16")},
    **{"k256-f16": SOME, "k256-sharded": SOME, "small-f32": SOME},
}
MATRIX_CASES = {
    **dict.fromkeys(("deep", "wide"), (*OLDER, *NEWER)),
    **dict.fromkeys(("eight", "small-bf16"), WEIGHTED),
    "tiny": ("q4_k_m", "q2_k"),
}


class Made(Protocol):
    def __call__(self, name: str, quant: str, *options: object) -> Path: ...


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("subjects")
    return {
        # Names that upstream reads a size, a version or a purpose from.
        "k256-bf16": write_checkpoint(folder / "PLM-v2-8M-Instruct", SHAPE_256, seed=1),
        "k256-f16": write_checkpoint(folder / "k256-f16", SHAPE_256, seed=2, dtype="f16"),
        "k256-f32": write_checkpoint(folder / "k256-f32", SHAPE_256, seed=3, dtype="f32"),
        "k256-sharded": write_checkpoint(folder / "k256-sharded", SHAPE_256, seed=4, shards=3),
        "small-bf16": write_checkpoint(folder / "small-bf16", SMALL, seed=5),
        "small-f32": write_checkpoint(folder / "small-f32", SMALL, seed=6, dtype="f32"),
        "deep": write_checkpoint(folder / "deep", DEEP, seed=7),
        "wide": write_checkpoint(folder / "wide", WIDE, seed=9),
        "eight": write_checkpoint(folder / "eight", EIGHT, seed=8),
        "tiny": Path(shutil.copytree(TINY_PLM, folder / "tiny-plm")),
    }


@pytest.fixture(scope="module")
def upstreams(
    upstream: Upstream, subjects: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """A subject's GGUF of a type, made by upstream's tools, llama-quantize with some options."""
    folder = tmp_path_factory.mktemp("upstream")
    card = (
        "---\nlicense: mit\nlanguage: [en, zh]\ntags: [plm]\nbase_model: A/PLM-1.8B\n---\n# PLM\n"
    )
    (subjects["k256-bf16"] / "README.md").write_text(card)
    sampling = '{"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}'
    (subjects["k256-bf16"] / "generation_config.json").write_text(sampling)
    jobs = [
        f"{path}:{outtype}:{folder / f'{name}-{outtype}.gguf'}"
        for name, path in subjects.items()
        for outtype in ("auto", *(set(FLOATS) & set(CASES.get(name, ()))))
    ]
    _run([*upstream_converter.command(upstream.tree, *jobs)], **upstream_converter.ENVIRONMENT)

    def made(name: str, quant: str, *options: object) -> Path:
        path = folder / f"{name}-{quant}.gguf"
        if quant not in FLOATS:
            tool = upstream.bin / "llama-quantize"
            source = folder / f"{name}-auto.gguf"
            command = [tool, *options, source, path, quant, "2"]
            _run(command, LD_LIBRARY_PATH=str(upstream.bin))
        return path

    return made


def _run(command: list[object], **environment: str) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def pairs(cases: dict[str, tuple[str, ...]]) -> list[ParameterSet]:
    return quant_cells([(name, quant) for name, quants in cases.items() for quant in quants])


@pytest.mark.parametrize(("name", "quant"), pairs(CASES))
def test_same_keys_and_same_bits(
    upstreams: Made, subjects: dict[str, Path], tmp_path: Path, name: str, quant: str
) -> None:
    out = tmp_path / "m.gguf"
    convert(subjects[name], quant=quant, layout="stock", out=out)
    assert_same(read(out), read(upstreams(name, quant)))


@pytest.mark.parametrize(("name", "quant"), pairs(MATRIX_CASES))
def test_same_with_an_importance_matrix(
    upstreams: Made, subjects: dict[str, Path], tmp_path: Path, name: str, quant: str
) -> None:
    """Both formats in turns: all types see each of them with some subject or other."""
    legacy = (len(name) + len(quant)) % 2 == 0
    matrix = write_imatrix(tmp_path / "matrix", subjects[name], legacy=legacy)
    out = tmp_path / "m.gguf"
    convert(subjects[name], quant=quant, layout="stock", out=out, imatrix=matrix)
    theirs = read(upstreams(name, quant, "--imatrix", matrix))
    assert_same(read(out), theirs)
    assert theirs.value("quantize.imatrix.chunks_count") == 12
    assert theirs.value("quantize.imatrix.dataset") == "text.txt"


@pytest.mark.parametrize("quant", [name for name in WEIGHTED if name not in ("iq3_m", "iq3_s")])
def test_refused_where_upstream_refuses(
    upstreams: Made, subjects: dict[str, Path], tmp_path: Path, quant: str
) -> None:
    with pytest.raises(AssertionError, match="requires an imatrix"):
        upstreams("wide", quant)
    with pytest.raises(PlmEdgeError, match="needs an importance matrix"):
        convert(subjects["wide"], quant=quant, out=tmp_path / "m.gguf")


def test_types_of_ones_own(upstreams: Made, subjects: dict[str, Path], tmp_path: Path) -> None:
    """As llama-quantize's --tensor-type, where a pattern takes a kind of tensor in all layers."""
    types = {"token_embd": "q4_0", "attn_(q|output)": "q5_1", "ffn_up": "iq4_nl", "kv_b": "f16"}
    recipe = tmp_path / "mine.toml"
    lines = [f"'{pattern}' = \"{name}\"" for pattern, name in types.items()]
    recipe.write_text("\n".join(['base = "q3_k_m"', "[types]", *lines]))
    out = tmp_path / "m.gguf"
    report = convert(subjects["eight"], recipe=recipe, layout="stock", out=out)
    assert report.quant == "mine"
    options = [part for item in types.items() for part in ("--tensor-type", "=".join(item))]
    assert_same(read(out), read(upstreams("eight", "q3_k_m", *options)))
