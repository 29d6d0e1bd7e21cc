"""LoRA (Hu et al., arXiv 2106.09685), trained for real in torch: what the plugin is compared with.

It needs the base's weights, its activations, and a way back through all of them: nothing that a
small device could do. It is here for `spa eval` alone. Products with frozen weights are computed
in bfloat16, and so are the base's own figures that it is compared with.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.model.ggml_types import NUMBERS
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.quality.torch_reference import rms_norm, rope
from plm_edge.spa.reading import UNREADABLE, Window

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Adam

Values = NDArray[np.float32]


class Llama:
    """A base of llama's architecture in torch, with adapters on the queries and the values.

    Args:
        header: of its GGUF.
        rank: of the adapters.
        seed: of their first values.

    Raises:
        PlmEdgeError: torch is not installed, or the base is of another architecture.
    """

    def __init__(self, header: GGUFFile, rank: int, seed: int) -> None:
        try:
            import torch
        except ImportError as error:
            raise PlmEdgeError(
                "LoRA cannot be trained",
                "torch is not installed",
                "pip install 'plm-edge[torch]', or leave --lora out",
                ExitCode.ENVIRONMENT,
            ) from error
        if header.architecture != "llama":
            raise PlmEdgeError(
                "LoRA cannot be trained on this base",
                f"the comparison knows llama's layers, and {header.path.name} is of "
                f"{header.architecture}",
                "leave --lora out",
            )
        self._heads = int(header.arch_key("attention.head_count"))
        self._pairs = int(header.arch_key("attention.head_count_kv"))
        self._layers = int(header.arch_key("block_count"))
        self._eps = float(header.arch_key("attention.layer_norm_rms_epsilon"))
        self._theta = float(header.arch_key("rope.freq_base", 10000.0))
        self._weights = _read_all(header)
        generator = torch.Generator().manual_seed(seed)
        self.adapters: dict[str, tuple[Tensor, Tensor]] = {}
        for layer in range(self._layers):
            for name in ("attn_q", "attn_v"):
                rows, columns = self._weights[f"blk.{layer}.{name}"].shape
                a = torch.randn(rank, columns, generator=generator) * columns**-0.5
                b = torch.zeros(rows, rank)
                self.adapters[f"blk.{layer}.{name}"] = a.requires_grad_(), b.requires_grad_()

    @property
    def size(self) -> int:
        """Values that are trained."""
        return sum(a.numel() + b.numel() for a, b in self.adapters.values())

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Returns [tokens, n_vocab], float32, of a text from its beginning on."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention, silu

        w, count = self._weights, len(tokens)
        x = w["token_embd"][torch.tensor(tokens)].float()

        def heads(y: Tensor, n: int) -> Tensor:  # [head, token, size]
            return y.view(count, n, -1).transpose(0, 1)

        for layer in range(self._layers):
            block = f"blk.{layer}."
            normed = rms_norm(x, w[block + "attn_norm"].float(), self._eps)
            q = heads(self._product(block + "attn_q", normed), self._heads)
            k = heads(self._product(block + "attn_k", normed), self._pairs)
            v = heads(self._product(block + "attn_v", normed), self._pairs)
            share = self._heads // self._pairs
            out = scaled_dot_product_attention(
                rope(q, self._theta), rope(k, self._theta).repeat_interleave(share, 0),
                v.repeat_interleave(share, 0), is_causal=True,
            )  # fmt: skip
            x = x + self._product(block + "attn_output", out.transpose(0, 1).reshape(count, -1))
            normed = rms_norm(x, w[block + "ffn_norm"].float(), self._eps)
            gate = silu(self._product(block + "ffn_gate", normed))
            inner = gate * self._product(block + "ffn_up", normed)
            x = x + self._product(block + "ffn_down", inner)
        x = rms_norm(x, w["output_norm"].float(), self._eps)
        return self._product("output" if "output" in w else "token_embd", x)

    def _product(self, name: str, x: Tensor) -> Tensor:
        made = (x.bfloat16() @ self._weights[name].T).float()
        if name in self.adapters:
            a, b = self.adapters[name]
            made = made + 2 * (x @ a.T) @ b.T
        return made


def _read_all(header: GGUFFile) -> dict[str, Tensor]:
    import torch

    made: dict[str, Tensor] = {}
    fd = os.open(header.path, os.O_RDONLY)
    try:
        for entry in header.tensors:
            rows = entry.n_values // entry.shape[0]
            raw = np.empty((rows, entry.n_bytes // rows), np.uint8)
            files.read_at(fd, raw, entry.offset)
            values = dequantize(raw, GGMLQuantizationType(NUMBERS[entry.type]))
            shaped = values.reshape(tuple(reversed(entry.shape)))
            made[entry.name.removesuffix(".weight")] = torch.from_numpy(shaped.copy()).bfloat16()
    finally:
        os.close(fd)
    return made


def rank_of(header: GGUFFile, size: int) -> int:
    """Returns the rank whose adapters have about `size` values, at least 1."""
    found = {entry.name: entry.shape for entry in header.tensors}
    one = sum(
        sum(found[f"blk.{layer}.{name}.weight"])
        for layer in range(int(header.arch_key("block_count")))
        for name in ("attn_q", "attn_v")
    )
    return max(1, round(size / one))


@dataclass(frozen=True)
class Settings:
    """How it is trained.

    Attributes:
        epochs: most passes over the text, a step of Adam a window; the pass that predicted
            held-back text best is kept.
        patience: passes without a better one, after which it ends.
        rate: of Adam.
        seed: of the first values and of the order.
    """

    epochs: int = 5
    patience: int = 2
    rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training did: its passes and steps, and the pass that was kept (0: the base)."""

    epochs: int
    steps: int
    best_epoch: int


