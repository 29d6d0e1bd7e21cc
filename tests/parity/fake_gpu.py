"""A device that stands for a GPU (fake-gpu.cpp): it refuses what real ones do, and counts bytes."""

from __future__ import annotations

import ctypes
import enum
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.engine import library
from plm_edge.engine.log import read_log
from tests.kernels import compile

SOURCE = Path(__file__).with_name("fake-gpu.cpp")
LIBRARY = compile.OUT / "fake-gpu.so"


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
        made = code()
        self._crossed = made.fake_gpu_crossed
        self._crossed.argtypes = [ctypes.c_void_p] * 4
        made.fake_gpu.restype = ctypes.c_void_p
        self.device: Any = made.fake_gpu(int(lacks))

    def has_free(self, n_bytes: int) -> None:
        """Let it say that so much of its memory is free."""
        say = code().fake_gpu_available
        say.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        say(self.device, n_bytes)

    def model_bytes(self, context: Any) -> int:
        """Bytes of a llama_context's model there, as llama.cpp counts them to see what fits."""
        ask = code().fake_gpu_model_bytes
        ask.restype, ask.argtypes = ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_void_p]
        return int(ask(self.device, context))

    def crossed(self) -> Crossed:
        """What has happened since this was last called."""
        up, down, graphs = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_int()
        self._crossed(self.device, ctypes.byref(up), ctypes.byref(down), ctypes.byref(graphs))
        return Crossed(up.value, down.value, graphs.value)


def preloaded(lacks: Lacks = Lacks.NOTHING, free: int = 4 << 30) -> dict[str, str]:
    """Variables with which a program of our engine has the device: Fake0."""
    code()
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKE_GPU": str(int(lacks)),
        "FAKE_GPU_FREE": str(free),
    }


def engine_with_backend(folder: Path) -> Path:
    """Our engine's libraries in a folder that looks as if it had a GPU's backend: with `preloaded`
    it has."""
    folder.mkdir()
    for path in library.load().folder.glob("lib*"):
        (folder / path.name).symlink_to(path)
    (folder / "libggml-vulkan.so").touch()
    return folder


def splits(log: str) -> tuple[int, int]:
    """The graph's splits for a micro-batch and for one token, of the last context in a log."""
    found = read_log(log).splits()
    assert found is not None
    return found


@functools.cache
def code() -> ctypes.CDLL:
    """The device's code, compiled once a process, and loaded."""
    libraries = library.load().folder
    made = LIBRARY
    made.parent.mkdir(parents=True, exist_ok=True)
    include = [
        f"-I{compile.TREE / part}" for part in ("include", "src", "ggml/include", "ggml/src")
    ]
    link = [f"-L{libraries}", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}"]
    how = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    part = made.with_suffix(f".{os.getpid()}")  # test processes side by side
    compile.run([*compile.host().cxx, *how, *include, str(SOURCE), "-o", str(part), *link])
    part.rename(made)
    return ctypes.CDLL(str(made))
