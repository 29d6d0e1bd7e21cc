"""A PLM checkpoint in torch, in f32, as a reference: what no step of the conversion has touched.

The latent is expanded into keys and values of each head, nothing is cached, and all tokens of some
chunks go through one layer before the next one is read: the memory that it takes is that of a
layer, whatever the model's size.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.plan.config import PlmConfig
from plm_edge.converters.sources.source import Source, open_source
from plm_edge.converters.tensors import Tensor as Stored
from plm_edge.quality.predictions import BLOCK_BYTES, Rows
from plm_edge.quality.text import Chunks

if TYPE_CHECKING:
    from torch import Tensor

TOGETHER = 8  # chunks that pass a layer before the next one is read
Weights = dict[str, "Tensor"]


class TorchReference:
    """The checkpoint of a folder, computed in chunks.

    Args:
        path: a folder with config.json, weights and tokenizer.json.

    Raises:
        PlmEdgeError: torch is not installed (ENVIRONMENT), or it is no PLM's checkpoint.
    """

    def __init__(self, path: Path, chunks: Chunks) -> None:
        try:
            import torch  # noqa: F401 -- here, so that its lack is told before a model is loaded
        except ImportError as error:
            raise PlmEdgeError(
                f"the checkpoint {path} cannot be the reference",
                "a checkpoint is computed by torch, which is not installed",
                "pip install 'plm-edge[torch]', or take a GGUF: plm-edge convert --quant f32",
                ExitCode.ENVIRONMENT,
            ) from error
        self.path, self._chunks = path, chunks
        self._ready: deque[tuple[int, Tensor]] = deque()
        self._stack = ExitStack()
        self._opened: _Opened | None = None

    def chunk(self, number: int) -> Iterator[Rows]:
        """See `reference.Reference`; meant to be asked for in ascending order."""
        if not self._ready or self._ready[0][0] != number:
            end = min(number + TOGETHER, len(self._chunks))
            hidden = self._hidden(number, end)
            self._ready = deque(zip(range(number, end), hidden, strict=True))
        _, judged = self._ready.popleft()
        head = self._open().weights["token_embd"]
        block = max(1, BLOCK_BYTES // (4 * len(head)))
        for row in range(0, len(judged), block):
            made = judged[row : row + block] @ head.T
            yield np.ascontiguousarray(made.double().log_softmax(-1).float().numpy())

    def close(self) -> None:
        """See `reference.Reference`."""
        self._ready.clear()
        self._opened = None
        self._stack.close()

    def _open(self) -> _Opened:
        if self._opened is None:
            self._opened = _Opened(self._stack.enter_context(open_source(self.path)))
        return self._opened

    def _hidden(self, start: int, end: int) -> list[Tensor]:
        """The final, normalised stream [n_judged, hidden] of each of these chunks."""
        import torch

        model = self._open()
        config = model.config
        with torch.inference_mode():
            tokens = torch.from_numpy(self._chunks.given[start:end].astype(np.int64))
            x = model.weights["token_embd"][tokens]  # [chunk, token, hidden]
            for index in range(config.layers):
                x = layer(config, model.layer(index), x)
            x = rms_norm(x, model.weights["output_norm"], config.eps)
            first = self._chunks.first
            return list(x[:, first : first + self._chunks.n_judged])


class _Opened:
    """The tensors of a source, read when they are asked for, in f32."""

    def __init__(self, source: Source) -> None:
        self.config: PlmConfig = source.config
        self._tensors = {spec.name.removesuffix(".weight"): t for spec, t in source.pairs}
        self.weights = {name: _read(self._tensors[name]) for name in ("token_embd", "output_norm")}

    def layer(self, index: int) -> Weights:
        prefix = f"blk.{index}."
        return {
            name.removeprefix(prefix): _read(tensor)
            for name, tensor in self._tensors.items()
            if name.startswith(prefix)
        }


def _read(tensor: Stored) -> Tensor:
    import torch

    block, size = GGML_QUANT_SIZES[tensor.type]
    raw = np.empty(math.prod(tensor.shape) // block * size, np.uint8)
    tensor.read_bytes(0, raw)
    return torch.from_numpy(dequantize(raw, tensor.type).reshape(tensor.shape).copy())


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Returns x / sqrt(mean of squares + eps) · weight, along the last axis."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def rope(x: Tensor, theta: float) -> Tensor:
    """Rotates the pairs (x[2i], x[2i+1]) of [..., token, n_rope] by token · theta^(-2i/n_rope)."""
    import torch

    tokens, size = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turn = torch.polar(
        torch.ones(tokens, size // 2, dtype=torch.float64),
        torch.arange(tokens, dtype=torch.float64)[:, None] * frequency,
    )
    pairs = torch.view_as_complex(x.double().reshape(*x.shape[:-1], size // 2, 2))
    return torch.view_as_real(pairs * turn).flatten(-2).float()


def layer(c: PlmConfig, w: Weights, x: Tensor) -> Tensor:
    """One layer.

    Args:
        w: its tensors by their names in a GGUF, without "blk.N." and ".weight".
        x: [chunk, token, hidden], every chunk from position 0 on.

    Returns:
        The stream after it, of the same shape.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    chunks, tokens, _ = x.shape

    def heads(y: Tensor, size: int) -> Tensor:  # [chunk, head, token, size]
        return y.view(chunks, tokens, c.heads, size).transpose(1, 2)

    normed = rms_norm(x, w["attn_norm"], c.eps)
    q = heads(normed @ w["attn_q"].T, c.key)
    q_nope, q_rope = q.split((c.nope, c.rope), -1)
    latent, k_rope = (normed @ w["attn_kv_a_mqa"].T).split((c.kv_lora, c.rope), -1)
    latent = rms_norm(latent, w["attn_kv_a_norm"], c.eps)
    k_nope, v = heads(latent @ w["attn_kv_b"].T, c.nope + c.v).split((c.nope, c.v), -1)
    shared = rope(k_rope[:, None], c.rope_theta).expand(-1, c.heads, -1, -1)
    out = scaled_dot_product_attention(
        torch.cat((q_nope, rope(q_rope, c.rope_theta)), -1),
        torch.cat((k_nope, shared), -1),
        v,
        is_causal=True,
    )
    x = x + out.transpose(1, 2).reshape(chunks, tokens, -1) @ w["attn_output"].T
    normed = rms_norm(x, w["ffn_norm"], c.eps)
    active = (normed @ w["ffn_up"].T).clamp(min=0).square()
    return x + active @ w["ffn_down"].T
