"""Random weights are called so, from the checkpoint that says so to what the commands show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.synthetic import NOTE
from plm_edge.bench import environment
from plm_edge.cli import main
from plm_edge.converters.convert import convert
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from tests.converters.test_tokenizer import change


@pytest.fixture
def marked(checkpoint: Path) -> Path:
    change(checkpoint, "config.json", lambda config: config.update(_note=NOTE))
    convert(checkpoint, quant="f16", out=checkpoint.parent / "m.gguf")
    return checkpoint.parent / "m.gguf"


def test_the_file_says_so_and_so_does_what_is_made_from_it(marked: Path, tmp_path: Path) -> None:
    for layout in ("stock", "edge"):
        convert(marked, quant="q8_0", layout=layout, out=tmp_path / "other.gguf")
        assert describe(gguf_file.read(tmp_path / "other.gguf")).synthetic
    assert environment.model(tmp_path / "other.gguf").synthetic is True


def test_others_do_not(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, quant="f16", out=tmp_path / "m.gguf")
    assert "plm_edge.synthetic" not in gguf_file.read(tmp_path / "m.gguf").keys
    assert environment.model(tmp_path / "m.gguf").synthetic is False


def test_inspect_shows_it(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (marked, marked.parent / "checkpoint"):
        assert main(["inspect", str(path)]) == 0
        assert "synthetic: random" in capsys.readouterr().out
        assert main(["inspect", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["synthetic"] is True


def test_run_shows_it(marked: Path) -> None:
    command = [sys.executable, "-m", "plm_edge", "run", str(marked), "-p", "a", "-n", "1"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"the weights are synthetic" in done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["model"]["synthetic"] is True
