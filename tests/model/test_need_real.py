"""What a model is said to need, against the most memory that the engine really took.

A process of its own loads the model with the prompt that its context just holds, so that cache and
compute buffers are touched to the end, and tells its peak of resident memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plm_edge.converters.convert import convert
from plm_edge.model import gguf_file
from plm_edge.model import need as needs
from testkit import plm_gguf
from testkit.checkout import ROOT
from testkit.checkpoints import PlmShape, write_checkpoint

MIB = 1 << 20
# The estimate is not below the peak, and above it by at most this share and this many bytes: the
# scores of attention are counted whole, which flash attention never holds.
SHARE, SLACK = 1.6, 64 * MIB

_PROGRAM = """
import json, sys
from pathlib import Path
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.machine.memory import peak_rss
path, n_ctx, kv = sys.argv[1:]
with Session.open(Path(path), Options(n_ctx=int(n_ctx), kv=kv, threads=2)) as session:
    tokens = (session.tokenize("1 2 3 4 5 6 7 8 9 ") * int(n_ctx))[: int(n_ctx) - 1]
    while tokens:
        session.context.append(tokens[: session.context.n_batch])
        tokens = tokens[session.context.n_batch :]
    print(json.dumps({"peak": peak_rss(), "need": session.fit.need.total}))
"""


def measured(path: Path, n_ctx: int, kv: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), str(n_ctx), kv],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plm(folder: Path, quant: str, **sizes: int) -> Path:
    out = folder / f"{quant}.gguf"
    convert(write_checkpoint(folder / "checkpoint", PlmShape(**sizes)), quant=quant, out=out)
    return out


WIDE = {"layers": 4, "hidden": 768, "heads": 12, "kv_lora": 256, "rope": 32, "ffn": 3072}
SHAPES: dict[str, Callable[[Path], Path]] = {
    "wide": lambda folder: plm(folder, "q4_k", **WIDE, vocab=12_000),
    "vocabulary": lambda folder: plm(folder, "q8_0", layers=2, hidden=512, vocab=60_000, ffn=1024),
    "f32": lambda folder: plm(folder, "f32", layers=12, hidden=256, ffn=1024),
    "llama": lambda folder: plm_gguf.write(folder / "m.gguf", arch="llama", n_ctx=8192),
}


def check(path: Path, n_ctx: int, kv: str) -> None:
    found = measured(path, n_ctx, kv)
    print(f"{path.name} {n_ctx} {kv}: {found['peak'] / MIB:.0f} MiB of {found['need'] / MIB:.0f}")
    assert found["peak"] <= found["need"] <= SHARE * found["peak"] + SLACK
    assert found["need"] == needs.of(gguf_file.read(path), n_ctx, kv).total


@pytest.mark.slow
@pytest.mark.parametrize(("n_ctx", "kv"), [(2048, "f16"), (4096, "q8_0")])
def test_tiny_plm(tiny_gguf: Path, n_ctx: int, kv: str) -> None:
    check(tiny_gguf, n_ctx, kv)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "n_ctx"), [*((name, 4096) for name in SHAPES), ("wide", 512)])
def test_other_shapes(tmp_path: Path, shape: str, n_ctx: int) -> None:
    check(SHAPES[shape](tmp_path), n_ctx, "f16")
