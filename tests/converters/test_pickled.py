"""Weights in pytorch_model*.bin: read as they are, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert
from testkit.checkpoints import write_checkpoint
from tests.converters.conftest import said
from tests.converters.gguf_content import assert_same, read


def pickled(folder: Path, *, shards: int = 1, legacy: bool = False) -> Path:
    """The checkpoint with its weights as torch.save writes them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, new = list(weights), not legacy
    if shards == 1:
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
        return folder
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin"
        mine = names[i::shards]
        torch.save({name: weights[name] for name in mine}, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_same_as_from_safetensors(tmp_path: Path, layout: str, dtype: str) -> None:
    expected = tmp_path / "expected.gguf"
    folder = write_checkpoint(tmp_path / "checkpoint", dtype=dtype)
    convert(folder, layout=layout, out=expected)
    convert(pickled(folder), layout=layout, out=tmp_path / "m.gguf")
    assert_same(read(tmp_path / "m.gguf"), read(expected))


def test_shards_older_files_and_a_tied_copy(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    convert(folder, out=tmp_path / "expected.gguf")
    made = {
        "shards": pickled(write_checkpoint(tmp_path / "1/checkpoint"), shards=3),
        "older": pickled(write_checkpoint(tmp_path / "2/checkpoint"), legacy=True),
        "tied": pickled(write_checkpoint(tmp_path / "3/checkpoint", lm_head_copy=True)),
    }
    for name, source in made.items():
        out = tmp_path / f"{name}.gguf"
        convert(source, out=out)
        assert_same(read(out), read(tmp_path / "expected.gguf"))


class Harm:
    """What a pickle can hold: a call."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_runs(checkpoint: Path, tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "harm"
    pickled(checkpoint)
    path = checkpoint / "pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    weights["extra"] = Harm(target)
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, out=tmp_path / "m.gguf")
    assert "holds more than weights" in said(error)
    assert "nothing of it was run" in said(error)
    assert not target.exists()
    # The same file does run when it is opened without care: the test can fail.
    torch.load(path, weights_only=False)
    assert target.exists()


def test_safetensors_count_more(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    (checkpoint / "pytorch_model.bin.index.json").write_text("{}")
    convert(checkpoint, out=tmp_path / "m.gguf")
    assert not (tmp_path / "harm").exists()


def damaged(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    return {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "text": b"hello",
        "pickle of a number": pickle.dumps(3),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle of a number", "lfs"])
def test_damaged(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    path = pickled(checkpoint) / "pytorch_model.bin"
    path.write_bytes(damaged(path)[damage])
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, out=tmp_path / "m.gguf")
    said(error)


def test_not_tensors_by_name_or_of_a_wrong_type(checkpoint: Path, tmp_path: Path) -> None:
    path = pickled(checkpoint) / "pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    name = "model.norm.weight"
    for content in (
        [1, 2],
        {name: 3},
        weights | {name: weights[name].to(torch.float64)},
        weights | {name: weights[name].to_sparse()},
        weights | {"more": weights[name]},
    ):
        torch.save(content, path)
        with pytest.raises(PlmEdgeError) as error:
            convert(checkpoint, out=tmp_path / "m.gguf")
        said(error)


def test_a_zip_that_is_no_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    path = pickled(checkpoint) / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(PlmEdgeError, match="not a sound checkpoint file"):
        convert(checkpoint, out=tmp_path / "m.gguf")


def test_without_torch(checkpoint: Path, tmp_path: Path) -> None:
    """In a process that cannot import it; and safetensors never do."""
    program = """
import sys
sys.modules["torch"] = None
from plm_edge.cli import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["convert", str(checkpoint), "--out", str(tmp_path / "m.gguf")]
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"PLM_EDGE_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pickled(checkpoint)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert "plm-edge[torch]" in done.stderr