def train(
    model: Llama,
    text: Sequence[Window],
    held: Sequence[Window],
    stream: NDArray[np.int32],
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool],
    kept: Path | None = None,
) -> Trained:
    """Train the adapters; those of the pass that predicted held-back text best are left in place.

    Args:
        kept: where the state after each pass is written, and read if it is there.

    Raises:
        PlmEdgeError: `kept` is damaged.
        KeyboardInterrupt: `stop` said so; `kept` has the last whole pass.
    """
    import torch

    parameters = [tensor for pair in model.adapters.values() for tensor in pair]
    adam = torch.optim.Adam(parameters, lr=settings.rate)
    best_values = [p.detach().clone() for p in parameters]
    epoch, best, best_epoch = -1, math.inf, 0
    if kept is not None and kept.is_file():
        epoch, best, best_epoch, best_values = _take_up(kept, parameters, adam)
    progress.begin((settings.epochs + 1) * (len(text) + len(held)))
    progress.advance((epoch + 1) * (len(text) + len(held)))
    while epoch < settings.epochs and epoch - best_epoch < settings.patience:
        epoch += 1
        order = np.random.default_rng((settings.seed, epoch)).permutation(len(text))
        for number in order if epoch else ():  # pass 0 judges the base
            if stop():
                raise KeyboardInterrupt
            adam.zero_grad()
            _loss(model, text[number], stream).mean().backward()
            adam.step()
            progress.advance(1)
        with torch.inference_mode():
            now = float(torch.cat([_loss(model, window, stream) for window in held]).mean())
        progress.advance(len(held))
        if now < best:
            best, best_epoch = now, epoch
            best_values = [p.detach().clone() for p in parameters]
        if kept is not None:
            with files.replacing(kept, files.PRIVATE, durable=False) as file:
                values = [p.detach() for p in parameters]
                torch.save(
                    {"adam": adam.state_dict(), "epoch": epoch, "best": best, "values": values,
                     "best_epoch": best_epoch, "best_values": best_values}, file,
                )  # fmt: skip
    with torch.no_grad():
        for parameter, value in zip(parameters, best_values, strict=True):
            parameter.copy_(value)
    return Trained(epoch, epoch * len(text), best_epoch)


def _take_up(
    kept: Path, parameters: list[Tensor], adam: Adam
) -> tuple[int, float, int, list[Tensor]]:
    """Put the parameters and Adam where a pass left them, and return its number, the best loss,
    the pass of that, and the values that it had.

    Raises:
        PlmEdgeError: the file is damaged, or something else.
    """
    import torch

    try:
        found = torch.load(kept, weights_only=True)
        counts = int(found["epoch"]), float(found["best"]), int(found["best_epoch"])
        best = [torch.empty_like(p).copy_(v) for p, v in _pairs(parameters, found["best_values"])]
        adam.load_state_dict(found["adam"])
        with torch.no_grad():
            for parameter, value in _pairs(parameters, found["values"]):
                parameter.copy_(value)
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, *UNREADABLE) as error:
        raise PlmEdgeError(
            f"the training of LoRA cannot go on from {kept}",
            f"the file is damaged: {str(error).splitlines()[0] if str(error) else repr(error)}",
            "delete it: the training begins anew",
        ) from error
    return *counts, best


def _pairs(parameters: list[Tensor], values: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for parameter, value in zip(parameters, values, strict=True):
        if value.shape != parameter.shape:  # copying would repeat it
            raise ValueError(f"it has {tuple(value.shape)} values for {tuple(parameter.shape)}")
        yield parameter, value


def _loss(model: Llama, window: Window, stream: NDArray[np.int32]) -> Tensor:
    import torch

    right = torch.from_numpy(stream[window.first : window.first + window.judged].astype(np.int64))
    logits = model.logits(window.given)[-window.judged :]
    return torch.nn.functional.cross_entropy(logits, right, reduction="none")


def judge(
    model: Llama,
    windows: Sequence[Window],
    stream: NDArray[np.int32],
    ids: NDArray[np.int32],
    progress: Progress,
) -> tuple[Values, Values]:
    """Returns natural logarithms of the probabilities of each judged token, [rows], and of the
    tokens that the base finds likeliest, [rows, TOP].

    Args:
        ids: [rows, TOP], of the same windows.
    """
    import torch

    own, top, at = [], [], 0
    progress.begin(len(windows))
    for window in windows:
        with torch.inference_mode():
            logs = model.logits(window.given)[-window.judged :].log_softmax(-1).numpy()
        rows = np.arange(window.judged)
        own.append(logs[rows, stream[window.first : window.first + window.judged]])
        top.append(np.take_along_axis(logs, ids[at : at + window.judged], -1))
        at += window.judged
        progress.advance(1)
    return np.concatenate(own), np.concatenate(top)
