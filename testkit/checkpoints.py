"""Random small PLM checkpoints in exactly the published Hugging Face format.

    shape = PlmShape(heads=3, nope=24, rope=16)
    folder = write_checkpoint(tmp_path / "model", shape, seed=1, dtype="bf16", shards=2)

The same arguments always give the same bytes. The weights are scaled so that the model is a real
test of whoever runs it: attention is peaked rather than uniform, every layer moves the residual
stream about as much as the one before, and the logits of neighbouring positions differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from safetensors.torch import save_file

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# The published vocabulary is padded past its last token; so is a small one.
PADDING_IDS = 5
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


@dataclass(frozen=True)
class PlmShape:
    """The sizes of a PLM. The defaults are small and have no two equal sizes, so that a swapped
    pair of dimensions cannot pass unseen."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    nope: int = 32
    rope: int = 16
    v: int = 24
    kv_lora: int = 96
    ffn: int = 160
    vocab: int = 320
    max_positions: int = 4096
    rope_theta: float = 100_000.0
    eps: float = 1e-6

    @property
    def key(self) -> int:
        """Values of a query or key head."""
        return self.nope + self.rope

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape (rows, columns) of each tensor of the checkpoint, in published order."""
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab, self.hidden)
        }
        for layer in range(self.layers):
            shapes |= {
                f"model.layers.{layer}.{name}.weight": shape
                for name, shape in (
                    ("input_layernorm", (self.hidden,)),
                    ("self_attn.q_proj", (self.heads * self.key, self.hidden)),
                    ("self_attn.kv_a_proj_with_mqa", (self.kv_lora + self.rope, self.hidden)),
                    ("self_attn.kv_a_layernorm", (self.kv_lora,)),
                    ("self_attn.kv_b_proj", (self.heads * (self.nope + self.v), self.kv_lora)),
                    ("self_attn.o_proj", (self.hidden, self.heads * self.v)),
                    ("post_attention_layernorm", (self.hidden,)),
                    ("mlp.up_proj", (self.ffn, self.hidden)),
                    ("mlp.down_proj", (self.hidden, self.ffn)),
                )
            }
        return shapes | {"model.norm.weight": (self.hidden,)}

    def config(self, dtype: str = "bf16", eos: int | None = None) -> dict[str, object]:
        """config.json as a dictionary, every key of the published one. eos: if the tokenizer is
        not the one of `tokenizer_json`."""
        eos = special_ids(self.vocab)["<|endoftext|>"] if eos is None else eos
        return {
            "architectures": ["PLMForCausalLM"],
            "model_type": "plm",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": eos,
            "eos_token_id": eos,
            "hidden_act": "relu2",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.ffn,
            "kv_lora_rank": self.kv_lora,
            "max_position_embeddings": self.max_positions,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.heads,
            "q_lora_rank": None,
            "qk_nope_head_dim": self.nope,
            "qk_rope_head_dim": self.rope,
            "rms_norm_eps": self.eps,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": True,
            "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype],
            "use_cache": True,
            "v_head_dim": self.v,
            "vocab_size": self.vocab,
        }


def special_ids(vocab: int) -> dict[str, int]:
    """Special token -> id: they lie after the ordinary tokens and before the padding."""
    first = vocab - PADDING_IDS - len(SPECIAL_TOKENS)
    return {token: first + i for i, token in enumerate(SPECIAL_TOKENS)}


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte value, by token id: printable bytes come first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def _merges(count: int) -> list[tuple[str, str]]:
    """`count` merges, pairs of letters first, then pairs of those; no result occurs twice."""

    def candidates() -> Iterator[tuple[str, str]]:
        letters = "etaoinsrhldcumfpgwybvkxjqz"
        yield from ((a, b) for a in "Ġ" + letters for b in letters)
        pairs = [a + b for a in letters for b in letters]
        yield from ((a, b) for a in pairs for b in pairs)

    found: list[tuple[str, str]] = []
    for pair in candidates():
        if len(found) == count:
            break
        found.append(pair)
    return found


def tokenizer_json(vocab: int) -> dict[str, object]:
    """A byte-level BPE with Qwen2's normaliser and pre-tokenizer, as in its tokenizer.json."""
    ordinary = vocab - PADDING_IDS - len(SPECIAL_TOKENS)
    if ordinary < 256:
        raise ValueError(f"vocab {vocab} is less than {256 + PADDING_IDS + len(SPECIAL_TOKENS)}")
    merges = _merges(ordinary - 256)
    tokens = _byte_characters() + [a + b for a, b in merges]
    return bpe_json(tokens, [f"{a} {b}" for a, b in merges], special_ids(vocab))


