"""PLM in torch, written from the equations alone: what the engine is compared with.

It shares no code with the engine, the converter or the training script, and takes the plainest
way everywhere: the latent is expanded into keys and values of each head, nothing is cached.

Shapes: T tokens of this call, P tokens of the past, S = P + T, H heads, r = kv_lora_rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the equations need."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    intermediate_size: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float

    @classmethod
    def load(cls, folder: Path) -> Config:
        """Raises KeyError with the name of a missing key."""
        data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Latents:
    """What one layer remembers of S tokens. The key is kept before its rotation, so that the
    tokens can be put at other positions later (context shift)."""

    c: Tensor  # [S, r], after the norm
    k_pe: Tensor  # [S, rope], before RoPE

    def join(self, other: Latents) -> Latents:
        return Latents(torch.cat((self.c, other.c)), torch.cat((self.k_pe, other.k_pe)))

    def keep(self, index: Tensor) -> Latents:
        return Latents(self.c[index], self.k_pe[index])


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rope(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotate the pairs (x[2i], x[2i+1]) by position · theta^(-2i/D).

    x: [T, ..., D], positions: [T]. The angles are float64: their error is not the engine's.
    """
    size = x.shape[-1]
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = positions.double()[:, None] * frequency  # [T, D/2]
    angle = angle.view(len(positions), *[1] * (x.dim() - 2), size // 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attention(
    config: Config,
    w: Mapping[str, Tensor],
    x: Tensor,
    positions: Tensor,
    past: Latents | None,
    past_positions: Tensor,
) -> tuple[Tensor, Latents]:
    """x: [T, hidden] at `positions`; the past lies at `past_positions` [P]. A token sees the
    tokens whose position is not after its own. Returns [T, hidden] and the S latents."""
    heads, nope, rot = config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    theta, tokens = config.rope_theta, len(x)

    q = (x @ w["self_attn.q_proj"].T).view(tokens, heads, nope + rot)
    q = torch.cat((q[..., :nope], rope(q[..., nope:], positions, theta)), -1)

    compressed, k_pe = (x @ w["self_attn.kv_a_proj_with_mqa"].T).split(
        (config.kv_lora_rank, rot), -1
    )
    c = rms_norm(compressed, w["self_attn.kv_a_layernorm"], config.rms_norm_eps)
    latents = past.join(Latents(c, k_pe)) if past else Latents(c, k_pe)
    where = torch.cat((past_positions, positions))

    kv = (latents.c @ w["self_attn.kv_b_proj"].T).view(-1, heads, nope + config.v_head_dim)
    shared = rope(latents.k_pe, where, theta)[:, None, :].expand(-1, heads, -1)
    k, v = torch.cat((kv[..., :nope], shared), -1), kv[..., nope:]  # [S, H, ...]

    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(nope + rot)
    scores = scores.masked_fill(where[None, :] > positions[:, None], -math.inf)
    out = torch.einsum("hts,shd->thd", scores.softmax(-1), v)
    return out.reshape(tokens, -1) @ w["self_attn.o_proj"].T, latents


def layer(
    config: Config,
    w: Mapping[str, Tensor],
    x: Tensor,
    positions: Tensor,
    past: Latents | None,
    past_positions: Tensor,
) -> tuple[Tensor, Latents, float]:
    """One layer. w: the layer's tensors without the "model.layers.N." and ".weight" around them.
    Returns the stream [T, hidden], the S latents, and the share of zeros after ReLU."""
    normed = rms_norm(x, w["input_layernorm"], config.rms_norm_eps)
    attended, latents = attention(config, w, normed, positions, past, past_positions)
    x = x + attended
    normed = rms_norm(x, w["post_attention_layernorm"], config.rms_norm_eps)
    active = (normed @ w["mlp.up_proj"].T).clamp(min=0)
    x = x + active.square() @ w["mlp.down_proj"].T
    return x, latents, (active == 0).double().mean().item()


class Checkpoint:
    """Tensors of a checkpoint folder, read when asked for."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.config, self._dtype = Config.load(folder), dtype
        self._files = {
            name: file for file in sorted(folder.glob("*.safetensors")) for name in _names(file)
        }

    def __getitem__(self, name: str) -> Tensor:
        return self._open(name).to(self._dtype)

    def rows(self, name: str, index: Sequence[int]) -> Tensor:
        """Some rows of a tensor that may be too large to hold as a whole."""
        return self._open(name)[torch.tensor(index)].to(self._dtype)

    def _open(self, name: str) -> Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def layer(self, index: int) -> dict[str, Tensor]:
        """The tensors of one layer, under the names that `layer` takes."""
        prefix, suffix = f"model.layers.{index}.", ".weight"
        return {
            name[len(prefix) : -len(suffix)]: self[name]
            for name in self._files
            if name.startswith(prefix)
        }


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


@dataclass(frozen=True)
class Memory:
    """What a forward pass leaves behind: each layer's latents, and where the S tokens stand."""

    layers: list[Latents]
    positions: Tensor  # [S]

    def shifted(self, first: int, last: int) -> Memory:
        """Tokens at positions [first, last) are forgotten and later ones moved down by as many:
        their latents stay what they were, their keys turn to the new position."""
        kept = ((self.positions < first) | (self.positions >= last)).nonzero()[:, 0]
        moved = self.positions[kept]
        moved = torch.where(moved >= last, moved - (last - first), moved)
        return Memory([latents.keep(kept) for latents in self.layers], moved)


class Output(NamedTuple):
    hidden: Tensor  # [T, hidden], after the last norm
    logits: Tensor  # [T, vocab]
    memory: Memory  # including these tokens
    inputs: list[Tensor]  # of each layer what enters it, [T, hidden]


class Plm:
    """A whole model in memory. dtype: float32, or float64 to see what float32 itself costs."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        stored = Checkpoint(folder, dtype)
        self.config = stored.config
        self.embedding = stored["model.embed_tokens.weight"]
        self.norm = stored["model.norm.weight"]
        self.layers = [stored.layer(i) for i in range(self.config.num_hidden_layers)]

    @torch.inference_mode()
    def forward(self, tokens: Sequence[int], past: Memory | None = None) -> Output:
        """All positions of `tokens`, which stand behind the past's last position."""
        before = past.positions if past else torch.empty(0, dtype=torch.long)
        start = int(before[-1]) + 1 if past else 0
        positions = torch.arange(start, start + len(tokens))
        x, latents, inputs = self.embedding[torch.tensor(tokens)], [], []
        for i, weights in enumerate(self.layers):
            inputs.append(x)
            own = past.layers[i] if past else None
            x, seen, _ = layer(self.config, weights, x, positions, own, before)
            latents.append(seen)
        hidden = rms_norm(x, self.norm, self.config.rms_norm_eps)
        memory = Memory(latents, torch.cat((before, positions)))
        return Output(hidden, hidden @ self.embedding.T, memory, inputs)

    def generate(self, tokens: Sequence[int], count: int, clear: float = 0.0) -> list[int]:
        """The `count` greedy tokens that follow; fewer, if at one of them the best logit leads the
        second best by less than `clear`."""
        out = self.forward(tokens)
        made: list[int] = []
        while len(made) < count:
            best = out.logits[-1].topk(2)
            if best.values[0] - best.values[1] < clear:
                break
            made.append(int(best.indices[0]))
            out = self.forward(made[-1:], out.memory)
        return made
