"""The edge layout computes what the stock layout does: rows of zero neurons are not missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize

from converters.convert import convert
from converters.layout import EDGE_VERSION_KEY
from tests.parity.engine import Engine, Model, Setting, rows
from tests.parity.subjects import TINY

COUNT = 256
PROMPT = 40


@pytest.fixture(scope="module", params=["f32", "q4_k", "q8_0"])
def edge(
    request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Model]:
    """tiny-plm in the edge layout, and the same values of all weights with a dense W_down."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    convert(TINY, quant=request.param, layout="edge", out=folder / "edge.gguf")
    write_dense(folder / "edge.gguf", folder / "dense.gguf")
    return engine.load(folder / "edge.gguf"), engine.load(folder / "dense.gguf")


def write_dense(source: Path, target: Path) -> None:
    """The file in the stock layout, with the values of ffn_down as f32."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "plm")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", EDGE_VERSION_KEY):
            continue
        array = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(
            field.name, field.contents(), field.types[0], field.types[-1] if array else None
        )
    turned = 0
    for tensor in reader.tensors:
        if "ffn_down" in tensor.name:
            values = dequantize(tensor.data, tensor.tensor_type).T
            writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
            turned += 1
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    assert turned
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Mean KL(p || q) over the rows of two arrays of logits."""
    p, q = (a.astype(np.float64) - a.max(axis=1, keepdims=True) for a in (p, q))
    p, q = (a - np.log(np.exp(a).sum(axis=1, keepdims=True)) for a in (p, q))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


@pytest.mark.parametrize("ubatch", [1, 8, 64, 512])
def test_divergence(edge: tuple[Model, Model], tiny_text: list[int], ubatch: int) -> None:
    logits = []
    for model in edge:
        with model.context(Setting("on", ubatch, context=768)) as context:
            logits.append(context.decode(rows(tiny_text[:COUNT])))
    assert divergence(logits[1], logits[0]) < 1e-4


@pytest.mark.parametrize("flash", ["on", "off"])
def test_greedy_text_at_f32(
    engine: Engine, tmp_path: Path, tiny_text: list[int], flash: str
) -> None:
    texts = []
    for layout in ("edge", "stock"):
        convert(TINY, quant="f32", layout=layout, out=tmp_path / layout)
        with engine.load(tmp_path / layout).context(Setting(flash, context=512)) as context:
            texts.append(context.generate(tiny_text[:PROMPT], COUNT))
    assert len(texts[0]) == COUNT
    assert texts[0] == texts[1]


def test_edge_weights_have_one_row_a_neuron(tmp_path: Path) -> None:
    convert(TINY, quant="q4_k", layout="edge", out=tmp_path / "edge.gguf")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "edge.gguf").tensors}
    up, down = tensors["blk.0.ffn_up.weight"], tensors["blk.0.ffn_down.weight"]
    assert list(down.shape) == list(up.shape)
    assert down.tensor_type != GGMLQuantizationType.F16, "rows that the type does not fit"
