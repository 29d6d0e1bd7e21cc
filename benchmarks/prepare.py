"""The models of benchmarks/kernels.py and benchmarks/peers.py, made once: GGUFs of a synthetic
checkpoint of PLM, and GGUFs in other models' shapes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers_shapes import SHAPES, Shape
from plm_edge.base.errors import ExitCode, PlmEdgeError
from testkit.checkout import ROOT

QUANT = "q4_k_m"
LAYOUTS = ("edge", "stock")
CHECKPOINT_BYTES = 3_700_000_000
MODEL_BYTES = 1_200_000_000
SEED = 0
# What decides the bytes of a file: whole rooms, so that a new module cannot be forgotten.
WRITING = ("converters", "plm_edge/model")
CONVERSION = (*WRITING, "plm_edge/quality")  # that reads a text
SYNTHETIC = ("benchmarks/synthetic.py", "testkit/checkpoints.py")
SHAPED = ("benchmarks/peers_shapes.py", "benchmarks/peers_models.py")


def prepare(
    folder: Path,
    checkpoint: Path | None,
    keep_checkpoint: bool,
    layouts: Sequence[str] = LAYOUTS,
) -> tuple[dict[str, Path], dict[str, float]]:
    """Makes what is missing in `folder`, and again what older code of ours made.

    Args:
        checkpoint: an existing synthetic checkpoint; None writes one into `folder`.
        keep_checkpoint: leave the one that was written; else it is deleted once converted.
        layouts: those of LAYOUTS that are wanted.

    Returns:
        The model's file by layout, and the seconds that each step took (no entry: not needed).

    Raises:
        PlmEdgeError: too little disk (code RESOURCES), or a step failed (code INTERNAL).
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_from = _inputs(checkpoint)
    models = {layout: folder / f"plm-1.8b-synthetic-{layout}-{QUANT}.gguf" for layout in layouts}
    stamps = {layout: path.with_suffix(".json") for layout, path in models.items()}
    missing = [
        layout
        for layout in layouts
        if not models[layout].is_file() or _read(stamps[layout]) != made_from
    ]
    seconds: dict[str, float] = {}
    if not missing:
        return models, seconds
    source = checkpoint or folder / "checkpoint"
    written = _read(source / "whole.json") == made_from if checkpoint is None else True
    _check_disk(folder, (0 if written else CHECKPOINT_BYTES) + len(missing) * MODEL_BYTES)
    if not written:
        shutil.rmtree(source, ignore_errors=True)
        command = ["-m", "benchmarks.synthetic", str(source), "--seed", str(SEED)]
        seconds["write the checkpoint"] = _run("write the synthetic checkpoint", command)
        (source / "whole.json").write_text(json.dumps(made_from))
    for layout in missing:
        stamps[layout].unlink(missing_ok=True)
        options = ["--quant", QUANT, "--layout", layout, "--out", str(models[layout]), "--quiet"]
        options += ["--calibrate", "default"] if layout == "edge" else []
        command = ["-m", "plm_edge", "convert", str(source), *options]
        seconds[f"convert ({layout})"] = _run(f"convert to the {layout} layout", command)
        stamps[layout].write_text(json.dumps(made_from))
    if checkpoint is None and not keep_checkpoint:
        shutil.rmtree(source)
    return models, seconds


def peers(folder: Path, names: Sequence[str]) -> tuple[dict[str, Path], dict[str, float]]:
    """As `prepare`, for shapes of benchmarks/peers_shapes.py: the file by the model's name."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = [shape for shape in SHAPES if shape.name in names]
    made = {shape.name: folder / peer_file(shape) for shape in shapes}
    made_from = {"code": code_hash(*WRITING, *SYNTHETIC, *SHAPED)}
    missing = [
        shape
        for shape in shapes
        if not made[shape.name].is_file()
        or _read(made[shape.name].with_suffix(".json")) != made_from
    ]
    seconds: dict[str, float] = {}
    _check_disk(folder, sum(sum(one.size for one in shape.tensors()) for shape in missing))
    for shape in missing:
        stamp = made[shape.name].with_suffix(".json")
        stamp.unlink(missing_ok=True)
        command = ["-m", "benchmarks.peers_models", str(made[shape.name]), shape.name]
        step = f"write {shape.name}, synthetic"
        seconds[step] = _run(step, command)
        stamp.write_text(json.dumps(made_from))
    return made, seconds


def peer_file(shape: Shape) -> str:
    """The name of a shape's file."""
    return f"{shape.name.lower()}-synthetic-{QUANT}.gguf"


def _inputs(checkpoint: Path | None) -> dict[str, Any]:
    """What decides the files' content: the code that makes them, and the checkpoint."""
    source = str(checkpoint.resolve()) if checkpoint else f"synthetic, seed {SEED}"
    code = code_hash(*CONVERSION, *SYNTHETIC)
    return {"code": code, "quant": QUANT, "checkpoint": source}


def code_hash(*places: str) -> str:
    """A hash of files, and of all files in folders."""
    digest = hashlib.sha256()
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PlmEdgeError(
            "there is too little disk for the benchmark's files",
            f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed",
            "free some, or name another folder with --folder",
            ExitCode.RESOURCES,
        )


def _run(what: str, arguments: list[str]) -> float:
    """Runs this Python; its output is shown only when it fails. Returns seconds."""
    print(f"-- {what}", file=sys.stderr, flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as data:  # the registry of `run` is left alone
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PLM_EDGE_DATA_DIR": data},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["it gave no reason"]
        sys.stderr.write(done.stdout[-3000:])
        raise PlmEdgeError(
            f"the benchmark could not {what}", lines[-1], "see the lines above", ExitCode.INTERNAL
        )
    return round(time.monotonic() - start, 1)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
