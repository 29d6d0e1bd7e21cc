"""The machine and the model as a result names them, so that it can be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from plm_edge.base import files
from plm_edge.bench.result.shape import Machine, Model
from plm_edge.machine import cores, cpu, memory
from plm_edge.model import gguf_file
from plm_edge.model.description import describe


def machine() -> Machine:
    """This machine, now. Frequencies in MHz, sizes in bytes; null where it does not say."""
    return Machine(
        device="local",
        cpu=cpu.name(),
        arch=platform.machine(),
        features=cpu.features(),
        cores_physical=cores.physical(),
        cores_logical=cores.logical(),
        ram_bytes=memory.total(),
        governor=cpu.governor(),
        max_mhz=cpu.max_mhz(),
        kernel=platform.release(),
        system=platform.platform(),
        virtual=cpu.is_virtual(),
        load_before=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    )


def model(path: Path) -> Model:
    """The model's identity and size; reads the whole file for its SHA-256."""
    header = gguf_file.read(path)
    said = describe(header)
    name = said.source or said.name or path.stem
    return Model(
        path=str(path),
        name=name,
        sha256=files.sha256(path),
        file_bytes=path.stat().st_size,
        architecture=said.architecture,
        quant=said.quant,
        layout=said.layout,
        params=header.n_params,
        tensor_bytes=header.tensor_bytes,
        bits_per_weight=8 * header.tensor_bytes / header.n_params if header.n_params else None,
        context_length=said.context_length,
        synthetic=said.synthetic or "synthetic" in f"{name} {path.name}".lower(),
    )