def bpe_json(tokens: list[str], merges: list[str], special: dict[str, int]) -> dict[str, object]:
    """tokenizer.json as Qwen2's. tokens: by id; merges: "a b" by rank; special: token -> id."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    byte_level |= {"use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for token, i in special.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split | {"invert": False}, byte_level],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def tokenizer_config(ids: dict[str, int], max_positions: int) -> dict[str, object]:
    """tokenizer_config.json for special tokens `ids` (token -> id), with ChatML as template."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(i): {"content": token, **flags, "special": True} for token, i in ids.items()
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": max_positions,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def random_weights(
    shape: PlmShape, seed: int = 0, scale: float = 1.0, zeros: float = 0.5
) -> dict[str, torch.Tensor]:
    """Name -> float32 tensor, rounded to nothing yet.

    scale: standard deviation of the attention scores, in units of 2 (attention then weighs a few
    tokens of a hundred); 0 makes attention uniform.
    zeros: share of zeros after ReLU, 0.5 to 0.95. Above 0.5 the embeddings share a direction m
    that no layer writes to, and the rows of W_up lean against it by as much as the growth of the
    rest of the residual stream asks for.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    lean = NormalDist().inv_cdf(zeros)
    m = np.where(rng.random(shape.hidden) < 0.5, -1.0, 1.0).astype(np.float32)
    shared = m * np.float32(0.5)
    weights: dict[str, torch.Tensor] = {}
    for name, size in shape.tensors().items():
        w = rng.standard_normal(size, dtype=np.float32)
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        if "norm" in name:
            w = 1.0 + 0.2 * w
        elif "embed_tokens" in name:
            # Small against what the layers add: with a tied head a model would else repeat its
            # input.
            w = 2.0 / math.sqrt(shape.hidden) * w + (shared if lean else 0.0)
        elif "q_proj" in name:
            w *= 2.0 * scale / math.sqrt(shape.hidden)
        elif "kv_a_proj" in name or "kv_b_proj" in name:
            w /= math.sqrt(size[1])
        elif "up_proj" in name:
            w /= math.sqrt(shape.hidden)
            # Beside m the stream holds a mean square of about 1.2 from each layer that went before
            # and 0.5 from this layer's attention.
            w -= lean * math.sqrt(0.5 + 1.2 * layer) * shared / (shared @ shared)
        else:  # o_proj, down_proj
            w /= math.sqrt(size[1])
        if lean and ("o_proj" in name or "down_proj" in name):  # what they write is kept off m
            w -= np.outer(m, m @ w) / shape.hidden
        if lean and ("q_proj" in name or "kv_a_proj" in name):  # attention does not look at m
            w -= np.outer(w @ m, m) / shape.hidden
        weights[name] = torch.from_numpy(w)
    return weights


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_checkpoint(
    folder: Path,
    shape: PlmShape | None = None,
    seed: int = 0,
    dtype: str = "bf16",
    shards: int = 1,
    *,
    scale: float = 1.0,
    zeros: float = 0.5,
    lm_head_copy: bool = False,
) -> Path:
    """Write a whole checkpoint into `folder` (made if missing) and return it.

    dtype: "bf16", "f16" or "f32". shards: 1 for model.safetensors, more for numbered shards with
    model.safetensors.index.json. scale, zeros: see `random_weights`. lm_head_copy: also write the
    tied lm_head.weight, as some published checkpoints do.
    """
    shape = shape or PlmShape()
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: w.to(DTYPES[dtype]) for name, w in random_weights(shape, seed, scale, zeros).items()
    }
    if lm_head_copy:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    _write_weights(folder, weights, shards)

    ids = special_ids(shape.vocab)
    write_json(folder / "config.json", shape.config(dtype))
    write_tokenizer(folder, tokenizer_json(shape.vocab), ids, shape.max_positions)
    return folder


def write_tokenizer(
    folder: Path, tokenizer: dict[str, object], ids: dict[str, int], max_positions: int
) -> None:
    """tokenizer.json, tokenizer_config.json and generation_config.json."""
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", tokenizer_config(ids, max_positions))
    end = ids["<|endoftext|>"]
    generation = {"bos_token_id": end, "eos_token_id": [ids["<|im_end|>"], end]}
    write_json(folder / "generation_config.json", generation | {"do_sample": False})


def _write_weights(folder: Path, weights: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(weights)
    weight_map: dict[str, str] = {}
    for i in range(shards):
        mine = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({n: weights[n] for n in mine}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(mine, file)
    total = sum(w.numel() * w.element_size() for w in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)
