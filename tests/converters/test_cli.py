"""`plm-edge convert` as a person and as a script sees it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.base import console
from plm_edge.base.errors import ExitCode
from plm_edge.cli import main
from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.store import registry
from tests.converters.imatrix_files import write_imatrix


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.chdir(tmp_path)


def test_table_and_registry(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(checkpoint), "--quant", "q8_0", "--out", "m.gguf"]) == 0
    out = tmp_path / "m.gguf"
    assert out.read_bytes()[:4] == b"GGUF"
    shown = capsys.readouterr().out
    for text in ("q8_0", "f32", "bits a weight", "m.gguf", "layout edge", "peak memory", " ms"):
        assert text in shown
    assert registry.newest() == out
    assert registry.entries()[0].quant == "q8_0"
    assert registry.entries()[0].source == str(checkpoint)


def test_json_is_all_there_is_on_stdout(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(checkpoint), "--layout", "stock", "--threads", "1", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == ""
    assert result["schema"] == "plm-edge/convert/1"
    assert (result["quant"], result["layout"], result["threads"]) == ("q4_k_m", "stock", 1)
    assert result["size"] == Path(result["out"]).stat().st_size
    assert sum(t["tensors"] for t in result["types"]) == 20


def test_list_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list-quants"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown for name in RECIPES)
    assert "q4_k_m = q4_k" in shown
    assert main(["convert", "--list-quants", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema"] == "plm-edge/quants/1"
    assert [entry["name"] for entry in listed["quants"]] == list(RECIPES)
    assert listed["layout"] == "edge"
    assert main(["convert", "--list-quants", "--layout", "stock", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)["quants"]
    sizes = [{e["name"]: e["size"] for e in entries} for entries in (listed["quants"], theirs)]
    assert sizes[0]["q4_k_m"] < sizes[1]["q4_k_m"]
    assert sizes[0]["q8_0"] == sizes[1]["q8_0"]
    assert main(["convert", "--list-quants", "--layout", "square"]) == ExitCode.USAGE


def test_recipe_and_matrix_on_the_command_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.toml").write_text('base = "q8_0"\n[types]\n\'ffn_up\' = "f16"\n')
    write_imatrix(tmp_path / "i.dat", checkpoint, legacy=True)
    arguments = ["convert", str(checkpoint), "--recipe", "mine.toml", "--imatrix", "i.dat"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["quant"] == "mine"
    assert Path(result["out"]).name == f"{tmp_path.name}-mine.gguf"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], ExitCode.USAGE, "there is nothing to convert"),
        (["checkpoint", "--quant", "iq2_m"], ExitCode.USAGE, "iq2_m needs an importance matrix"),
        (["nowhere"], ExitCode.INPUT, "there is no folder nowhere"),
        (["checkpoint", "--quant", "q9"], ExitCode.USAGE, "there is no type 'q9'"),
        (["checkpoint", "--layout", "x"], ExitCode.USAGE, "there is no layout 'x'"),
        (["checkpoint", "--threads", "0"], ExitCode.USAGE, "0 threads"),
        (["checkpoint", "--out", "."], ExitCode.INPUT, "it is a folder"),
    ],
)
def test_errors_are_three_lines_on_stderr(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    text: str,
) -> None:
    assert checkpoint.name == "checkpoint"
    assert main(["convert", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert len(captured.err.strip().splitlines()) == 3
    assert registry.newest() is None


def test_registry_that_cannot_be_written_is_no_failure(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").touch()
    assert main(["convert", str(checkpoint), "--out", "m.gguf"]) == 0
    assert "not remembered" in capsys.readouterr().err
    assert (tmp_path / "m.gguf").is_file()


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text to calibrate by, and a cache folder of the test's own."""
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("def add(a, b):\n    return a + b\n\n\n" * 80, encoding="utf-8")
    return text


def test_calibrated(tiny_checkpoint: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(tiny_checkpoint), "--out", "m.gguf", "--calibrate", str(text)]
    assert main([*arguments, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "plm-edge/convert/1"
    found = made["calibration"]
    assert found["size"] == Path("m.gguf").stat().st_size > made["size"]
    assert found["tokens"] % 512 == 0
    assert found["rounded_matrices"] == 31
    assert main(["inspect", "m.gguf"]) == 0
    assert "edge 2, calibrated" in capsys.readouterr().out
    # a calibrated file can be calibrated anew, to another name
    console.set_quiet(False)
    assert main(["convert", "m.gguf", "--out", "n.gguf", "--calibrate", str(text)]) == 0
    shown = capsys.readouterr()
    assert "in coarse form" in shown.out
    assert "cannot read" in shown.err


def test_calibrated_for_other_programs(
    tiny_checkpoint: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(tiny_checkpoint), "--layout", "stock", "--calibrate", str(text)]
    assert main([*arguments, "--out", "m.gguf", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["calibration"] == {"rounded_matrices": 31}
    assert made["size"] == Path("m.gguf").stat().st_size
    assert not describe(gguf_file.read(Path("m.gguf"))).two_stages
    assert main(["inspect", "m.gguf"]) == 0
    assert "stock, calibrated" in capsys.readouterr().out
    console.set_quiet(False)
    assert main([*arguments, "--out", "n.gguf", "--quant", "f16"]) == 0
    assert "changed nothing" in capsys.readouterr().err
    text.write_text("def add(a, b)", encoding="utf-8")
    assert main([*arguments, "--out", "o.gguf"]) == ExitCode.INPUT
    error = capsys.readouterr().err
    assert "give --calibrate a longer text" in error
    assert "--ctx" not in error
    assert not Path("o.gguf").exists()


def test_a_text_for_a_calibration_that_is_not_there(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(tiny_checkpoint), "--out", "m.gguf", "--calibrate", "no.txt"]
    assert main(arguments) == ExitCode.INPUT
    assert "cannot read the text no.txt" in capsys.readouterr().err
    assert not Path("m.gguf").exists()


def test_calibrating_another_model_refuses_before_it_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(other, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    before = other.read_bytes()
    arguments = ["convert", str(other), "--calibrate", "default", "--out"]
    assert main([*arguments, str(other)]) == ExitCode.USAGE
    assert "is the source itself" in capsys.readouterr().err
    assert main([*arguments, "nowhere/of.gguf"]) == ExitCode.INPUT
    assert "there is no folder" in capsys.readouterr().err
    assert other.read_bytes() == before
