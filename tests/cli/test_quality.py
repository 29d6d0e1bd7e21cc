"""`plm-edge eval` as a process: what a person sees, and three mistakes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from testkit import plm_gguf
from testkit.cli import Cli

WORDS = "the quick brown fox jumps over the lazy dog; " * 4
LONG = WORDS * 60
FEW = ("--ctx", "32", "--threads", "1")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


def test_eval_reports_all(cli: Cli, models: Path, text: Path) -> None:
    model, reference = models / "random.gguf", models / "abc.gguf"
    done = cli("eval", model, "--text", text, "--reference", reference, "--json", *FEW)
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["schema"] == "plm-edge/eval/1"
    assert (found["chunks"], found["n_ctx"], found["text_tokens"]) == (5, 32, len(WORDS))
    assert found["perplexity"]["tokens"] == 5 * 15
    assert found["perplexity"]["value"]["error"] > 0
    assert found["comparison"]["mean"]["value"] > 0
    shown = cli("eval", model, "--text", text, "--reference", reference, *FEW)
    assert f"{found['comparison']['mean']['value']:.6f}" in shown.stdout
    assert "5 chunks were kept" in shown.stderr


def test_eval_refuses(cli: Cli, models: Path, tmp_path: Path, text: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    model = models / "random.gguf"
    what, why, _ = cli.fails("eval", model, "--text", empty, code=3)
    assert (what, why) == (f"{empty} has no text", "it is empty")
    what, why, _ = cli.fails("eval", model, "--text", text, code=3)
    assert what == "there is too little text"
    assert "a chunk takes 512" in why
    what, _, _ = cli.fails("eval", model, "--text", text, "--reference-cache", "much", code=2)
    assert what == "'much' is no size"


@pytest.mark.parametrize("command", ["eval", "imatrix", "sparsity"])
def test_a_broken_text_is_refused(cli: Cli, models: Path, tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"caf\xe9 au lait")
    what, why, fix = cli.fails(command, models / "random.gguf", "--text", broken, code=3)
    assert (what, why) == (f"{broken} is no text", "byte 3 (0xe9) is not UTF-8")
    assert "iconv" in fix


def test_eval_refuses_another_vocabulary(
    cli: Cli, models: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model, other = models / "random.gguf", tmp_path / "other.gguf"
    told = ("eval", model, "--reference")
    # a string of length 1 in the list of tokens
    other.write_bytes(model.read_bytes().replace(b"\1\0\0\0\0\0\0\0!", b"\1\0\0\0\0\0\0\0\x7f", 1))
    what, why, fix = cli.fails(*told, other, code=3)
    assert what == "random.gguf cannot be compared with other.gguf"
    assert "their tokenizers differ: token 33 is '!' in one" in why
    assert "make the reference from the checkpoint of random.gguf" in fix
    _, why, _ = cli.fails(*told, tiny_checkpoint, code=3)
    assert why == "their vocabularies differ in size: 257 tokens and 4,096"


def test_imatrix_writes_a_file_that_convert_takes(
    cli: Cli, models: Path, text: Path, tmp_path: Path
) -> None:
    model, out = models / "random.gguf", tmp_path / "of.gguf"
    done = cli("imatrix", model, "--text", text, "--out", out, "--json", *FEW)
    found = json.loads(done.stdout)
    assert (found["schema"], found["tokens"], len(found["entries"])) == (
        "plm-edge/imatrix/1",
        160,
        13,
    )
    made = cli(
        "convert", model, "--quant", "q4_0", "--imatrix", out, "--out", tmp_path / "q4.gguf", "-q"
    )
    assert made.stderr == ""


def stop_after_a_chunk(cli: Cli, how: signal.Signals, kept: str, *words: str | Path) -> Path:
    """Stop a command once a file of this name is kept; returns the folder where it lies."""
    runs = Path(cli.env["PLM_EDGE_CACHE_DIR"]) / "eval/runs"
    process = cli.start(*words)
    while not [*runs.glob(f"*/{kept}")]:  # far from the end, if the text is LONG
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert (b"the same command goes on where it was" in err) == (how is signal.SIGINT)
    return runs


def test_an_interrupted_eval_goes_on_to_the_same_figures(
    cli: Cli, models: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(LONG, encoding="utf-8")
    words = ("eval", models / "random.gguf", "--reference", models / "abc.gguf", "--text", text)
    whole = json.loads(cli(*words, *FEW, "--json").stdout)
    runs = stop_after_a_chunk(cli, signal.SIGINT, "00000.npy", *words, *FEW)
    again = json.loads(cli(*words, *FEW, "--json").stdout)
    assert 0 < again.pop("resumed") < again["chunks"]
    assert whole.pop("resumed") == 0
    assert (again.pop("kept"), whole.pop("kept")) != (0, 0)
    assert again == whole
    assert not any(runs.iterdir())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_imatrix_goes_on_to_the_same_file(
    cli: Cli, models: Path, tmp_path: Path, how: signal.Signals
) -> None:
    text, whole, out = (tmp_path / name for name in ("text.txt", "whole.gguf", "of.gguf"))
    text.write_text(LONG, encoding="utf-8")
    words = ("imatrix", models / "random.gguf", "--text", text, *FEW, "--out")
    cli(*words, whole)
    runs = stop_after_a_chunk(cli, how, "sums.npz", *words, out)
    assert not out.exists()
    found = json.loads(cli(*words, out, "--json").stdout)
    assert 0 < found["resumed"] < found["chunks"]
    assert out.read_bytes() == whole.read_bytes()
    assert not any(runs.iterdir())


def test_imatrix_replaces_nothing_that_it_reads(cli: Cli, tmp_path: Path, text: Path) -> None:
    model = plm_gguf.write(tmp_path / "mine.gguf")
    before = {path: path.read_bytes() for path in (model, text)}
    (tmp_path / "other.gguf").symlink_to(model)
    for out in (model, text, tmp_path / "other.gguf"):
        _, why, _ = cli.fails("imatrix", model, "--text", text, "--out", out, *FEW, code=3)
        assert "would replace it" in why
    assert {path: path.read_bytes() for path in before} == before


def test_imatrix_refuses_before_it_computes(cli: Cli, models: Path, text: Path) -> None:
    out = text.parent / "nowhere" / "of.gguf"
    what, why, _ = cli.fails(
        "imatrix", models / "random.gguf", "--text", text, "--out", out, *FEW, code=3
    )
    assert what == f"{out} cannot be written"
    assert why == f"there is no folder {out.parent}"
    folder = ("--out", text.parent)
    _, why, _ = cli.fails("imatrix", models / "random.gguf", "--text", text, *folder, *FEW, code=3)
    assert why == "it is a folder"


def test_sparsity_shows_a_table_and_writes_pictures(
    cli: Cli, models: Path, text: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    few = ("--text", text, *FEW)
    done = cli("sparsity", models / "random.gguf", *few, "--html", page, "--json")
    found = json.loads(done.stdout)
    assert found["schema"] == "plm-edge/sparsity/1"
    assert [one["layer"] for one in found["layers"]] == [0, 1]
    assert 0.3 < found["zeros"] < 0.7
    assert found["activated"] < found["parameters"]
    assert page.read_text(encoding="utf-8").count("<svg") == 3
    shown = cli("sparsity", models / "random.gguf", *few).stdout
    assert f"{100 * found['zeros']:.1f} % of the neurons" in shown


def test_eval_of_switches(cli: Cli, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(WORDS, encoding="utf-8")
    few = ("--chunks", "1", "--json")
    done = cli("eval", models / "random.gguf", "--text", path, "--switches", *few)
    found = json.loads(done.stdout)
    assert found["schema"] == "plm-edge/eval-switches/1"
    assert all(one["holds"] for one in found["switches"])


@pytest.mark.parametrize(
    "words",
    [("--tasks", "x", "--text", "y"), ("--limit", "3"), ("--switches", "--reference", "y")],
)
def test_options_that_change_nothing_are_refused(
    cli: Cli, models: Path, words: tuple[str, ...]
) -> None:
    what, _, _ = cli.fails("eval", models / "random.gguf", *words, code=2)
    assert what.endswith("has nothing to do")
