"""Where the graph's parts run: a device that refuses what GPUs refuse (fake-gpu.cpp) computes all
of them, in one part beside the embedding's, and no weight crosses to it or from it.

An RPC server, which stands for a GPU elsewhere, says yes to every operation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine.log import engine_log
from tests.parity.engine import Engine, Row, Setting, rows
from tests.parity.fake_gpu import FakeGpu, Lacks, splits
from tests.parity.subjects import TINY, Subject, nmse

# with kernels of ours, and without; Metal uses the file where it lies
OF_CUDA = Lacks.K_QUANT_CASTS | Lacks.EXPANDED
DEVICES = {
    "all": Lacks.NOTHING,
    "cuda": OF_CUDA,
    "cuda-without-ours": OF_CUDA | Lacks.SPARSE_T,
    "opencl": OF_CUDA | Lacks.SPARSE_T | Lacks.ABSORBED,
    "metal": Lacks.SPARSE_T | Lacks.K_QUANT_CASTS | Lacks.FILE_IN_PLACE,
}
BOUND = 1e-3  # NMSE of logits: weights that are transposed take 8 bits, and so do activations
PROMPT = 200  # enough for the expanded form
TWO = (2, 2)  # the embedding's lookup, and the rest


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """tiny-plm by recipe and layout."""
    folder = tmp_path_factory.mktemp("fake-gpu")

    @functools.cache
    def get(quant: str, layout: str) -> Path:
        path = folder / f"{quant}-{layout}.gguf"
        convert(TINY, quant=quant, layout=layout, out=path)
        return path

    return get


@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("flash", ["auto", "off"])
@pytest.mark.parametrize("quant", ["q4_k_m", "q5_k_m", "q6_k", "q8_0", "q4_0", "f16", "f32"])
@pytest.mark.parametrize("name", DEVICES)
def test_all_runs_on_the_device(
    engine: Engine,
    written: Callable[[str, str], Path],
    tiny_text: list[int],
    within: Callable[[float, float], None],
    name: str,
    quant: str,
    flash: str,
    layout: str,
) -> None:
    """Splits, bytes that cross for a prompt and for a token, and the logits of both."""
    path, gpu = written(quant, layout), FakeGpu(DEVICES[name])
    setting = Setting(flash, 512, cache="q8_0" if quant == "q8_0" else "f16", context=512)
    batches = rows(tiny_text[:PROMPT]), [Row(tiny_text[PROMPT], PROMPT)]
    with engine.load(path).context(setting) as context:
        expected = [context.decode(batch) for batch in batches]
    model = engine.load(path, device=gpu.device, gpu_layers=99)
    engine_log.clear()
    with model.context(setting) as context:
        assert splits(engine_log.text) == TWO
        if flash == "auto" and Lacks.ABSORBED in DEVICES[name]:
            assert "not supported, set to disabled" in engine_log.text
        gpu.crossed()
        for batch, wanted in zip(batches, expected, strict=True):
            got = context.decode(batch)
            crossed = gpu.crossed()
            assert crossed.graphs == 1
            assert crossed.down == got.nbytes
            # rows of the embedding, positions, the mask: of a token alone, far less than a matrix
            assert crossed.up < 4 * len(batch) * (model.hidden + 4 * setting.context)
            within(nmse(got, wanted), BOUND)


def test_the_file_may_be_read_where_it_lies(
    engine: Engine, written: Callable[[str, str], Path]
) -> None:
    """Metal uses the file's bytes, beside those of transposed weights; planes are joined, into
    memory of their own."""
    gpu = FakeGpu(DEVICES["metal"])
    gpu.crossed()
    engine.load(written("q4_k_m", "stock"), device=gpu.device, gpu_layers=99)
    in_place = gpu.crossed().up
    engine.load(written("q4_k_m", "edge"), device=gpu.device, gpu_layers=99)
    assert gpu.crossed().up > in_place


@pytest.mark.parametrize("layout", ["stock", "edge"])
def test_few_tokens_upload_no_weight(
    engine: Engine, written: Callable[[str, str], Path], tiny_text: list[int], layout: str
) -> None:
    """With half of the layers on the device, the CPU computes the rest for 1 to 8 tokens; a long
    prompt's weights do go to the device, so that the count would show others."""
    path, gpu = written("q4_k_m", layout), FakeGpu(DEVICES["cuda"])
    model = engine.load(path, device=gpu.device, gpu_layers=3)
    with model.context(Setting("on", 512, context=512)) as context:
        for first, count in ((0, 1), (1, 8)):
            gpu.crossed()
            context.decode(rows(tiny_text[first : first + count], start=first))
            assert gpu.crossed().up < 4 * count * (2 * model.hidden + 4 * 512)
        context.decode(rows(tiny_text[9 : 9 + PROMPT], start=9))
        assert gpu.crossed().up > 500_000


def test_a_device_is_asked_when_the_model_is_loaded(
    engine: Engine, subject: Callable[[str], Subject], within: Callable[[float, float], None]
) -> None:
    """PLM-1.8B's own attention, in both forms, on a device with and without the expanded one."""
    case = subject("plm-attention")
    tokens = case.text[:PROMPT]
    for lacks in (Lacks.NOTHING, Lacks.EXPANDED, Lacks.SPARSE_T):
        model = engine.load(case.gguf, device=FakeGpu(lacks).device, gpu_layers=99)
        for ubatch in (8, 512):
            with model.context(Setting("on", ubatch, context=512)) as context:
                assert splits(engine_log.text) == TWO
                within(nmse(context.decode(rows(tokens)), case.expected(tokens)), 1e-5)
