"""What a benchmark is given is looked at before it does anything."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import beforehand, embeddings_synthetic, origin, report
from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine import library
from plm_edge.engine.session import Session

SCHEMA = "plm-edge/benchmark-x/1"


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_figures_are_added_to_a_result_of_this_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", schema=SCHEMA, **origin.engine(), rows=[1])
    assert beforehand.result(path, SCHEMA)["rows"] == [1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "its schema is missing"),
        ('{"schema": "another/1"}', "its schema is another/1"),
        (json.dumps({"schema": SCHEMA, "pin": {"tree": "0123"}}), "engine of tree 0123;"),
    ],
)
def test_figures_are_added_to_no_other(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(PlmEdgeError, match="No such file"):
        beforehand.result(path, SCHEMA)
    path.write_text(content)
    with pytest.raises(PlmEdgeError, match=why):
        beforehand.result(path, SCHEMA)


def test_a_table_of_its_own_may_be_of_another_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", schema=SCHEMA, pin={"tree": "0123"})
    assert beforehand.result(path, SCHEMA, any_engine=True)


def test_the_folder_of_a_result_is_made(tmp_path: Path) -> None:
    beforehand.out(tmp_path / "new/a.json")
    assert (tmp_path / "new").is_dir()


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> None:
        pytest.fail("it began to work")

    monkeypatch.setattr(library, "load", work)
    monkeypatch.setattr(Session, "open", work)


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize(
    "command",
    [
        "load --out FOLDER",
        "load --out OUT --edge FILE",
        "load --out OUT --no-stock --stock FILE",
        "busy FILE --out OUT",
        "busy MODEL --out FOLDER",
        "busy MODEL --stock-model FILE --out OUT",
        "speculation FILE --out OUT",
        "speculation MODEL --out FOLDER",
        "kernels --quick --out FOLDER",
        "kernels --quick --stock FOLDER --out OUT",
        "peers --out FOLDER",
        "peers --stock FOLDER --out OUT",
        "convert FOLDER --out FOLDER",
        "recipes --out FOLDER",
        "quality --out FOLDER",
        "quality --speed --out FILE",
        "quality --only q4_k_m --out OUT",
        "embeddings tiny-plm --out FOLDER",
        "embeddings tiny-plm --speed --out OUT",
        "embeddings tiny-plm --only svd --out FILE",
        "embeddings_synthetic --prepare --model FILE",
        "spa states FILE",
        "against_llama_bench FILE",
        "prompt_cache MODEL --json FOLDER",
    ],
)
def test_what_stands_in_the_way_is_said_first(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_gguf: Path
) -> None:
    (tmp_path / "file").write_text("no model")
    names = {"FOLDER": tmp_path, "FILE": tmp_path / "file", "OUT": tmp_path / "out.json"}
    names["MODEL"] = tiny_gguf
    module, *words = command.split()
    monkeypatch.setattr("sys.argv", [module, *(str(names.get(word, word)) for word in words)])
    with pytest.raises(PlmEdgeError):
        importlib.import_module(f"benchmarks.{module}").main()
    assert not names["OUT"].exists()


@pytest.mark.usefixtures("_no_work")
def test_rounds_are_added_to_no_result_of_another_shape(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.json", rows=[{}])
    monkeypatch.setattr(embeddings_synthetic, "OUT", path)
    monkeypatch.setattr("sys.argv", ["embeddings_synthetic", "--add"])
    with pytest.raises(PlmEdgeError, match="schema is missing"):
        embeddings_synthetic.main()


def test_a_result_elsewhere_leaves_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = report.recorded("arm")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    report.RESULTS.mkdir()
    report.keep(tmp_path / "arm.json", result)
    assert not report.PAGE.exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report.page, "__defaults__", (report.RESULTS,))
    report.keep(Path("results/arm.json"), result)
    assert "## ARM cores" in report.PAGE.read_text(encoding="utf-8")
