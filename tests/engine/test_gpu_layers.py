"""A session's layers on a GPU: the device of tests/parity/fake-gpu.cpp says what it has free, and
the engine loads what was reckoned."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode
from plm_edge.engine import accelerators, library
from plm_edge.engine.greedy import greedy
from plm_edge.engine.log import ERROR, engine_log
from plm_edge.engine.model import load_error
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file, offload
from plm_edge.model.offload import Offload
from tests.parity.fake_gpu import FakeGpu, Lacks

PROMPT, TOKENS = "def add(a, b):\n", 8
CTX = 2048
ROUNDED = 1 << 14  # the log has MiB with two decimals


def tokens(session: Session) -> list[int]:
    return [step.token for step in greedy(session, session.tokenize(PROMPT), TOKENS)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FakeGpu:
    """The one GPU that this machine then has."""
    fake = FakeGpu(request.param)

    def gpus(engine: library.Engine) -> list[accelerators.Accelerator]:
        found = accelerators.gpu_of(engine, fake.device)
        assert found is not None
        return [found]

    monkeypatch.setattr(accelerators, "gpus", gpus)
    monkeypatch.setattr(accelerators, "has_backend", lambda _: True)
    fake.has_free(4 << 30)
    return fake


def reckoned(model: Path, gpu: FakeGpu, layers: int) -> Offload:
    (there,) = accelerators.gpus(library.load())
    return offload.reckon(gguf_file.read(model), [there], CTX, "f16", wanted=layers)


@pytest.mark.parametrize("gpu", [Lacks.NOTHING, Lacks.SPARSE_T], indirect=True)
@pytest.mark.parametrize("layers", [7, 4])
def test_what_fits_is_loaded_and_takes_no_more(tiny_gguf: Path, gpu: FakeGpu, layers: int) -> None:
    """With what is free for so many layers, auto takes these; the engine's buffers are as large as
    was reckoned, or smaller where that is an estimate; the text is the CPU's."""
    with Session.open(tiny_gguf, Options(n_ctx=CTX, threads=1, gpu_layers=0)) as session:
        expected = tokens(session)
    wanted = reckoned(tiny_gguf, gpu, layers)
    gpu.has_free(wanted.needed + wanted.gpus[0].margin)
    with Session.open(tiny_gguf, Options(n_ctx=CTX, threads=1)) as session:
        assert session.placement.gpu_layers == layers
        assert f"offloaded {layers}/7 layers" in engine_log.text
        assert session.notes[0] == session.placement.offload.note  # type: ignore[union-attr]
        assert tokens(session) == expected
        weights = engine_log.weight_bytes()["Fake"] + session.copies.get("Fake", 0)
        # the fake is not known to have the sparse product: copies are reckoned in any case
        assert weights <= wanted.weights + ROUNDED
        # llama.cpp's own reckoning of what fits knows of the copies
        counted = gpu.model_bytes(session.context.handle)
        assert counted == pytest.approx(weights, abs=ROUNDED)
        if session.copies:
            assert weights > 0.99 * wanted.weights
            assert "has no sparse product" in session.notes[-1]
        assert engine_log.kv_by_buffer()["Fake"] == pytest.approx(wanted.kv, abs=ROUNDED)
        assert 0 < engine_log.compute_by_buffer()["Fake"] <= wanted.compute


@pytest.mark.parametrize("gpu", [Lacks.NOTHING], indirect=True)
def test_where_nothing_fits_all_stays_here(tiny_gguf: Path, gpu: FakeGpu) -> None:
    gpu.has_free(100 << 20)
    gpu.crossed()
    with Session.open(tiny_gguf, Options(n_ctx=CTX, threads=1)) as session:
        assert session.placement.gpu_layers == 0
        assert "no layers on Fake0 (a device for tests): of 100 MiB free" in session.notes[0]
        tokens(session)
    assert gpu.crossed().graphs == 0


@pytest.mark.parametrize("gpu", [Lacks.NOTHING], indirect=True)
def test_a_number_is_taken_as_it_is(tiny_gguf: Path, gpu: FakeGpu) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=CTX, threads=1, gpu_layers=3)) as session:
        assert session.placement.gpu_layers == 3
        assert session.notes[0].startswith("2 of 6 layers and the output on Fake0")
        assert "offloaded 3/7 layers" in engine_log.text
        assert 0 < session.placement.share_here < 1


@pytest.mark.parametrize(("where", "fewer"), [("CUDA0", True), ("CPU", False)])
def test_too_little_memory_says_what_helps(tiny_gguf: Path, where: str, fewer: bool) -> None:
    engine_log.clear()
    engine_log._listen(ERROR, f"alloc: unable to allocate {where} buffer\n".encode(), None)
    error = load_error(gguf_file.read(tiny_gguf), "the engine cannot load")
    engine_log.clear()
    assert error.code is ExitCode.RESOURCES
    assert ("--gpu auto" in error.fix) == fewer
