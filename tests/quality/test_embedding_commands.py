"""Embeddings in parts as `convert --embed` makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from plm_edge import cli
from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from testkit import reference
from tests.quality.conftest import ONE_THREAD
from tests.quality.embedded import logits_of, rows_of

pytestmark = pytest.mark.slow


def test_the_command_of_a_model(
    tmp_path: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gguf"
    command = ["convert", str(tiny_gguf), "--out", str(out)]
    assert cli.main([*command, "--embed", "tt:dims=16x16,ranks=4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "plm-edge/embed/1"
    assert said["embedding"]["element_ratio"] == 2.0
    assert said["embedding"]["size"] == out.stat().st_size
    assert said["embedding"]["growth_bytes"] == said["embedding"]["embedding_bytes"]
    assert cli.main(["inspect", str(out), "--verify"]) == 0
    assert "tensor trains" in capsys.readouterr().out
    console.set_quiet(False)
    assert cli.main([*command, "--embed", "tt:ratio=2"]) == 0
    assert "this file grows by" in capsys.readouterr().err
    assert cli.main([*command, "--embed", "tt:dims=16x17"]) == ExitCode.USAGE
    assert "256" in capsys.readouterr().err
    for slip in (["--threads", "-1"], ["--layout", "square"]):
        capsys.readouterr()
        assert cli.main([*command, "--embed", "tt", *slip]) == ExitCode.USAGE
        assert slip[0].strip("-") in capsys.readouterr().err
    # the other layout is not passed over: W_down would be quantised a second time
    assert cli.main([*command, "--embed", "tt", "--layout", "stock"]) != 0
    assert "--allow-requantize" in capsys.readouterr().err


def test_the_command_with_a_text(
    tmp_path: Path,
    tiny_gguf: Path,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is there when it is calibrated, too, or not at all."""
    out, text = tmp_path / "out.gguf", tmp_path / "words.txt"
    text.write_text(words)
    command = ["convert", str(tiny_gguf), "--out", str(out), "--embed", "split=1024:q5_k/q3_k"]
    command += ["--calibrate", str(text), "--json"]

    def fails(*_: object) -> None:
        raise PlmEdgeError("no", "it should not", "see the test")

    with monkeypatch.context() as patch:
        patch.setattr("plm_edge.quality.calibration.calibrate", fails)
        assert cli.main(command) != 0
    assert sorted(path.name for path in tmp_path.glob("*")) == ["cache", "words.txt"]
    capsys.readouterr()
    assert cli.main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["embedding"]["rounded"]
    assert said["embedding"]["types"] == ["q5_k", "q3_k"]
    assert said["embedding"]["size"] == said["calibration"]["size"] == out.stat().st_size
    found = describe(gguf_file.read(out))
    assert (found.embedding, found.two_stages) == ("split", True)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["cache", "out.gguf", "words.txt"]


def test_the_command_of_a_checkpoint(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own vectors are taken apart, not those that were quantised."""
    out = tmp_path / "out.gguf"
    command = ["convert", str(tiny_checkpoint), "--out", str(out), "--quant", "q3_k_m", "--json"]
    assert cli.main([*command, "--embed", "tt:dims=16x17"]) == ExitCode.USAGE
    assert not out.exists()
    capsys.readouterr()
    assert cli.main([*command, "--embed", "tt:dims=16x16,ranks=16"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["embedding"]["error"] < 1e-3
    assert said["embedding"]["size"] == out.stat().st_size
    at_input, in_head = rows_of(out)
    own = reference.Plm(tiny_checkpoint).embedding.numpy()
    assert np.abs(at_input - own).max() < 1e-3 * np.abs(own).max()
    assert np.abs(in_head - own).max() > 1e-2 * np.abs(own).max()


@pytest.mark.full
def test_the_command_for_other_programs(
    tmp_path: Path, tiny_checkpoint: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "out.gguf", tmp_path / "words.txt"
    text.write_text(words)
    command = ["convert", str(tiny_checkpoint), "--out", str(out), "--layout", "stock"]
    command += ["--embed", "type=q4_k", "--calibrate", str(text), "--json"]
    assert cli.main(command) == 0
    said = json.loads(capsys.readouterr().out)["embedding"]
    assert (said["kind"], said["types"], said["rounded"]) == ("type", ["q4_k"], True)
    found = describe(gguf_file.read(out))
    assert (found.layout, found.embedding, found.two_stages) == ("stock", "", False)
    logits_of(out, ONE_THREAD)
