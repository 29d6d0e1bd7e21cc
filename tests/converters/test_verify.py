"""A file that is not what was meant to be written is found, whoever spoiled it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from plm_edge import __version__
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import main
from plm_edge.converters import convert as conversion
from plm_edge.converters.convert import convert
from plm_edge.converters.write.gguf_header import Plan
from plm_edge.converters.write.pipeline import Job, WrittenBlock
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file, verify_written
from plm_edge.converters.write.writer import AtomicFile
from plm_edge.model import gguf_file
from plm_edge.model.description import HASHES_KEY
from tests.converters.conftest import said
from tests.converters.gguf_content import read
from tests.converters.imatrix_files import random_entries, write_imatrix


@pytest.fixture(scope="module")
def model(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "m.gguf"
    convert(large, quant="q4_k", out=out)
    return out


@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_hashes_are_those_of_the_data(large: Path, tmp_path: Path, layout: str) -> None:
    convert(large, quant="q4_k", layout=layout, out=tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    hashes = [
        hashlib.sha256(data[tensor.offset :][: tensor.n_bytes]).hexdigest()
        for tensor in gguf_file.read(tmp_path / "m.gguf").tensors
    ]
    assert read(tmp_path / "m.gguf").value(HASHES_KEY) == hashes


def test_sound_file(model: Path, quantizer: Quantizer) -> None:
    verdict = verify_file(model, quantizer)
    assert verdict.hashed
    assert verdict.tensors == len(read(model).tensors)


def test_one_changed_bit_anywhere_in_the_weights(
    model: Path, tmp_path: Path, quantizer: Quantizer
) -> None:
    copy = tmp_path / "m.gguf"
    rng = np.random.Generator(np.random.Philox(1))
    for tensor in gguf_file.read(model).tensors[::7]:
        data = bytearray(model.read_bytes())
        data[tensor.offset + int(rng.integers(tensor.n_bytes))] ^= 1 << int(rng.integers(8))
        copy.write_bytes(data)
        with pytest.raises(PlmEdgeError) as error:
            verify_file(copy, quantizer)
        assert f"the weights of {tensor.name} have changed" in said(error)


def test_file_of_another_tool_has_its_blocks_checked(
    model: Path, tmp_path: Path, quantizer: Quantizer
) -> None:
    """No hashes in it: an infinite scale is found all the same."""
    data = model.read_bytes()
    data = data.replace(HASHES_KEY.encode(), b"other_tool.weights.hash")
    assert len(HASHES_KEY) == len("other_tool.weights.hash")
    copy = tmp_path / "m.gguf"
    copy.write_bytes(data)
    assert not verify_file(copy, quantizer).hashed
    tensor = next(t for t in gguf_file.read(copy).tensors if t.type == "q4_K")
    spoiled = bytearray(data)
    spoiled[tensor.offset : tensor.offset + 2] = b"\x00\x7c"  # f16: infinity
    copy.write_bytes(spoiled)
    with pytest.raises(PlmEdgeError, match="no finite number"):
        verify_file(copy, quantizer)


def test_on_the_command_line(
    model: Path, large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model), "--verify"]) == 0
    assert "all as they were written" in capsys.readouterr().out
    assert main(["inspect", str(model), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"]["hashed"] is True
    copy = tmp_path / "m.gguf"
    data = bytearray(model.read_bytes())
    data[-40] ^= 1
    copy.write_bytes(data)
    assert main(["inspect", str(copy), "--verify"]) == ExitCode.INPUT
    assert "have changed" in capsys.readouterr().err
    assert main(["inspect", str(large), "--verify"]) == ExitCode.USAGE


def spoil_block(file: AtomicFile, plan: Plan, jobs: list[Job]) -> None:
    file.write_at(plan.offsets[5] + 3, b"\xa5\x5a\xa5")


def spoil_header(file: AtomicFile, plan: Plan, jobs: list[Job]) -> None:
    at = plan.header.index(b"blk.3.ffn_up.weight")
    file.write_at(at, b"blk.3.ffn_op.weight")


def cut_off(file: AtomicFile, plan: Plan, jobs: list[Job]) -> None:
    with file.partial.open("r+b") as partial:
        partial.truncate(plan.size - 100)


@pytest.mark.parametrize("spoil", [spoil_block, spoil_header, cut_off])
def test_spoiled_between_writing_and_reading(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    def spoiled(file: AtomicFile, plan: Plan, jobs: list[Job], *rest: object) -> object:
        assert callable(spoil)
        spoil(file, plan, jobs)
        return verify_written(file, plan, jobs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "verify_written", spoiled)
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    with pytest.raises(PlmEdgeError) as error:
        convert(large, out=out)
    said(error)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("layout", ["edge", "stock"])
@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_k", "q2_k"])
def test_rows_in_a_wrong_order(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quant: str, layout: str
) -> None:
    """Written as intended, with right hashes, and still wrong: the source's rows tell."""
    name = "blk.4.ffn_down.weight"

    def swapped(
        file: AtomicFile, plan: Plan, jobs: list[Job], written: list[WrittenBlock], *rest: object
    ) -> object:
        index = next(i for i, job in enumerate(jobs) if job.target.name == name)
        job = jobs[index]
        data = np.empty(job.target.size, np.uint8)
        file.read_at(job.offset, data)
        turned = np.ascontiguousarray(data.reshape(job.target.shape[0], -1)[::-1]).ravel()
        file.write_at(job.offset, turned.data)
        digest = hashlib.sha256(turned.data).digest()
        written = [block for block in written if block.job != index]
        written.append(WrittenBlock(index, job.offset, turned.size, digest))
        return verify_written(file, plan, jobs, written, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "verify_written", swapped)
    with pytest.raises(PlmEdgeError, match=f"row 0 of {name} has an error of"):
        convert(large, quant=quant, layout=layout, out=tmp_path / "m.gguf")


