"""The tensor map: exhaustive both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.plan.config import parse_config, read_config
from plm_edge.converters.plan.plm import TensorSpec, match_tensors, tensor_specs
from plm_edge.converters.sources.checkpoint import Checkpoint
from plm_edge.converters.tensors import Tensor
from testkit.checkpoints import PlmShape, write_checkpoint, write_json
from tests.converters.conftest import Edit, edit_weights, said


def match(folder: Path) -> list[tuple[TensorSpec, Tensor]]:
    with Checkpoint(folder) as checkpoint:
        return match_tensors(read_config(folder), checkpoint.tensors)


def refused(folder: Path) -> str:
    with pytest.raises(PlmEdgeError) as error:
        match(folder)
    return said(error)


def test_290_tensors_for_32_layers_9_a_layer() -> None:
    specs = tensor_specs(parse_config(PlmShape(layers=32).config()))
    assert len({spec.name for spec in specs}) == len(specs) == 290
    assert len({spec.source for spec in specs}) == 290


def test_names_and_shapes_are_those_of_the_published_checkpoint() -> None:
    specs = tensor_specs(parse_config(PlmShape().config()))
    assert {spec.source: spec.shape for spec in specs} == PlmShape().tensors()


def test_pairs_every_tensor(checkpoint: Path) -> None:
    assert all(spec.source == tensor.name for spec, tensor in match(checkpoint))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda w: w.pop("model.norm.weight"), "has no model.norm.weight"),
        (
            lambda w: [w.pop(name) for name in list(w) if ".layers.1." in name],
            "has no model.layers.1.input_layernorm.weight and 8 more",
        ),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(4)}),
            "has model.layers.0.self_attn.q_proj.bias, which PLM does not have",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(65)}),
            "model.norm.weight has the shape [65]",
        ),
        (
            lambda w: w.update(
                {"model.layers.0.mlp.up_proj.weight": w["model.layers.0.mlp.up_proj.weight"].T}
            ),
            "model.layers.0.mlp.up_proj.weight has the shape [64, 160]",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(64, dtype=torch.int32)}),
            "model.norm.weight has the type I32",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(64, dtype=torch.float64)}),
            "model.norm.weight has the type F64",
        ),
        (
            lambda w: w.update({"lm_head.weight": torch.zeros(320, 64, dtype=torch.bfloat16)}),
            "lm_head.weight differs from model.embed_tokens.weight",
        ),
        (
            lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].float()}),
            "lm_head.weight differs",
        ),
    ],
)
def test_weights_that_are_not_a_plms(checkpoint: Path, edit: Edit, expected: str) -> None:
    edit_weights(checkpoint, edit)
    assert expected in refused(checkpoint)


def test_one_different_weight_in_the_output_matrix(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", lm_head_copy=True)
    assert len(match(folder)) == 20
    edit_weights(folder, lambda w: w["lm_head.weight"][-1, -1].add_(1))
    assert "lm_head.weight differs" in refused(folder)


def test_untied_without_an_output_matrix(checkpoint: Path) -> None:
    write_json(checkpoint / "config.json", PlmShape().config() | {"tie_word_embeddings": False})
    assert "has no lm_head.weight" in refused(checkpoint)


def test_old_rotary_buffers_are_no_weights(checkpoint: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(checkpoint, lambda w: w.update({name: torch.ones(8)}))
    assert len(match(checkpoint)) == 20
