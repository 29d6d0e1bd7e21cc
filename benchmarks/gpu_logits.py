"""Logits of a model whose neurons are above what f16 holds.

    python -m benchmarks.gpu_logits MODEL [--gpu all|off]

prints a line of JSON: whether all logits are finite, the largest, the likeliest tokens; on the CPU
also the largest neuron, squared. `large` makes such a model of tiny-plm: the residual stream times
FACTOR, and with it the squared neurons. Norms undo it in each layer, so the tokens stay the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plm_edge.converters.convert import convert
from plm_edge.converters.sources.shard import Shard
from plm_edge.engine import accelerators
from plm_edge.engine.observe import Node, Observer
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

TINY = Path(__file__).resolve().parents[1] / "examples/tiny-plm/checkpoint"
FACTOR = 4096
F16_MOST = 65504
EXPONENT, MANTISSA = 0x7F80, 7  # of bf16: its bits, and how many are below
TEXT = "def fibonacci(n):\n    if n < 2:\n        return n\n    return "
# by what power of two each is multiplied: relu² of 2⁶ x is 2¹² relu² of x
SCALES = {"embed_tokens.weight": 12, "o_proj.weight": 12, "up_proj.weight": 6}


def large(folder: Path, quant: str = "q4_k_m", layout: str = "edge") -> Path:
    """Makes the model, once.

    Args:
        folder: where it is kept.
    """
    made = folder / f"large-{quant}-{layout}.gguf"
    if made.is_file():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        checkpoint = Path(temporary) / "large"
        shutil.copytree(TINY, checkpoint)
        _scale(checkpoint / "model.safetensors")
        convert(checkpoint, quant=quant, layout=layout, out=made)
    return made


def _scale(path: Path) -> None:
    """Multiplies the weights of a file in bf16, in place and exactly: an exponent is added to."""
    shard = Shard(path)
    for name, tensor in shard.tensors.items():
        power = next((by for end, by in SCALES.items() if name.endswith(end)), None)
        if power is not None:
            assert tensor.dtype == "BF16"
            bits = np.memmap(path, np.uint16, "r+", tensor.offset, tensor.size // 2)
            bits[(bits & EXPONENT) != 0] += power << MANTISSA
            bits.flush()
    shard.close()


class Neurons(Observer):
    """The largest squared neuron so far."""

    def __init__(self) -> None:
        self.largest = 0.0

    def wants(self, node: Node) -> bool:
        """The up projection's results."""
        return node.name.startswith("ffn_up-")

    def take(self, node: Node) -> None:
        """Keep the largest."""
        self.largest = max(self.largest, float(np.max(node.values())) ** 2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--gpu", choices=("all", "off"), default="all")
    given = parser.parse_args(arguments)
    neurons = Neurons()
    layers = accelerators.parse_layers(given.gpu)
    options = Options(
        n_ctx=256, kv="f16", gpu_layers=layers, max_outputs=256,
        observer=neurons if layers == 0 else None,
    )  # fmt: skip
    with Session.open(given.model, options) as session:
        tokens = session.tokenize(TEXT)
        batch = session.context.batch()
        for position, token in enumerate(tokens):
            batch.add(token, position)
        session.context.decode(batch)
        logits = session.context.logits()
        said = {
            "finite": bool(np.isfinite(logits).all()),
            "largest": float(np.max(logits)),
            "likeliest": [int(at) for at in logits.argmax(-1)],
            "largest_neuron": neurons.largest or None,
        }
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
