from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.plan.config import parse_config, read_config
from testkit.checkpoints import PlmShape
from tests.converters.conftest import said

NEEDED = [
    *("architectures", "hidden_act", "hidden_size", "intermediate_size", "kv_lora_rank"),
    *("max_position_embeddings", "num_attention_heads", "num_hidden_layers"),
    *("num_key_value_heads", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim"),
    *("rms_norm_eps", "rope_theta", "tie_word_embeddings", "v_head_dim", "vocab_size"),
]


def raw(**changes: Any) -> dict[str, Any]:
    return PlmShape().config() | changes


def test_every_size_is_read_from_its_own_key() -> None:
    shape = PlmShape()
    config = parse_config(raw())
    assert (config.layers, config.hidden, config.heads) == (2, 64, 4)
    assert (config.nope, config.rope, config.v, config.key) == (32, 16, 24, 48)
    assert (config.kv_lora, config.ffn, config.vocab) == (96, 160, 320)
    assert (config.max_positions, config.eps) == (shape.max_positions, shape.eps)
    assert (config.rope_theta, config.tied) == (shape.rope_theta, True)


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named_and_never_guessed(key: str) -> None:
    config = raw()
    del config[key]
    with pytest.raises(PlmEdgeError) as error:
        parse_config(config)
    assert f"has no {key}" in said(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "silu"),
        ("q_lora_rank", 1536),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("rope_scaling", {"type": "yarn", "factor": 4.0}),
        ("num_key_value_heads", 2),
        ("n_routed_experts", 64),
        ("hidden_size", 0),
        ("hidden_size", -64),
        ("hidden_size", 64.0),
        ("hidden_size", True),
        ("hidden_size", "64"),
        ("hidden_size", 2**40),
        ("qk_rope_head_dim", 15),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", "1e-6"),
        ("rope_theta", float("inf")),
        ("tie_word_embeddings", "yes"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 10000.0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 5.0}),
        ("architectures", []),
    ],
)
def test_a_value_that_plm_cannot_have_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(PlmEdgeError) as error:
        parse_config(raw(**{key: value}))
    assert key.removeprefix("rope_parameters") in said(error)


def test_rope_parameters_as_transformers_5_writes_them() -> None:
    config = raw(rope_parameters={"rope_type": "default", "rope_theta": 12345.0})
    del config["rope_theta"]
    assert parse_config(config).rope_theta == 12345.0


def test_another_architecture_is_named() -> None:
    with pytest.raises(PlmEdgeError) as error:
        parse_config({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    assert "LlamaForCausalLM" in error.value.what
    assert "model_type llama" in said(error)


def test_another_model_type_is_refused() -> None:
    with pytest.raises(PlmEdgeError, match="deepseek_v2"):
        parse_config(raw(model_type="deepseek_v2"))


def test_quantised_checkpoint_is_refused() -> None:
    with pytest.raises(PlmEdgeError, match="quantised already"):
        parse_config(raw(quantization_config={"quant_method": "gptq"}))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not valid JSON"),
        (b'{"hidden_size": 64', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "does not hold a JSON object"),
        (b'{"hidden_size": 64, "hidden_size": 128}', "'hidden_size' occurs twice"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs pointer"),
    ],
)
def test_broken_config_json(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(PlmEdgeError) as error:
        read_config(tmp_path)
    assert expected in said(error)


def test_no_config_json(tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError) as error:
        read_config(tmp_path)
    assert "has no config.json" in said(error)


def test_a_folder_in_place_of_config_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(PlmEdgeError, match=r"cannot read config\.json"):
        read_config(tmp_path)


def test_reads_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(raw()))
    assert read_config(tmp_path) == parse_config(raw())
