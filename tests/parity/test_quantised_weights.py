"""Quantised weights: the engine against the reference with the values that the file stands for.

What is left is how the engine multiplies: it rounds each activation to 8 bits by blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file

from plm_edge.converters.convert import convert
from testkit import planes
from testkit.reference import Plm
from tests.parity.engine import Engine, Model, Setting, rows
from tests.parity.subjects import TINY, Subject, nmse

# GGUF's name -> the checkpoint's
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# A step of 8 bits is 1/127 of a block's largest value, some 2.5/127 of its rms: step² / 12 = 3e-5
# for each product, which averages over long sums and grows again over layers. 6e-5 was measured.
BOUND = 3e-4


def _name(gguf: str) -> str:
    parts = gguf.removesuffix(".weight").split(".")
    layer = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
    return f"{layer}{NAMES[parts[-1]]}.weight"


@pytest.fixture(
    scope="module",
    params=[(q, layout) for layout in ("stock", "edge") for q in ("q4_k", "q6_k", "q8_0", "q4_0")],
    ids="-".join,
)
def pair(
    request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Plm]:
    """tiny-plm, quantised: in the engine, and dequantised in the reference."""
    quant, layout = request.param
    folder: Path = tmp_path_factory.mktemp(quant)
    file = folder / "model.gguf"
    convert(TINY, quant=quant, layout=layout, out=file)
    weights = {}
    reader = GGUFReader(file)
    for tensor in reader.tensors:
        data = planes.data_of(reader, tensor)
        values = torch.from_numpy(dequantize(data, tensor.tensor_type).copy())
        if layout == "edge" and "ffn_down" in tensor.name:
            values = values.T.contiguous()  # the file has one row a neuron
        weights[_name(tensor.name)] = values
    shutil.copy(TINY / "config.json", folder)
    save_file(weights, folder / "model.safetensors")
    return engine.load(file), Plm(folder)


@pytest.mark.parametrize("ubatch", [1, 32, 512])
@pytest.mark.parametrize("flash", ["on", "off"])
def test_quantised(
    pair: tuple[Model, Plm],
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    flash: str,
    ubatch: int,
) -> None:
    """Absorbed, the latent part of the query is summed from rows of a quantised W_kb; expanded,
    the same rows multiply the cached latent. Both are the same model."""
    model, reference = pair
    tokens = subject("tiny-plm").text[:130]
    with model.context(Setting(flash, ubatch, context=256)) as context:
        got = context.decode(rows(tokens))
    within(nmse(got, reference.forward(tokens).logits.numpy()), BOUND)
