"""tiny-plm on Vulkan against the CPU: Mesa's lavapipe, a GPU in software, runs what a GPU would.

The backend is compiled whole, as in a build of the engine with Vulkan, and joins the engine that
all tests use. lavapipe compiles each shader by LLVM when it first runs, which takes seconds for
small ones, and minutes for those of batches, of quantised weights and of f16: left are weights in
f32, one token at a time, which is attention in its absorbed form. Batches are not tested.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.engine import library
from plm_edge.engine.log import engine_log
from testkit import engines, needs
from tests.parity.engine import Engine, Setting, rows
from tests.parity.subjects import TINY, Subject, nmse

DRIVER = Path("/usr/share/vulkan/icd.d/lvp_icd.json")
SETTINGS = {
    "VK_ICD_FILENAMES": str(DRIVER),
    "VK_DRIVER_FILES": str(DRIVER),
    "MESA_SHADER_CACHE_DISABLE": "true",
    "GALLIVM_PERF": "nopt",  # shaders that are compiled sooner, and run slower
    "GGML_VK_VISIBLE_DEVICES": "0",  # else a GPU in software is passed over
    "GGML_VK_DISABLE_F16": "1",
    "GGML_VK_DISABLE_INTEGER_DOT_PRODUCT": "1",
    "GGML_VK_DISABLE_FUSION": "1",
}
BOUND = 1e-6  # NMSE of logits; the cache is f16 in both, and 8e-10 was measured
PROMPT, MORE = 24, 16  # tokens

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("cross")]


@pytest.fixture(scope="module")
def device() -> Any:
    """The ggml_backend_dev_t of lavapipe."""
    needs.program("glslc")
    if not DRIVER.is_file():
        pytest.skip("needs lavapipe: apt install mesa-vulkan-drivers")
    try:
        backend = engines.vulkan()
    except PlmEdgeError as error:  # its headers
        pytest.skip(f"{error.what}: {error.fix}")
    base = library.load().ggml  # before it: it links with the one that is loaded
    os.environ.update(SETTINGS)  # to the end: some are read by the first product
    vulkan = ctypes.CDLL(str(backend))
    vulkan.ggml_backend_vk_reg.restype = ctypes.c_void_p
    base.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    base.ggml_backend_reg_dev_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    found = base.ggml_backend_reg_dev_get(vulkan.ggml_backend_vk_reg(), 0)
    assert found
    return found


def test_generation_equals_the_cpus(
    engine: Engine,
    device: Any,
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    tmp_path: Path,
) -> None:
    """Logits of each token of a prompt and of what the CPU says next, which Vulkan chooses too."""
    model = tmp_path / "stock.gguf"
    convert(TINY, quant="f32", layout="stock", out=model)
    text = subject("tiny-plm").text[:PROMPT]
    setting = Setting("off", 1, context=256)
    with engine.load(model).context(setting) as context:
        text += context.generate(text, MORE)
    with engine.load(model).context(setting) as context:
        expected = context.decode(rows(text))
    engine_log.clear()
    there = engine.load(model, device=device, gpu_layers=99)
    assert "Vulkan0 model buffer size" in engine_log.text
    with there.context(setting) as context:
        found = context.decode(rows(text))
    within(nmse(found, expected), BOUND)
    assert found[PROMPT - 1 : -1].argmax(-1).tolist() == text[PROMPT:]
