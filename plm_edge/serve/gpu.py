"""This module finds the GPUs that llama-server computes with: the program itself lists them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from plm_edge.building import gpu_engine
from plm_edge.engine import accelerators, library
from plm_edge.serve import program

_LINE = re.compile(r"^  (?P<name>\w+): .*\(\d+ MiB, \d+ MiB free\)$", re.MULTILINE)
_WITHIN = 60  # seconds for the program to find them


@dataclass(frozen=True)
class Gpus:
    """What there is for --gpu.

    Attributes:
        server: the llama-server that has them; None: the one that is used anyway.
        names: as the backend counts them, "CUDA0"; empty: it computes on the CPU.
    """

    server: Path | None = None
    names: tuple[str, ...] = ()


def find(layers: int | None) -> Gpus:
    """Find the GPUs for a wish.

    Args:
        layers: on the GPU, as `accelerators.parse_layers` says. None takes the GPU of the server
            that is used anyway; a number also looks for a kept build that has one.

    Raises:
        PlmEdgeError: a GPU is wanted, and there is none (code ENVIRONMENT).
    """
    if layers == 0:
        return Gpus()
    server = program.present()
    if server is None or not accelerators.has_backend(server.parent):
        kept = gpu_engine.find() if layers else None
        server = kept / program.NAME if kept else None
    names = _list(server) if server else ()
    if layers and not names:
        raise accelerators.missing(server.parent if server else library.find())
    return Gpus(server if names else None, names)


def _list(server: Path) -> tuple[str, ...]:
    if program.why_not(server):
        return ()
    done = subprocess.run(
        [server, "--list-devices"], capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, timeout=_WITHIN,
    )  # fmt: skip
    return tuple(found["name"] for found in _LINE.finditer(done.stdout))
