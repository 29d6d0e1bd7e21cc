"""Finding the weights of a folder, and refusing those that are not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.sources.checkpoint import INDEX, Checkpoint, check_folder
from testkit.checkpoints import PlmShape
from tests.converters.conftest import said


def refused(folder: Path) -> str:
    with pytest.raises(PlmEdgeError) as error, Checkpoint(folder):
        pass
    return said(error)


def change_index(folder: Path, **changes: str | None) -> None:
    """Set or remove (None) entries of the index's weight map, by name of tensor."""
    path = folder / INDEX
    index = json.loads(path.read_text())
    for name, file in changes.items():
        index["weight_map"].pop(name, None)
        if file is not None:
            index["weight_map"][name] = file
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("kind", ["checkpoint", "sharded"])
def test_reads_any_rows_of_every_tensor(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    expected = {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}
    with Checkpoint(folder) as checkpoint:
        assert {n: t.shape for n, t in checkpoint.tensors.items()} == PlmShape().tensors()
        for name, tensor in checkpoint.tensors.items():
            weights = expected[name].view(torch.uint16).numpy()
            weights = weights.reshape(-1, weights.shape[-1])
            first = len(weights) // 3
            into = np.empty(weights[first:].nbytes, np.uint8)
            tensor.read_rows(first, into)
            assert into.tobytes() == weights[first:].tobytes()


def test_shards_without_an_index(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    with Checkpoint(sharded) as checkpoint:
        assert set(checkpoint.tensors) == set(PlmShape().tensors())


def test_one_of_the_numbered_shards_is_missing(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing" in refused(sharded)


def test_a_shard_that_the_index_names_is_missing(sharded: Path) -> None:
    (sharded / "model-00003-of-00003.safetensors").unlink()
    assert "model-00003-of-00003.safetensors is missing" in refused(sharded)


def test_half_a_download_is_called_that(sharded: Path) -> None:
    cache = sharded / ".cache/huggingface/download"
    cache.mkdir(parents=True)
    (cache / "0123.incomplete").touch()
    (sharded / "model-00003-of-00003.safetensors").unlink()
    assert "1 unfinished file (*.incomplete)" in refused(sharded)
    for path in sharded.glob("model*"):
        path.unlink()
    assert "half a download" in refused(sharded)


def test_index_names_a_tensor_that_its_shard_lacks(sharded: Path) -> None:
    change_index(sharded, ghost="model-00001-of-00003.safetensors")
    assert "ghost is not in the checkpoint" in refused(sharded)


def test_shard_has_a_tensor_that_the_index_lacks(sharded: Path) -> None:
    change_index(sharded, **{"model.norm.weight": None})
    assert "model.norm.weight is in the checkpoint but not in its index" in refused(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    first, second = (sharded / f"model-0000{i}-of-00003.safetensors" for i in (1, 2))
    save_file(load_file(first) | {"model.norm.weight": torch.ones(64)}, first)
    said_ = refused(sharded)
    assert "model.norm.weight occurs twice" in said_
    assert first.name in said_
    assert second.exists()


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "", "..", 7, None])
def test_index_that_leads_out_of_the_folder(sharded: Path, file: object) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = file
    (sharded / INDEX).write_text(json.dumps(index))
    assert "does not name a file for model.norm.weight" in refused(sharded)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_index_without_weights(sharded: Path, content: str) -> None:
    (sharded / INDEX).write_text(content)
    assert "names no weights" in refused(sharded)


def test_no_such_folder(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "nothing")


def test_empty_folder(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path)


def test_the_folder_above_a_checkpoint(tmp_path: Path) -> None:
    """A repository is cloned, and the checkpoint is a folder in it."""
    (tmp_path / "README.md").touch()
    with pytest.raises(PlmEdgeError, match="is no checkpoint") as caught:
        check_folder(tmp_path)
    assert "did you mean" not in caught.value.fix
    (tmp_path / "model.gguf").touch()
    with pytest.raises(PlmEdgeError) as caught:
        check_folder(tmp_path)
    assert caught.value.fix.endswith(f": {tmp_path / 'model.gguf'}")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/config.json").touch()
    with pytest.raises(PlmEdgeError) as caught:
        check_folder(tmp_path)
    assert caught.value.fix == f"did you mean {tmp_path / 'weights'}?"


def test_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert "has no weights" in refused(tmp_path)


def test_pickled_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert "pytorch_model.bin is not a sound checkpoint file" in refused(tmp_path)


def test_a_file_instead_of_a_folder(checkpoint: Path) -> None:
    said_ = refused(checkpoint / "model.safetensors")
    assert "is a file" in said_
    assert str(checkpoint) in said_


def test_a_gguf_instead_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    assert "is a GGUF already" in refused(path)


def test_dangling_link_of_an_unfinished_cache(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.unlink()
    weights.symlink_to("../../blobs/0123")
    assert "model.safetensors is missing" in refused(checkpoint)


@pytest.mark.parametrize("keep", [0, 7, 40, 1000, -1])
def test_cut_off_file(checkpoint: Path, keep: int) -> None:
    path = checkpoint / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    said_ = refused(checkpoint)
    assert ("is cut off" if keep not in (0, 7) else "it has ") in said_
    if keep == -1:
        assert f"should have {len(data)} bytes and has {len(data) - 1}" in said_


def test_cut_off_while_it_is_read(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    with Checkpoint(checkpoint) as opened:
        path.write_bytes(path.read_bytes()[:-100])
        tensor = opened.tensors["model.norm.weight"]
        with pytest.raises(PlmEdgeError, match="ended while it was read"):
            tensor.read_rows(0, np.empty(128, np.uint8))


def test_git_lfs_pointer_in_place_of_the_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3651000000\n"
    )
    said_ = refused(checkpoint)
    assert "git-lfs pointer" in said_
    assert "git lfs pull" in said_


def write_raw(folder: Path, header: object, data: bytes = b"") -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(begin: int, end: int, dtype: str = "F32", shape: object = None) -> dict[str, object]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\0" * 20, "its header"),
        (b"{}{}", "its header"),
        ([], "no JSON object"),
        (b'{"a": {}, "a": {}}', "'a' occurs twice"),
        ({"a": {}}, "entry of a"),
        ({"a": 7}, "entry of a"),
        ({"a": entry(0, 8) | {"data_offsets": [0]}}, "entry of a"),
        ({"a": entry(0, 8, shape=[-2])}, "no number"),
        ({"a": entry(0, 8, shape=[2.0])}, "no number"),
        ({"a": entry(8, 0)}, "no number"),
        ({"a": entry(0, 8, "F3")}, "unknown type 'F3'"),
        ({"a": entry(0, 8, shape=[3])}, "not those of F32 [3]"),
        ({"a": entry(0, 8, shape=[2**62, 2**62])}, "not those of F32"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "b overlaps another one"),
        ({"a": entry(0, 8), "b": entry(12, 16)}, "b follows a hole"),
        ({"a": entry(0, 8)}, "8 bytes follow its last tensor"),
        ({"a": entry(0, 1 << 40)}, "is cut off"),
    ],
)
def test_damaged_header(checkpoint: Path, header: object, expected: str) -> None:
    write_raw(checkpoint, header, bytes(16))
    assert expected in refused(checkpoint)


def test_header_larger_than_any_real_one(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "is not possible" in refused(checkpoint)


def test_read_error_is_an_error_not_a_crash(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with Checkpoint(checkpoint) as opened:
        monkeypatch.setattr("os.preadv", fails)
        with pytest.raises(PlmEdgeError, match="Input/output error"):
            opened.tensors["model.norm.weight"].read_rows(0, np.empty(128, np.uint8))
