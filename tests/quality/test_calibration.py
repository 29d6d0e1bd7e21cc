"""A calibrated model: its file, what it costs, and how an interrupted calibration goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.cli import inspection
from plm_edge.converters.convert import convert
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file
from plm_edge.engine import library
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.quality import switches, text
from plm_edge.quality.calibration import calibrate
from plm_edge.store.inspection import inspect
from tests.quality.conftest import ONE_THREAD

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, words: str) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(folder / "cache"))
        calibrate(tiny_gguf, words, folder / "calibrated.gguf", ONE_THREAD)
    return folder / "calibrated.gguf"


def test_its_own_tensors_stay_and_all_have_hashes(calibrated: Path, tiny_gguf: Path) -> None:
    before, after = gguf.GGUFReader(tiny_gguf), gguf.GGUFReader(calibrated)
    for one, other in zip(before.tensors, after.tensors, strict=False):
        assert one.name == other.name
        np.testing.assert_array_equal(one.data, other.data)
    assert len(after.tensors) == len(before.tensors) + 5
    verify_file(calibrated, Quantizer(library.load().ggml))
    header, plain = gguf_file.read(calibrated), gguf_file.read(tiny_gguf)
    assert describe(header).two_stages
    assert not describe(plain).two_stages
    assert header.n_params == plain.n_params  # another form of weights is no weights


def test_inspect_shows_what_it_has(
    calibrated: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = gguf_file.read(calibrated)
    coarse = sum(t.n_bytes for t in header.tensors if t.name.startswith("output.coarse."))
    shown, plain = inspect(calibrated), inspect(tiny_gguf)
    assert (shown["calibrated"], shown["coarse_head_bytes"]) == (True, coarse)
    assert (plain["calibrated"], plain["coarse_head_bytes"]) == (False, 0)
    assert coarse > 0
    assert shown["planes"] == plain["planes"] == len(describe(header).planes) > 0
    inspection.inspect(str(calibrated))
    said = " ".join(capsys.readouterr().out.split())
    assert "edge 2, calibrated" in said
    assert f"{shown['planes']} tensors; most of their lower bits are not read" in said
    assert "in two stages, by a coarse form of" in said
    inspection.inspect(str(tiny_gguf))
    assert "in two stages" not in capsys.readouterr().out


def test_it_costs_as_little_as_is_said(calibrated: Path, words: str) -> None:
    found = {one.name: one for one in switches.measure(calibrated, words[2000:], 128, 4)}
    found_here = found["logits in two stages, tokens one by one"]
    assert not found_here.same
    assert 0 < found_here.kl < 2e-3
    assert found_here.same_top >= 0.995
    assert found_here.missed["top_1"] <= 0.005
    assert found_here.missed["min_p_0.05"] < 0.01
    assert found_here.missed["top_40"] < 0.05
    assert found_here.missed["nucleus_0.95"] < 0.1


def test_what_was_interrupted_goes_on_to_the_same_file(
    tiny_gguf: Path, words: str, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.gguf", tmp_path / "parts.gguf"
    calibrate(tiny_gguf, words, whole, ONE_THREAD)

    class After(NoProgress):
        count = 0

        def advance(self, amount: int) -> None:
            self.count += amount
            if self.count == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(tiny_gguf, words, parts, ONE_THREAD, reading=After())
    assert not parts.exists()
    made = calibrate(tiny_gguf, words, parts, ONE_THREAD)
    assert made.resumed == 2
    assert parts.read_bytes() == whole.read_bytes()


def test_again_gives_the_same_file(calibrated: Path, words: str, tmp_path: Path) -> None:
    out = tmp_path / "again.gguf"
    calibrate(calibrated, words, out, ONE_THREAD)
    assert out.read_bytes() == calibrated.read_bytes()


def test_a_conversion_leaves_the_coarse_form_out(calibrated: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted.gguf"
    convert(calibrated, quant="f32", out=out, allow_requantize=True)
    assert not describe(gguf_file.read(out)).two_stages


def test_a_text_that_is_too_short(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="too little text"):
        calibrate(tiny_gguf, "few words", tmp_path / "out.gguf", ONE_THREAD)
    assert not [*tmp_path.glob("*.gguf")]


def test_the_text_of_ours() -> None:
    ours = text.for_calibration()
    assert ours == text.for_calibration()
    assert 10_000 < len(ours) < 60_000
    assert "水在什么温度下沸腾" in ours
    assert text.BUNDLED.read_text(encoding="utf-8")[:200] not in ours


def test_a_switch_that_is_off_reads_all(calibrated: Path) -> None:
    from plm_edge.engine.session import Session

    with Session.open(calibrated, replace(ONE_THREAD, n_ctx=64)) as session:
        session.rows.reset()
        for token in range(5, 15):
            session.context.append([token])
        assert session.rows.head() == (0, 0)
