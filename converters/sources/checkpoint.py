"""A checkpoint folder has weight files; this module knows where each tensor lies in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import read_json
from plm_edge.converters.sources.pickled import PickledTensor, open_pickled
from plm_edge.converters.sources.shard import Shard, ShardTensor
from plm_edge.converters.tensors import Tensor

INDEX = "model.safetensors.index.json"
PICKLED_INDEX = "pytorch_model.bin.index.json"
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)")


class Checkpoint:
    """An open checkpoint: a folder with config.json, weights and tokenizer files.

    Use as a context manager. `tensors` maps each name to a tensor that is read when asked for,
    `files` are those that they lie in, with their index.

    Raises:
        PlmEdgeError: not a folder, no weights in it, or weight files that are missing, cut off,
            damaged, or not those that the index names.
    """

    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.folder = folder
        with ExitStack() as stack:
            index = _index(folder)
            self.tensors = _indexed(index, stack) if index else _loose(folder, stack)
            lies_in = {_path(tensor) for tensor in self.tensors.values()}
            self.files = (*sorted(lies_in), *([index] if index else []))
            self._open = stack.pop_all()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()


def _index(folder: Path) -> Path | None:
    """The index of the weights. Safetensors count more than pickled files."""
    if (folder / INDEX).is_file():
        return folder / INDEX
    if not any(folder.glob("model*.safetensors")) and (folder / PICKLED_INDEX).is_file():
        return folder / PICKLED_INDEX
    return None


def _path(tensor: Tensor) -> Path:
    """The file that a tensor lies in."""
    assert isinstance(tensor, (ShardTensor, PickledTensor))
    return tensor.shard.path if isinstance(tensor, ShardTensor) else tensor.path


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no checkpoint, and say what it is instead.

    Raises:
        PlmEdgeError: `folder` is no folder, an empty one, or has neither config.json nor weights.
    """
    if folder.is_dir():
        if not any(folder.iterdir()):
            raise PlmEdgeError(
                f"{folder} is empty",
                "a checkpoint has config.json, *.safetensors and tokenizer.json",
                "give the folder that the checkpoint was downloaded to",
            )
        if not any(any(folder.glob(name)) for name in ("config.json", "*.safetensors", "*.bin")):
            raise _no_checkpoint(folder)
        return
    if not folder.exists():
        raise PlmEdgeError(
            f"there is no folder {folder}",
            "nothing of that name is here, and a repository of the hub is written OWNER/NAME",
            "check the path, or name the repository: plm-edge convert OWNER/NAME",
        )
    if folder.suffix == ".gguf":
        raise PlmEdgeError(
            f"{folder.name} is a GGUF already",
            "convert reads the original checkpoint, a folder with config.json and *.safetensors",
            "give that folder, or run this file as it is: plm-edge run " + str(folder),
        )
    raise PlmEdgeError(
        f"{folder} is a file",
        "a checkpoint is a folder with config.json, *.safetensors and tokenizer.json",
        f"give the folder that the file lies in: {folder.parent}",
    )


def _no_checkpoint(folder: Path) -> PlmEdgeError:
    fix = "give the folder that the checkpoint was downloaded to"
    below = sorted(folder.glob("*/config.json"))
    if below:
        fix = f"did you mean {below[0].parent}?"
    elif models := sorted(folder.glob("*.gguf")):
        fix = f"give the GGUF in it itself: {models[0]}"
    return PlmEdgeError(
        f"{folder} is no checkpoint",
        "it has neither config.json nor weights (*.safetensors, *.bin)",
        fix,
    )


def _indexed(index: Path, stack: ExitStack) -> dict[str, Tensor]:
    """The tensors of all shards that the index names; index and shards must agree."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise PlmEdgeError(
            f"{index.name} names no weights",
            f"{index} has no object weight_map, or an empty one",
            "download this file again",
        )
    for tensor, file in weight_map.items():
        # A path in the index could lead out of the folder.
        if not isinstance(file, str) or "/" in file or file in ("", ".", ".."):
            raise PlmEdgeError(
                f"{index.name} does not name a file for {tensor}",
                f"it says {file!r}, where the name of a file in the same folder should be",
                "download this file again",
            )
    tensors = _open_all(index.parent, sorted(set(weight_map.values())), stack)
    for name, file in weight_map.items():
        if name not in tensors:
            raise PlmEdgeError(
                f"{name} is not in the checkpoint",
                f"{index.name} says it lies in {file}, which does not have it",
                "the files are not of one checkpoint, or damaged: download it again",
            )
    for name in tensors:
        if name not in weight_map:
            raise PlmEdgeError(
                f"{name} is in the checkpoint but not in its index",
                f"{index.name} does not name it",
                "the files are not of one checkpoint: download it again",
            )
    return tensors


def _loose(folder: Path, stack: ExitStack) -> dict[str, Tensor]:
    """Without an index: one file, or a full set of numbered shards; pickled ones where there are
    no safetensors."""
    files = sorted(path.name for path in folder.glob("model*.safetensors"))
    files = files or sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if not files:
        raise _no_weights(folder)
    for match in filter(None, map(_NUMBERED.fullmatch, files)):
        stem, total, suffix = match[1], match[3], match[4]
        expected = [f"{stem}-{i + 1:05d}-of-{total}.{suffix}" for i in range(int(total))]
        missing = sorted(set(expected) - set(files))
        if missing:
            raise _missing_files(folder, missing)
    return _open_all(folder, files, stack)


def _open_all(folder: Path, files: list[str], stack: ExitStack) -> dict[str, Tensor]:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise _missing_files(folder, missing)
    tensors: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for file in files:
        for name, tensor in _open(folder / file, stack).items():
            if name in tensors:
                raise PlmEdgeError(
                    f"{name} occurs twice in the checkpoint",
                    f"it lies in {origin[name]} and in {file}",
                    "the files are not of one checkpoint: download it again",
                )
            tensors[name], origin[name] = tensor, file
    return tensors


def _open(path: Path, stack: ExitStack) -> Mapping[str, Tensor]:
    if path.suffix == ".bin":
        return open_pickled(path)
    shard = Shard(path)
    stack.callback(shard.close)
    return shard.tensors


def _missing_files(folder: Path, missing: list[str]) -> PlmEdgeError:
    unfinished = _unfinished(folder)
    return PlmEdgeError(
        f"{missing[0]} is missing" + (f", and {len(missing) - 1} more" if missing[1:] else ""),
        f"{folder} has {unfinished}" if unfinished else f"it is not in {folder}",
        "finish the download: hf download resumes where it stopped",
    )


def _no_weights(folder: Path) -> PlmEdgeError:
    unfinished = _unfinished(folder)
    if unfinished:
        return PlmEdgeError(
            f"the weights in {folder} are half a download",
            f"the folder has {unfinished} and no *.safetensors",
            "finish the download: hf download resumes where it stopped",
        )
    return PlmEdgeError(
        f"{folder} has no weights",
        "there is no model*.safetensors and no pytorch_model*.bin in it",
        "give the folder that the checkpoint was downloaded to",
    )


def _unfinished(folder: Path) -> str:
    """What an interrupted download left, in words; empty when nothing."""
    places = (folder, folder / ".cache" / "huggingface" / "download")
    found = [path.name for place in places for path in place.glob("*.incomplete")]
    return f"{len(found)} unfinished file{'s' * (len(found) > 1)} (*.incomplete)" if found else ""