def test_weights_of_next_to_nothing_are_no_error(checkpoint: Path, tmp_path: Path) -> None:
    from tests.converters.conftest import edit_weights

    edit_weights(checkpoint, lambda w: w["model.layers.1.mlp.up_proj.weight"].mul_(1e-7))
    edit_weights(checkpoint, lambda w: w["model.layers.0.mlp.up_proj.weight"].zero_())
    for quant in ("q4_k", "f16", "bf16", "q2_k"):
        convert(checkpoint, quant=quant, out=tmp_path / "m.gguf")


def test_keys_about_who_made_it(large: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('base = "q4_k"\n[types]\n\'token_embd\' = "q8_0"\n')
    convert(large, recipe=recipe, layout="stock", out=tmp_path / "m.gguf")
    content = read(tmp_path / "m.gguf")
    assert content.value("plm_edge.version") == __version__
    assert content.value("plm_edge.recipe") == "q4_k_m token_embd=q8_0"
    assert content.value("plm_edge.source") == large.parent.name
    # What a person can compute as well, over the files that were read.
    names = sorted(path.name for path in large.iterdir())
    command = f"cd {large} && sha256sum {' '.join(names)} | sha256sum"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert content.value("plm_edge.source.sha256") == done.stdout.split()[0]


def test_columns_of_no_importance_are_given_up(large: Path, tmp_path: Path) -> None:
    """Neurons that a text never woke: what is stored of their columns is no sign of a fault."""
    rng = np.random.Generator(np.random.Philox(5))
    entries = random_entries(large)
    for name, sums in entries.items():
        if "ffn_down" in name:
            sums[rng.random(sums.size) < 0.97] = 0
    matrix = write_imatrix(tmp_path / "m", large, legacy=False, entries=entries)
    for quant in ("iq1_m", "q2_k"):
        out = tmp_path / f"{quant}.gguf"
        convert(large, quant=quant, layout="stock", imatrix=matrix, out=out)
        assert out.is_file()
