"""tiny-plm on Vulkan against the CPU: Mesa's lavapipe, a GPU in software, runs what a GPU would.

The backend is compiled whole, as in a build of the engine with Vulkan, and joins the engine that
all tests use. lavapipe compiles each shader by LLVM when it first runs, which takes seconds for
small ones, and minutes for products of large batches and for flash attention. So prompts are
computed one token at a time, without it; where the graph of a large batch and of
flash attention would run is counted all the same.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from benchmarks import gpu_steps
from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.engine import accelerators, library
from plm_edge.engine.log import engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model.description import PLANES_KEY
from testkit import engines, needs
from testkit.checkout import Upstream
from tests.kernels import compile
from tests.parity.engine import Engine, Setting, rows
from tests.parity.fake_gpu import splits
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
# NMSE of logits by recipe. The cache is f16 in both: for f32, 8e-10 was measured. The CPU's
# products of K-quants round activations to 8 bits, the shaders do not.
BOUNDS = {"f32": 1e-6, "q4_k_m": 1e-3}
PROMPT, MORE = 24, 16  # tokens
TWO = (2, 2)  # parts of the graph: the embedding's lookup, and the rest
REGISTER = """
#include "ggml-backend.h"
extern "C" ggml_backend_reg_t ggml_backend_vk_reg(void);
extern "C" void ggml_backend_register(ggml_backend_reg_t);
__attribute__((constructor)) static void with_vulkan() {
    ggml_backend_register(ggml_backend_vk_reg());
}
"""

MODELS = [("f32", "stock"), ("q4_k_m", "stock"), ("q4_k_m", "edge")]

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


@pytest.mark.parametrize(("quant", "layout"), MODELS)
def test_generation_equals_the_cpus(
    engine: Engine,
    device: Any,
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    tmp_path: Path,
    quant: str,
    layout: str,
) -> None:
    """Logits of each token of a prompt and of what the CPU says next. With all layers on the device
    none of it runs elsewhere, nor would large batches and flash attention."""
    model = tmp_path / "model.gguf"
    convert(TINY, quant=quant, layout=layout, out=model)
    # planes are joined when the model is loaded
    assert (PLANES_KEY in GGUFReader(model).fields) == (layout == "edge" and quant == "q4_k_m")
    text = subject("tiny-plm").text[:PROMPT]
    setting = Setting("off", 1, context=256)
    with engine.load(model).context(setting) as context:
        text += context.generate(text, MORE)
    with engine.load(model).context(setting) as context:
        expected = context.decode(rows(text))
    engine_log.clear()
    there = engine.load(model, device=device, gpu_layers=99)
    assert "Vulkan0 model buffer size" in engine_log.text
    assert "transposed" not in engine_log.text  # every weight is read as the file has it
    for flash in ("auto", "off"):
        engine_log.clear()
        with there.context(Setting(flash, 512, context=512)):
            assert splits(engine_log.text) == TWO
    for cache in ("q8_0", "q4_0"):
        engine_log.clear()
        with there.context(Setting("auto", 512, cache=cache, context=512)):
            assert splits(engine_log.text) == TWO
    with there.context(setting) as context:
        found = context.decode(rows(text))
    within(nmse(found, expected), BOUNDS[quant])
    assert quant != "f32" or found[PROMPT - 1 : -1].argmax(-1).tolist() == text[PROMPT:]


@pytest.mark.parametrize("layers", [None, 4])
def test_layers_by_its_free_memory(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int | None
) -> None:
    """What a session reckons for the real backend, against what that then takes."""
    path = tmp_path / "model.gguf"
    convert(TINY, quant="q4_k_m", layout="edge", out=path)
    gpu = accelerators.gpu_of(library.load(), device)
    assert gpu is not None
    assert 0 < gpu.free <= gpu.total
    monkeypatch.setattr(accelerators, "gpus", lambda _: [gpu])
    monkeypatch.setattr(accelerators, "has_backend", lambda _: True)
    with Session.open(path, Options(n_ctx=2048, threads=1, gpu_layers=layers)) as session:
        chosen = session.placement.offload
        assert chosen is not None
        assert chosen.layers == (layers or 7)
        assert session.notes[0] == chosen.note
        within = 1 << 16  # alignment, and two decimals of a MiB in the log
        assert engine_log.weight_bytes()["Vulkan0"] == pytest.approx(chosen.weights, abs=within)
        assert engine_log.kv_by_buffer()["Vulkan0"] == pytest.approx(chosen.kv, abs=within)
        assert 0 < engine_log.compute_by_buffer()["Vulkan0"] <= chosen.compute
        assert layers or engine_log.splits() == TWO


@pytest.fixture(scope="module")
def shim(device: Any, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that registers lavapipe in whatever program it is loaded into."""
    assert device
    folder, backend = tmp_path_factory.mktemp("shim"), engines.vulkan()
    source, shim = folder / "register.cpp", folder / "register.so"
    source.write_text(REGISTER)
    link = [f"-L{backend.parent}", "-lggml-vulkan", f"-L{upstream.bin}", "-lggml", "-lggml-base"]
    compile.run(
        [
            *compile.host().cxx,
            *("-shared", "-fPIC", f"-I{compile.TREE}/ggml/include"),
            *(str(source), "-o", str(shim), *link, f"-Wl,-rpath,{backend.parent}:{upstream.bin}"),
        ]
    )
    return shim


def _backend_ops(upstream: Upstream, shim: Path, *which: str, f16: bool = False) -> int:
    """How many of ggml's own comparisons with the CPU are good; all that are made must be."""
    variables = {**os.environ, **SETTINGS, "LD_PRELOAD": str(shim)}
    if f16:
        del variables["GGML_VK_DISABLE_F16"]
    done = subprocess.run(
        [upstream.bin / "test-backend-ops", "test", "-b", "Vulkan0", *which],
        env=variables,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return gpu_steps.good_cases(done.stdout)


def test_backend_ops(upstream: Upstream, shim: Path) -> None:
    """Our operation: all types, no zeros to zeros alone."""
    assert _backend_ops(upstream, shim, "-o", "MUL_MAT_SPARSE_T") > 7 * 4 * 3


@pytest.mark.parametrize(
    ("f16", "types"), [(True, ["q8_0"]), (False, ["q8_0", "q4_0"])], ids=["16", "8"]
)
def test_attention_of_shared_rows(
    upstream: Upstream, shim: Path, f16: bool, types: list[str]
) -> None:
    """576/512 of sixteen heads over one K head with few cached tokens. In f32 lavapipe's shared
    memory holds eight heads, in f16 all sixteen, whose shader compiles for two minutes."""
    shape = r"hsk=576,hsv=512,nh=1,nr23=\[16,1\],kv=256,nb=[12],.*"
    cases = f"{shape}type_K=({'|'.join(types)}),.*n_kv_max=0"
    done = _backend_ops(upstream, shim, "-o", "FLASH_ATTN_EXT", "-p", cases, f16=f16)
    assert done >= 2 * len(types)
