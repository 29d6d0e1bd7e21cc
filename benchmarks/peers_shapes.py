"""Shapes of models that people run where they could run PLM: sizes, tensors and GGUF keys.

The sizes are those of each model's config.json on the Hugging Face hub. A test holds the sums
against the number of parameters that the hub states of each model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gguf import GGMLQuantizationType, LlamaFileType

from plm_edge.converters.keys import Keys, f32, string, u32
from plm_edge.converters.plan.metadata import file_keys
from plm_edge.converters.plan.recipes import fitting_type, outer_and_every_third
from plm_edge.converters.write.gguf_header import TensorInfo

Q = GGMLQuantizationType


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's: long wavelengths are stretched by `factor`, short ones are left."""

    factor: float
    low: float
    high: float
    positions: int  # that it was trained for at first

    def factors(self, theta: float, head: int) -> list[float]:
        """One for each pair of a head's values, as llama.cpp's converter writes them."""
        found = []
        for i in range(0, head, 2):
            wavelength = 2 * math.pi * theta ** (i / head)
            smooth = (self.positions / wavelength - self.low) / (self.high - self.low)
            smooth = min(1.0, max(0.0, smooth))
            found.append(1 / ((1 - smooth) / self.factor + smooth))
        return found


@dataclass(frozen=True)
class Shape:
    """A decoder with grouped queries, RMS norms, a gated MLP, and the embedding as its output."""

    name: str
    arch: str  # llama.cpp's
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int  # values of a head
    ffn: int
    vocab: int
    positions: int
    theta: float
    eps: float
    pre: str  # how text is split, by llama.cpp's name; empty: SentencePiece's pieces
    qkv_bias: bool = False
    post_norms: bool = False  # after attention and MLP too
    window: int = 0  # tokens that every other layer looks back; 0: all layers look at all
    softcaps: tuple[float, float] | None = None  # of attention's scores, and of the logits
    rope: RopeScaling | None = None

    def tensors(self) -> list[TensorInfo]:
        """In Q4_K_M, as llama-quantize mixes it for these architectures (`type_of`)."""
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        sizes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocab, self.hidden),
            "output_norm.weight": (self.hidden,),
        }
        if self.rope:
            sizes["rope_freqs.weight"] = (self.head // 2,)
        for layer in range(self.layers):
            inside: dict[str, tuple[int, ...]] = {
                "attn_norm.weight": (self.hidden,),
                "attn_q.weight": (wide, self.hidden),
                "attn_k.weight": (narrow, self.hidden),
                "attn_v.weight": (narrow, self.hidden),
                "attn_output.weight": (self.hidden, wide),
                "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.ffn, self.hidden),
                "ffn_up.weight": (self.ffn, self.hidden),
                "ffn_down.weight": (self.hidden, self.ffn),
            }
            if self.qkv_bias:
                inside |= {"attn_q.bias": (wide,), "attn_k.bias": (narrow,)}
                inside |= {"attn_v.bias": (narrow,)}
            if self.post_norms:
                inside |= dict.fromkeys(
                    ("post_attention_norm.weight", "post_ffw_norm.weight"), (self.hidden,)
                )
            sizes |= {f"blk.{layer}.{name}": size for name, size in inside.items()}
        return [
            TensorInfo(name, size, self.type_of(name, size[-1]) if len(size) > 1 else Q.F32)
            for name, size in sizes.items()
        ]

    def type_of(self, name: str, columns: int) -> GGMLQuantizationType:
        """A matrix's type in Q4_K_M: llama_tensor_get_type_impl of llama.cpp's src/llama-quant.cpp,
        which a test runs for each architecture."""
        if name == "token_embd.weight":  # the output's type, for it is that as well
            return fitting_type(Q.Q6_K, columns)
        _, layer, kind, _ = name.split(".")
        finer = kind in ("attn_v", "ffn_down") and outer_and_every_third(int(layer), self.layers)
        return fitting_type(Q.Q6_K if finer else Q.Q4_K, columns)

    @property
    def parameters(self) -> int:
        """As the hub counts them: without rope_freqs, which the checkpoint does not hold."""
        return sum(one.elements for one in self.tensors() if one.name != "rope_freqs.weight")

    def keys(self) -> Keys:
        """All but the vocabulary's, as llama.cpp's converter and llama-quantize write them."""
        numbers = {
            "context_length": self.positions,
            "embedding_length": self.hidden,
            "block_count": self.layers,
            "feed_forward_length": self.ffn,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head,
            "attention.value_length": self.head,
            "rope.dimension_count": self.head,
            "vocab_size": self.vocab,
        }
        values = {"rope.freq_base": self.theta, "attention.layer_norm_rms_epsilon": self.eps}
        if self.window:
            numbers["attention.sliding_window"] = self.window
        if self.softcaps:
            values["attn_logit_softcapping"], values["final_logit_softcapping"] = self.softcaps
        named = {name: u32(value) for name, value in numbers.items()}
        named |= {name: f32(value) for name, value in values.items()}
        return {
            "general.type": string("model"),
            "general.name": string(f"{self.name}, synthetic weights"),
            **{f"{self.arch}.{name}": value for name, value in named.items()},
            **file_keys(LlamaFileType.MOSTLY_Q4_K_M),
        }


SHAPES = (
    # Qwen/Qwen2.5-1.5B; its biases are in the model's code, not in config.json
    Shape(
        "Qwen2.5-1.5B", "qwen2", layers=28, hidden=1536, heads=12, kv_heads=2, head=128, ffn=8960,
        vocab=151_936, positions=131_072, theta=1_000_000.0, eps=1e-6, pre="qwen2", qkv_bias=True,
    ),
    # meta-llama/Llama-3.2-1B
    Shape(
        "Llama-3.2-1B", "llama", layers=16, hidden=2048, heads=32, kv_heads=8, head=64, ffn=8192,
        vocab=128_256, positions=131_072, theta=500_000.0, eps=1e-5, pre="llama-bpe",
        rope=RopeScaling(factor=32.0, low=1.0, high=4.0, positions=8192),
    ),
    # google/gemma-2-2b; query_pre_attn_scalar is 256, the head's size, as llama.cpp takes it to be
    Shape(
        "Gemma-2-2B", "gemma2", layers=26, hidden=2304, heads=8, kv_heads=4, head=256, ffn=9216,
        vocab=256_000, positions=8192, theta=10_000.0, eps=1e-6, pre="", post_norms=True,
        window=4096, softcaps=(50.0, 30.0),
    ),
    # HuggingFaceTB/SmolLM2-1.7B
    Shape(
        "SmolLM2-1.7B", "llama", layers=24, hidden=2048, heads=32, kv_heads=32, head=64, ffn=8192,
        vocab=49_152, positions=8192, theta=130_000.0, eps=1e-5, pre="smollm",
    ),
)  # fmt: skip
