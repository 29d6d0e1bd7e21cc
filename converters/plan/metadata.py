"""The keys general.* name the model, its size, licence, origin, and its authors' sampling."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from gguf import GGML_QUANT_VERSION, GGUFValueType, GGUFWriter, LlamaFileType, Metadata, size_label

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import read_json
from plm_edge.converters.keys import Keys, u32
from plm_edge.model.description import ARCH

_NUMBERS = {GGUFValueType.FLOAT32: (float, int), GGUFValueType.INT32: (int,)}
# Folder names that say nothing about the model in them.
_GENERIC = {"checkpoint", "checkpoints", "final", "hf", "model", "weights"}


def model_name(folder: Path) -> str:
    """Returns a short name for files made from the checkpoint in `folder`."""
    folder = folder.absolute()
    name = folder.name
    if folder.parent.name == "snapshots":  # the hub's cache: models--OWNER--NAME/snapshots/HASH
        name = folder.parent.parent.name.split("--")[-1]
    elif name.lower() in _GENERIC:
        name = folder.parent.name
    return name or "model"


def general_keys(folder: Path, parameters: int) -> Keys:
    """Returns the keys general.* that upstream's converter makes of a checkpoint.

    It makes them of the folder's name, config.json, generation_config.json and the model card in
    README.md.

    Args:
        parameters: number of weights.

    Raises:
        PlmEdgeError: generation_config.json or the model card cannot be read.
    """
    if (folder / "generation_config.json").exists():
        generation = read_json(folder / "generation_config.json")
    else:
        generation = {}
    try:
        metadata = _load(folder, parameters)
        # gguf up to 0.19 reads penalty_repeat only, which Hugging Face does not write.
        if metadata.sampling_penalty_repeat is None:
            metadata.sampling_penalty_repeat = generation.get("repetition_penalty")
        metadata.size_label = metadata.size_label or size_label(parameters, parameters, 0, 0)
        metadata.name = metadata.name or _plain_name(folder)
        writer = GGUFWriter(None, ARCH)
        writer.add_type("model")
        metadata.set_gguf_meta_model(writer)
    except Exception as error:  # whatever YAML and its readers raise
        raise PlmEdgeError(
            "the model card cannot be read",
            f"{folder / 'README.md'}: {' '.join(str(error).split())}",
            "mend or remove the block between the lines --- at the top of README.md",
        ) from error
    keys = dict(writer.kv_data[0])
    for name, key in keys.items():
        expected = _NUMBERS.get(key.type)
        if expected and (type(key.value) not in expected or not abs(key.value) < 2**31):
            raise PlmEdgeError(
                "generation_config.json cannot be read",
                f"its value for {name} is {key.value!r}",
                "mend or remove generation_config.json",
            )
    return keys


def _plain_name(folder: Path) -> str:
    folder = folder.absolute()
    return model_name(folder) if folder.parent.name == "snapshots" else folder.name


def _load(folder: Path, parameters: int) -> Metadata:
    """What gguf reads from a model card and from the folder's name."""
    folder = folder.absolute()
    name = model_name(folder)
    if folder.parent.name != "snapshots":
        return Metadata.load(None, folder, None, parameters)
    # The hub's cache names the folder after a commit, which says nothing of the model.
    with TemporaryDirectory() as place:
        link = Path(place) / name
        link.symlink_to(folder, target_is_directory=True)
        return Metadata.load(None, link, None, parameters)


def file_keys(file_type: LlamaFileType | int | None) -> Keys:
    """Returns the keys that say how the file is quantised.

    Args:
        file_type: llama.cpp's number; None when it is not known.
    """
    keys = {"general.quantization_version": u32(GGML_QUANT_VERSION)}
    return keys if file_type is None else keys | {"general.file_type": u32(file_type)}
