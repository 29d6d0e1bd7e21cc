"""A source is a model that is to be converted, read and checked, whatever it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gguf import GGMLQuantizationType

from plm_edge.converters.json_file import read_json
from plm_edge.converters.keys import Keys
from plm_edge.converters.plan.config import PlmConfig, parse_config
from plm_edge.converters.plan.metadata import general_keys, model_name
from plm_edge.converters.plan.plm import TensorSpec, match_tensors, model_keys
from plm_edge.converters.plan.tokenizer import tokenizer_keys
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.sources.checkpoint import Checkpoint, check_folder
from plm_edge.converters.tensors import Tensor
from plm_edge.converters.write.provenance import Origin, is_synthetic
from plm_edge.model import gguf_file, loadable
from plm_edge.model.description import describe

Q = GGMLQuantizationType
# What a checkpoint has beside its weights, as far as a conversion reads it.
TEXTS = (
    *("config.json", "generation_config.json", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"),
)


@dataclass(frozen=True)
class Snapshot:
    """Files of the hub's `repository` at one `commit`, in `folder`."""

    repository: str
    commit: str
    folder: Path


@dataclass(frozen=True)
class Source:
    """A model that is to be converted: its sizes, tensors and metadata, all checked.

    Attributes:
        pairs: each tensor of the model, in the order of the file to be.
        keys: what the file says of the model, but not how it is quantised and laid out.
        through: the 16-bit type that a matrix passes through on its way to a quantised type, or
            None.
        origin: where all this comes from.
        file_type: general.file_type, of a GGUF.
        hashed: whether it is a GGUF that carries hashes of its tensors.
        rounding: how a GGUF's matrices were quantised, where not each weight by itself.
    """

    config: PlmConfig
    pairs: Sequence[tuple[TensorSpec, Tensor]]
    keys: Keys
    through: GGMLQuantizationType | None
    origin: Origin
    file_type: int | None = None
    hashed: bool = False
    rounding: str = ""


@contextmanager
def open_source(path: Path, snapshot: Snapshot | None = None) -> Iterator[Source]:
    """Open a checkpoint's folder, or a GGUF; its tensors can be read until the context ends.

    Args:
        snapshot: what the folder is of the hub.

    Raises:
        PlmEdgeError: it is not there, damaged, or not a PLM.
    """
    with _open_gguf(path) if is_gguf(path) else _open_checkpoint(path, snapshot) as source:
        yield source


def is_gguf(path: Path) -> bool:
    """Says whether `path` is a GGUF, or a file that should be one."""
    return path.is_file() and (path.suffix == ".gguf" or gguf_file.is_gguf(path))


@contextmanager
def _open_checkpoint(path: Path, snapshot: Snapshot | None) -> Iterator[Source]:
    # Before the weights: what is no PLM should be told so, whatever its weights look like.
    check_folder(path)
    raw_config = read_json(path / "config.json")
    config = parse_config(raw_config)
    with Checkpoint(path) as checkpoint:
        pairs = match_tensors(config, checkpoint.tensors)
        keys = (
            general_keys(path, sum(prod(spec.shape) for spec, _ in pairs))
            | model_keys(config)
            | tokenizer_keys(path, config.vocab, raw_config)
        )
        synthetic = is_synthetic(raw_config)
        if snapshot is not None:
            origin = Origin(snapshot.repository, snapshot.commit, synthetic=synthetic)
        else:
            files = _files(path, checkpoint)
            origin = Origin(model_name(path), files=files, synthetic=synthetic)
        yield Source(config, pairs, keys, _through(checkpoint.tensors.values()), origin)


@contextmanager
def _open_gguf(path: Path) -> Iterator[Source]:
    content = gguf_file.read(path)
    loadable.check(content)
    config = gguf_source.read_config(content)
    layout = gguf_source.read_layout(content)
    keys = gguf_source.model_keys(content)
    said = describe(content)
    with path.open("rb", buffering=0) as file:
        yield Source(
            config,
            gguf_source.match_tensors(config, content, layout, file.fileno()),
            keys,
            None,
            Origin(path.name, files=(path,), synthetic=said.synthetic),
            said.file_type,
            said.tensor_hashes is not None,
            said.rounding,
        )


def _files(folder: Path, checkpoint: Checkpoint) -> tuple[Path, ...]:
    """The files of a checkpoint that a conversion reads."""
    return (*checkpoint.files, *(folder / name for name in TEXTS if (folder / name).is_file()))


def _through(tensors: Iterable[Tensor]) -> GGMLQuantizationType:
    """Upstream quantises a GGUF that its converter wrote before. By default (--outtype auto) that
    one is bf16 when the first matrix of the checkpoint is, else f16. From a bf16 or f16 checkpoint
    nothing is lost on that way; from an f32 one 13 bits of the mantissa are, far below what a
    quantised type resolves, and files with the same bits as everybody's are worth more than those.
    """
    first = next(tensor.type for tensor in tensors if len(tensor.shape) > 1)
    return Q.BF16 if first == Q.BF16 else Q.F16
