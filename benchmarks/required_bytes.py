"""What decode must read for one token, from the file's own tensors: what speed is held against.

Every weight is read once a token, but of the down projection only the rows of neurons that squared
ReLU left above zero, of an up projection in planes the lower bits of some rows, and of the
embedding one row; tied to it, the head is the embedding read in full, or its coarse form and some
of its rows. The cache is the caller's to add. Activations stay in the CPU's caches and are not
counted. (The sum is `plm_edge.bench.analyse.cost`'s but for the embedding's row; the report has its
parts.)
"""

from __future__ import annotations

from pathlib import Path

from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.model.gguf_file import COARSE
from plm_edge.model.sizes import LOW_SHARE

# By what a tensor's name has in it; the first that fits.
PARTS = (
    ("norm", "norms"), ("rope_freqs", "norms"), ("attn", "attention"), ("ffn_gate", "ffn_up"),
    ("ffn_up", "ffn_up"), ("ffn_down", "ffn_down"), ("token_embd", "head"), ("output", "head"),
)  # fmt: skip


def weights(
    model: Path, zeros: float, low_read: float | None = None, head_read: float | None = None
) -> dict[str, float]:
    """Bytes a token by part of the model, PLM or one of benchmarks/peers_shapes.py: biases are
    attention's, a gate is ffn_up's, and norms are all other vectors.

    Args:
        zeros: the share of down-projection rows that are not read; 0 for a dense product.
        low_read: the share of up-projection rows in planes whose lower bits are read; None: all.
        head_read: the share of the output matrix's rows that are read where it has a coarse form;
            None: all, and not that form.
    """
    parts = dict.fromkeys(("attention", "ffn_up", "ffn_down", "head", "norms"), 0.0)
    header = gguf_file.read(model)
    in_planes = describe(header).planes
    tensors = {tensor.name: tensor for tensor in header.tensors}
    head = "output.weight" if "output.weight" in tensors else "token_embd."
    for name, tensor in tensors.items():
        if name.startswith(COARSE) and head_read is None:
            continue
        if name.startswith("token_embd.") and "output.weight" in tensors:
            parts["head"] += tensor.n_bytes / tensor.shape[-1]  # one row
        else:
            read = 1 - zeros if "ffn_down" in name else 1.0
            if name in in_planes and low_read is not None:
                read = 1 - LOW_SHARE * (1 - low_read)
            if name.startswith(head) and head_read is not None:
                read = head_read
            parts[_part(name)] += tensor.n_bytes * read
    return {part: round(size) for part, size in parts.items()}


def _part(name: str) -> str:
    for word, part in PARTS:
        if word in name:
            return part
    raise ValueError(f"the tensor {name} is of no known part")
