"""This module finds the GPUs that llama-server computes with: the program itself lists them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from plm_edge.building import gpu_engine
from plm_edge.engine import accelerators, library
from plm_edge.model.offload import Gpu
from plm_edge.serve import program

_WITHIN = 60  # seconds for the program to find them


@dataclass(frozen=True)
class Gpus:
    """What there is for --gpu.

    Attributes:
        server: the llama-server that has them; None: the one that is used anyway.
        found: those that it listed; empty: it computes on the CPU.
    """

    server: Path | None = None
    found: tuple[Gpu, ...] = ()


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
    found = _list(server) if server else ()
    if layers and not found:
        raise accelerators.missing(server.parent if server else library.find())
    return Gpus(server if found else None, found)


def _list(server: Path) -> tuple[Gpu, ...]:
    if program.why_not(server):
        return ()
    done = subprocess.run(
        [server, "--list-devices"], capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, timeout=_WITHIN,
    )  # fmt: skip
    return accelerators.listed(done.stdout)
