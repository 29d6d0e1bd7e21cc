"""This module reads a PLM's config.json without a single default.

A wrong guess here is a model that speaks nonsense.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import read_json

ARCHITECTURE = "PLMForCausalLM"


@dataclass(frozen=True)
class PlmConfig:
    """Sizes of a PLM, in values. A query head has two parts, nope (without position) and rope
    (rotated); kv_lora is the latent."""

    layers: int
    hidden: int
    heads: int
    nope: int
    rope: int
    v: int
    kv_lora: int
    ffn: int
    vocab: int
    max_positions: int
    rope_theta: float
    eps: float
    tied: bool

    @property
    def key(self) -> int:
        """Values of a query or key head."""
        return self.nope + self.rope


def read_config(folder: Path) -> PlmConfig:
    """Read the config.json of a checkpoint's folder.

    Raises:
        PlmEdgeError: config.json is missing or broken, is not a PLM's, lacks a key, or has a value
            that PLM cannot have.
    """
    return parse_config(read_json(folder / "config.json"))


def parse_config(raw: Mapping[str, Any]) -> PlmConfig:
    """Read the sizes from config.json's content; it raises as `read_config` does.

    Args:
        raw: config.json as a dictionary.
    """
    _check_architecture(raw)
    _check_plain(raw)
    config = PlmConfig(
        layers=_size(raw, "num_hidden_layers"),
        hidden=_size(raw, "hidden_size"),
        heads=_size(raw, "num_attention_heads"),
        nope=_size(raw, "qk_nope_head_dim"),
        rope=_size(raw, "qk_rope_head_dim"),
        v=_size(raw, "v_head_dim"),
        kv_lora=_size(raw, "kv_lora_rank"),
        ffn=_size(raw, "intermediate_size"),
        vocab=_size(raw, "vocab_size"),
        max_positions=_size(raw, "max_position_embeddings"),
        rope_theta=_rope_theta(raw),
        eps=_positive(raw, "rms_norm_eps"),
        tied=_flag(raw, "tie_word_embeddings"),
    )
    kv_heads = _size(raw, "num_key_value_heads")
    if kv_heads != config.heads:
        raise _contradiction(
            f"num_key_value_heads is {kv_heads}, num_attention_heads is {config.heads}",
            "in PLM every head has its own key and value, expanded from the shared latent",
        )
    if config.rope % 2:
        raise _contradiction(
            f"qk_rope_head_dim is {config.rope}", "the rotary embedding turns pairs of values"
        )
    return config


def _check_architecture(raw: Mapping[str, Any]) -> None:
    names = _value(raw, "architectures")
    if not isinstance(names, list) or not names:
        raise _contradiction(f"architectures is {names!r}", "it should name one architecture")
    model_type = raw.get("model_type", "plm")
    if names != [ARCHITECTURE] or model_type != "plm":
        other = ", ".join(map(str, names))
        raise PlmEdgeError(
            f"this checkpoint is a {other} (model_type {model_type}), not a PLM",
            f"config.json should say {ARCHITECTURE} and plm: only PLM models are converted",
            "for other architectures use llama.cpp's own convert_hf_to_gguf.py",
        )


def _check_plain(raw: Mapping[str, Any]) -> None:
    """The variants that PLM's relatives have and PLM does not."""
    if (act := _value(raw, "hidden_act")) != "relu2":
        raise _contradiction(f"hidden_act is {act!r}", "PLM's feed-forward is relu2: max(0, x)²")
    if (rank := _value(raw, "q_lora_rank")) is not None:
        raise _contradiction(
            f"q_lora_rank is {rank!r}", "PLM's query is full-rank, q_lora_rank null"
        )
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise _contradiction(f"{key} is {raw[key]!r}", "PLM has no biases")
    if raw.get("rope_scaling") is not None:
        raise _contradiction(
            f"rope_scaling is {raw['rope_scaling']!r}", "PLM's rotary embedding is not scaled"
        )
    if raw.get("quantization_config") is not None:
        raise PlmEdgeError(
            "the checkpoint is quantised already",
            "config.json has a quantization_config",
            "convert the original checkpoint, in bf16, f16 or f32",
        )
    for key in ("n_routed_experts", "num_experts", "num_local_experts"):
        if raw.get(key):
            raise _contradiction(f"{key} is {raw[key]!r}", "PLM has no experts")


def _rope_theta(raw: Mapping[str, Any]) -> float:
    """rope_theta, which transformers 5 writes into rope_parameters."""
    parameters = raw.get("rope_parameters")
    if parameters is None:
        return _positive(raw, "rope_theta")
    if not isinstance(parameters, dict) or parameters.get("rope_type", "default") != "default":
        raise _contradiction(
            f"rope_parameters is {parameters!r}", "PLM's rotary embedding is not scaled"
        )
    theta = _positive(parameters, "rope_theta")
    if "rope_theta" in raw and raw["rope_theta"] != theta:
        raise _contradiction(
            f"rope_theta is {raw['rope_theta']!r}, and {theta!r} in rope_parameters",
            "there can be one only",
        )
    return theta


def _value(raw: Mapping[str, Any], key: str) -> Any:
    if key not in raw:
        raise PlmEdgeError(
            f"config.json has no {key}",
            "a missing key is never guessed: a wrong value makes a model that speaks nonsense",
            f"add {key} as the model's authors give it, or download config.json again",
        )
    return raw[key]


def _size(raw: Mapping[str, Any], key: str) -> int:
    value = _value(raw, key)
    # bool is an int to Python. The limit keeps every product of sizes within 64 bits.
    if type(value) is not int or not 0 < value < 2**24:
        raise _contradiction(f"{key} is {value!r}", "it should be a positive whole number")
    return value


def _positive(raw: Mapping[str, Any], key: str) -> float:
    value = _value(raw, key)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise _contradiction(f"{key} is {value!r}", "it should be a positive number")
    return float(value)


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = _value(raw, key)
    if not isinstance(value, bool):
        raise _contradiction(f"{key} is {value!r}", "it should be true or false")
    return value


def _contradiction(found: str, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"config.json: {found}",
        why,
        "check that config.json belongs to this checkpoint, or download it again",
    )
