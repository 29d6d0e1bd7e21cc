"""A device that stands for a GPU (fake-gpu.cpp): it refuses what real ones do, and counts bytes."""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.engine import library
from tests.kernels import compile

SOURCE = Path(__file__).with_name("fake-gpu.cpp")
_SPLITS = re.compile(r"graph.*: nodes = .*, splits = (\d+)(?: / (\d+))?,")


class Lacks(enum.IntFlag):
    """What the device refuses. FILE_IN_PLACE: it uses a file's bytes where they lie."""

    NOTHING = 0
    SPARSE_T = 1
    K_QUANT_CASTS = 2
    EXPANDED = 4
    ABSORBED = 8
    FILE_IN_PLACE = 16


@dataclass(frozen=True)
class Crossed:
    """Bytes that went to a device and came from it, and the graphs that it computed."""

    up: int
    down: int
    graphs: int


class FakeGpu:
    """`device` is a ggml_backend_dev_t; there is one for each set of lacks in a process."""

    def __init__(self, lacks: Lacks) -> None:
        code = _code()
        self._crossed = code.fake_gpu_crossed
        self._crossed.argtypes = [ctypes.c_void_p] * 4
        code.fake_gpu.restype = ctypes.c_void_p
        self.device: Any = code.fake_gpu(int(lacks))

    def crossed(self) -> Crossed:
        """What has happened since this was last called."""
        up, down, graphs = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_int()
        self._crossed(self.device, ctypes.byref(up), ctypes.byref(down), ctypes.byref(graphs))
        return Crossed(up.value, down.value, graphs.value)


def splits(log: str) -> tuple[int, int]:
    """The graph's splits for a micro-batch and for one token, of the last context in a log."""
    prompt, token = _SPLITS.findall(log)[-1]
    return int(prompt), int(token or prompt)


@functools.cache
def _code() -> ctypes.CDLL:
    libraries = library.load().folder
    made = compile.OUT / "fake-gpu.so"
    made.parent.mkdir(parents=True, exist_ok=True)
    include = [f"-I{compile.TREE / part}" for part in ("ggml/include", "ggml/src")]
    link = [f"-L{libraries}", "-lggml", "-lggml-base"]
    how = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    part = made.with_suffix(f".{os.getpid()}")  # test processes side by side
    compile.run([*compile.host().cxx, *how, *include, str(SOURCE), "-o", str(part), *link])
    part.rename(made)
    return ctypes.CDLL(str(made))
