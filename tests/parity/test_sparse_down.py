"""The edge layout computes what the stock layout does: rows of zero neurons are not missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize

from plm_edge.converters.convert import convert
from plm_edge.model.description import LAYOUT_VERSION_KEY, PLANES_KEY
from testkit import planes
from tests.parity.engine import Engine, Logits, Model, Setting, rows
from tests.parity.subjects import TINY

COUNT = 256
PROMPT = 40


@pytest.fixture(scope="module", params=["f32", "q4_k", "q8_0"])
def edge(
    request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Model]:
    """tiny-plm with its quantised W_down in the edge layout, and with the same values dense.

    All else is f32 in both. Else the products that round their x to 8 bits, each a little
    differently for a last bit of its x, would differ by more than what is compared here: 1.7e-4 at
    q4_k, token by token, where both forms of W_down are exact.
    """
    folder: Path = tmp_path_factory.mktemp(request.param)
    convert(TINY, quant=request.param, layout="edge", out=folder / "source.gguf")
    for layout in ("edge", "dense"):
        rewrite(folder / "source.gguf", folder / layout, edge=layout == "edge")
    return engine.load(folder / "edge"), engine.load(folder / "dense")


def rewrite(source: Path, target: Path, *, edge: bool) -> None:
    """The file in f32, ffn_down as it is (edge) or with its values in the stock layout."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "plm")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.name == PLANES_KEY or (field.name == LAYOUT_VERSION_KEY and not edge):
            continue
        array = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(
            field.name, field.contents(), field.types[0], field.types[-1] if array else None
        )
    for tensor in reader.tensors:
        if edge and "ffn_down" in tensor.name:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        values = dequantize(planes.data_of(reader, tensor), tensor.tensor_type)
        if "ffn_down" in tensor.name:
            values = values.T
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def divergence(p: Logits, q: Logits) -> float:
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
