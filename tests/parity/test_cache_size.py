"""The KV cache holds kv_lora + rope values a token and layer: the engine's own report says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine.log import engine_log
from testkit.checkpoints import PlmShape, write_checkpoint
from tests.parity.engine import Engine, Model, Setting
from tests.parity.subjects import SHAPES, Subject

MIB = 1 << 20
BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
# PLM-1.8B's attention, with little else: the cache asks for no more.
PLM_1_8B = PlmShape(
    layers=32, hidden=64, heads=16, nope=128, rope=64, v=128, kv_lora=512, ffn=64, vocab=320
)


def check(model: Model, shape: PlmShape, cache: str, context: int) -> int:
    """Returns the bytes that the engine reports, compared with what they must be."""
    engine_log.clear()
    with model.context(Setting(cache=cache, context=context)):
        report = engine_log.kv()
    assert report is not None
    size = shape.layers * context * (shape.kv_lora + shape.rope) * BYTES[cache]
    assert size % (MIB // 4) == 0, "the report has two decimals of a MiB: choose an exact size"
    assert (report.layers, report.cells, report.type) == (shape.layers, context, cache)
    assert report.v_bytes == 0
    assert report.n_bytes == report.k_bytes == size
    return report.n_bytes


@pytest.mark.parametrize("cache", BYTES)
def test_small(subject: Callable[[str], Subject], cache: str) -> None:
    check(subject("one-head").model, SHAPES["one-head"], cache, 16_384)


@pytest.fixture(scope="module")
def plm_1_8b(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("plm-1.8b-attention")
    source = write_checkpoint(folder / "checkpoint", PLM_1_8B)
    convert(source, quant="q4_0", out=folder / "model.gguf")
    return engine.load(folder / "model.gguf")


@pytest.mark.parametrize(("cache", "mib"), [("f16", 144), ("q8_0", 76.5), ("q4_0", 40.5)])
def test_plm_1_8b_at_4096_tokens(plm_1_8b: Model, cache: str, mib: float) -> None:
    """The latent against keys and values of each head, which would take 1280 MiB in f16."""
    shape = PLM_1_8B
    assert check(plm_1_8b, shape, cache, 4096) == mib * MIB
    expanded = shape.layers * 4096 * shape.heads * (shape.key + shape.v) * 2
    assert expanded == 1280 * MIB
