"""The stock layout, key by key and bit by bit against upstream's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.convert import convert
from tests.checkpoints import PlmShape, write_checkpoint
from tests.conftest import Upstream
from tests.converters.conftest import SHAPE_256, TINY_PLM
from tests.converters.gguf_content import assert_same, read

HERE = Path(__file__).parent
QUANTISED = ("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0")
FLOATS = ("f32", "f16", "bf16")
# Rows of 64, 96, 160 and 72 values, which no K-quant fits, and 72 not even a block of 32.
SMALL = PlmShape(heads=3, layers=3)
ALL, SOME = (*QUANTISED, *FLOATS), ("q8_0", "q5_k_m", "q4_k_s", "f16")
CASES = {
    **{"k256-bf16": ALL, "small-bf16": ALL, "tiny": ALL, "k256-f32": ALL},
    **{"k256-f16": SOME, "k256-sharded": SOME, "small-f32": SOME},
}


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
        "tiny": Path(shutil.copytree(TINY_PLM, folder / "tiny-plm")),
    }


@pytest.fixture(scope="module")
def upstreams(
    upstream: Upstream, subjects: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """A subject's GGUF of a type, made by upstream's tools."""
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
        for outtype in ("auto", *FLOATS)
    ]
    command = [sys.executable, HERE / "upstream_convert.py", upstream.tree, *jobs]
    _run(command, PYTHONPATH=str(HERE / "standin"), PYTHONDONTWRITEBYTECODE="1")

    def made(name: str, quant: str) -> Path:
        path = folder / f"{name}-{quant}.gguf"
        if not path.exists():
            tool = upstream.bin / "llama-quantize"
            source = folder / f"{name}-auto.gguf"
            _run([tool, source, path, quant, "2"], LD_LIBRARY_PATH=str(upstream.bin))
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


@pytest.mark.parametrize(
    ("name", "quant"), [(name, quant) for name, quants in CASES.items() for quant in quants]
)
def test_same_keys_and_same_bits(
    upstreams: Callable[[str, str], Path],
    subjects: dict[str, Path],
    tmp_path: Path,
    name: str,
    quant: str,
) -> None:
    out = tmp_path / "m.gguf"
    convert(subjects[name], quant=quant, layout="stock", out=out)
    assert_same(read(out), read(upstreams(name, quant)))
