"""pytorch_model*.bin are pickles; this module makes nothing but tensors of them.

A pickle is a program, and may do anything to whom it is opened by. torch's own restricted reader
(weights_only) builds tensors and plain containers and refuses all else; torch is an extra, as
nothing else here needs it.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.json_file import refuse_lfs_pointer
from plm_edge.converters.tensors import Bytes, columns

if TYPE_CHECKING:
    import torch

_TYPES = {
    "torch.float32": GGMLQuantizationType.F32,
    "torch.float16": GGMLQuantizationType.F16,
    "torch.bfloat16": GGMLQuantizationType.BF16,
}


@dataclass(frozen=True)
class PickledTensor:
    """A `tensors.Tensor` in a pickled file, which torch maps to memory."""

    path: Path
    name: str
    data: torch.Tensor

    @property
    def type(self) -> GGMLQuantizationType:
        """The type of its values.

        Raises:
            PlmEdgeError: a type that weights cannot have.
        """
        if str(self.data.dtype) not in _TYPES:
            raise PlmEdgeError(
                f"{self.name} has the type {self.data.dtype}",
                f"weights are read as {', '.join(_TYPES)} ({self.path})",
                "use the original checkpoint, in bf16, f16 or f32",
            )
        return _TYPES[str(self.data.dtype)]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        size = GGML_QUANT_SIZES[self.type][1]
        self.read_bytes(first * columns(self.shape) * size, into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        import torch

        size = GGML_QUANT_SIZES[self.type][1]
        flat = self.data.view(-1)[start // size : (start + into.size) // size]
        np.copyto(into, flat.view(torch.uint8).numpy())


def open_pickled(path: Path) -> dict[str, PickledTensor]:
    """Returns the tensors of a pickled file by name.

    Raises:
        PlmEdgeError: torch is not installed, or the file is damaged, or holds more than tensors.
    """
    try:
        import torch
    except ImportError:
        raise PlmEdgeError(
            f"{path.name} needs PyTorch to be read",
            "weights in *.bin are pickled, and torch is not installed",
            "pip install 'plm-edge[torch]', or use a checkpoint with *.safetensors",
            ExitCode.ENVIRONMENT,
        ) from None
    with path.open("rb") as file:
        head = file.read(64)
    refuse_lfs_pointer(path, head)
    try:
        # Mapped, so that what is read does not stay in memory; older files cannot be.
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=head[:2] == b"PK" or None
        )
    except pickle.UnpicklingError as error:
        raise PlmEdgeError(
            f"{path.name} holds more than weights",
            f"{path}: {_reason(error)}",
            "nothing of it was run; use a checkpoint with *.safetensors from a source you trust",
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError) as error:
        raise _damaged(path, _reason(error)) from error
    if isinstance(loaded, dict) and set(loaded) == {"state_dict"}:
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise _damaged(path, f"it holds a {type(loaded).__name__}, not tensors by name")
    tensors = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise _damaged(path, f"{name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise _damaged(path, f"{name} is sparse or quantised")
        tensors[name] = PickledTensor(path, name, tensor.detach().contiguous())
    return dict(sorted(tensors.items()))


def _reason(error: Exception) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _damaged(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path.name} is not a sound checkpoint file",
        f"{path}: {why}",
        "download this file again",
    )
