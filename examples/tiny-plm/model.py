"""PLM's architecture in torch, with the tensor names and shapes of the published checkpoint.

Per layer: multi-head latent attention (full-rank query, one shared latent of `kv_lora_rank`
values plus one shared rotary key of `qk_rope_head_dim` values a token) and a feed-forward network
W_down · relu(W_up x)² without a gate. Pre-norm RMSNorm, tied embedding, no biases
(PLM, arXiv 2503.12167).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class PLMConfig:
    """The keys of config.json that the computation needs, under their published names."""

    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    kv_lora_rank: int = 256
    qk_nope_head_dim: int = 64
    qk_rope_head_dim: int = 32
    v_head_dim: int = 64
    intermediate_size: int = 1024
    vocab_size: int = 4096
    max_position_embeddings: int = 2048
    rope_theta: float = 100000.0
    rms_norm_eps: float = 1e-6

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def to_json(self, eos_token_id: int) -> dict[str, object]:
        """config.json as a dictionary, every key of the published one that has a meaning here."""
        return {
            "architectures": ["PLMForCausalLM"],
            "model_type": "plm",
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_attention_heads,
            "kv_lora_rank": self.kv_lora_rank,
            "q_lora_rank": None,
            "qk_nope_head_dim": self.qk_nope_head_dim,
            "qk_rope_head_dim": self.qk_rope_head_dim,
            "v_head_dim": self.v_head_dim,
            "intermediate_size": self.intermediate_size,
            "hidden_act": "relu2",
            "vocab_size": self.vocab_size,
            "rope_theta": int(self.rope_theta),
            "rope_scaling": None,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "bos_token_id": eos_token_id,
            "eos_token_id": eos_token_id,
            "torch_dtype": "bfloat16",
        }

    @classmethod
    def from_json(cls, path: Path) -> PLMConfig:
        """Raises KeyError for a missing key: no default stands in for what a file does not say."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


def rope_tables(config: PLMConfig, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, each [length, qk_rope_head_dim / 2], float32."""
    half = config.qk_rope_head_dim // 2
    inverse = config.rope_theta ** (-torch.arange(half, device=device).float() / half)
    angles = torch.arange(length, device=device).float()[:, None] * inverse
    return angles.cos(), angles.sin()


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs (x[2i], x[2i+1]); llama.cpp calls this type NORM.

    x: [..., T, D]; cos, sin: [T, D / 2]. Returns x's shape and dtype.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    """K_h = [W_kb,h c ; k_pe], V_h = W_vb,h c, with c = RMSNorm of the latent."""

    def __init__(self, config: PLMConfig) -> None:
        super().__init__()
        self.config, heads = config, config.num_attention_heads
        latent, rope = config.kv_lora_rank, config.qk_rope_head_dim
        self.q_proj = linear(config.hidden_size, heads * config.qk_head_dim)
        self.kv_a_proj_with_mqa = linear(config.hidden_size, latent + rope)
        self.kv_a_layernorm = RMSNorm(latent, config.rms_norm_eps)
        self.kv_b_proj = linear(latent, heads * (config.qk_nope_head_dim + config.v_head_dim))
        self.o_proj = linear(heads * config.v_head_dim, config.hidden_size)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: [B, T, hidden]; past: K [B, H, P, qk_head_dim] and V [B, H, P, v_head_dim].

        Returns [B, T, hidden] and the new (K, V). With a past, T must be 1.
        """
        cfg, (batch, length, _) = self.config, x.shape
        heads, nope, rope = cfg.num_attention_heads, cfg.qk_nope_head_dim, cfg.qk_rope_head_dim
        q = self.q_proj(x).view(batch, length, heads, -1).transpose(1, 2)
        q_nope, q_pe = q.split((nope, rope), dim=-1)
        latent, k_pe = self.kv_a_proj_with_mqa(x).split((cfg.kv_lora_rank, rope), dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent))
        kv = kv.view(batch, length, heads, -1).transpose(1, 2)
        k_nope, v = kv.split((nope, cfg.v_head_dim), dim=-1)
        k_pe = rotate_pairs(k_pe, cos, sin)[:, None].expand(-1, heads, -1, -1)
        q = torch.cat((q_nope, rotate_pairs(q_pe, cos, sin)), dim=-1)
        k = torch.cat((k_nope, k_pe), dim=-1)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        # torch's fused CPU kernel wants one head size: V is padded with zeros up to K's.
        wide = F.pad(v, (0, cfg.qk_head_dim - cfg.v_head_dim))
        out = F.scaled_dot_product_attention(
            q, k, wide, is_causal=past is None, scale=1 / math.sqrt(cfg.qk_head_dim)
        )[..., : cfg.v_head_dim]
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class MLP(nn.Module):
    def __init__(self, config: PLMConfig) -> None:
        super().__init__()
        self.up_proj = linear(config.hidden_size, config.intermediate_size)
        self.down_proj = linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the output [B, T, hidden] and relu(W_up x) [B, T, intermediate]."""
        active = F.relu(self.up_proj(x))
        return self.down_proj(active.square()), active


class Layer(nn.Module):
    def __init__(self, config: PLMConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)


class PLM(nn.Module):
    """Submodules carry the names of the published checkpoint, below the prefix `model.`."""

    def __init__(self, config: PLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def initialise(self, generator: torch.Generator) -> None:
        """Layers start as the identity (o_proj and down_proj zero): training starts calmly."""
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(p)
            elif name.startswith("embed_tokens"):
                nn.init.normal_(p, std=0.02, generator=generator)
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.5 * p.shape[1] ** -0.5, generator=generator)

    def forward(
        self, tokens: Tensor, past: list[tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
        """tokens: [B, T] int64.

        Returns the final hidden states [B, T, hidden] after the last norm, relu(W_up x) of every
        layer, and (K, V) of every layer. `logits` makes logits of the hidden states.
        """
        start = past[0][0].shape[2] if past else 0
        cos, sin = rope_tables(self.config, start + tokens.shape[1], tokens.device)
        cos, sin = cos[start:], sin[start:]
        x = self.embed_tokens(tokens)
        activations, present = [], []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            attended, kv = layer.self_attn(
                layer.input_layernorm(x), cos, sin, past[index] if past else None
            )
            x = x + attended
            fed, active = layer.mlp(layer.post_attention_layernorm(x))
            x = x + fed
            activations.append(active)
            present.append(kv)
        return self.norm(x), activations, present

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab]; the embedding is tied."""
        return F.linear(hidden, self.embed_tokens.weight)


def write_json(path: Path, data: object) -> None:
    """Write beside the target and rename, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def save_weights(model: PLM, path: Path) -> None:
    """bfloat16 safetensors under the published names; the tied lm_head is not repeated."""
    tensors = {
        "model." + name: p.detach().to("cpu", torch.bfloat16).contiguous()
        for name, p in model.named_parameters()
    }
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"format": "pt"})
    part.chmod(0o644)  # safetensors creates its file for the owner alone
    part.replace(path)


def load_checkpoint(folder: Path) -> PLM:
    """The model of a checkpoint folder: bf16 weights, computed in float32."""
    model = PLM(PLMConfig.from_json(folder / "config.json"))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({k.removeprefix("model."): v.float() for k, v in tensors.items()})
    return model.eval()
