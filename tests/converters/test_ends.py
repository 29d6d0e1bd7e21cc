"""Which tokens end a text: what the checkpoint says must hold in the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.cli import main
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from testkit.checkout import TINY_PLM
from testkit.checkpoints import PlmShape, special_ids
from tests.converters.conftest import said
from tests.converters.gguf_content import read

IDS = special_ids(PlmShape().vocab)
START, END, TEXT_END = IDS["<|im_start|>"], IDS["<|im_end|>"], IDS["<|endoftext|>"]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def ends(model: Path) -> set[int]:
    """Ids for which llama_vocab_is_eog holds."""
    with Session.open(model, Options(threads=1)) as session:
        return {i for i in range(PlmShape().vocab) if session.vocabulary.is_end(i)}


def test_end_of_turn_that_generation_config_alone_names(checkpoint: Path, tmp_path: Path) -> None:
    """As the published instruct model: config.json has <|endoftext|>."""
    change(checkpoint / "generation_config.json", eos_token_id=[END, TEXT_END])
    convert(checkpoint, layout="stock", out=tmp_path / "m.gguf")
    assert {END, TEXT_END} <= ends(tmp_path / "m.gguf")
    content = read(tmp_path / "m.gguf")
    assert content.value("tokenizer.ggml.eos_token_id") == TEXT_END
    assert "tokenizer.ggml.eot_token_id" not in content.keys  # as upstream: its text is known


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_end_that_llama_cpp_does_not_know(checkpoint: Path, tmp_path: Path, where: str) -> None:
    """<|im_start|> would never end a text by its name."""
    change(checkpoint / where, eos_token_id=[TEXT_END, START, 65])
    convert(checkpoint, out=tmp_path / "m.gguf")
    assert {START, 65, TEXT_END} <= ends(tmp_path / "m.gguf")
    assert 66 not in ends(tmp_path / "m.gguf")


def test_end_of_a_base_model(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "generation_config.json").unlink()
    convert(checkpoint, out=tmp_path / "m.gguf")
    assert TEXT_END in ends(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [([1, 2, 3], "room for two"), ("<|im_end|>", "eos_token_id is '<|im_end|>'"), (320, "is 320")],
)
def test_ends_that_cannot_be(
    checkpoint: Path, tmp_path: Path, value: object, expected: str
) -> None:
    change(checkpoint / "generation_config.json", eos_token_id=value)
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, out=tmp_path / "m.gguf")
    assert expected in said(error)


def test_generation_stops_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A token that tiny-plm says of itself, once generation_config calls it the end of a turn."""
    source = Path(shutil.copytree(TINY_PLM, tmp_path / "source"))
    convert(source, out=tmp_path / "before.gguf")
    prompt, greedy = "def fibonacci(n):", Sampling(temp=0)
    with Session.open(tmp_path / "before.gguf", Options(threads=1)) as session:
        before = LocalGenerator(session).generate(Request(session.tokenize(prompt), 12, greedy))
        text = before.whole()
        assert before.stop_reason == "length"
    place = next(i for i in range(3, 12) if before.tokens[i] not in before.tokens[:i])
    change(source / "generation_config.json", eos_token_id=[before.tokens[place]])
    convert(source, out=tmp_path / "after.gguf")
    with Session.open(tmp_path / "after.gguf", Options(threads=1)) as session:
        after = LocalGenerator(session).generate(Request(session.tokenize(prompt), 12, greedy))
        stopped = after.whole()
    assert after.stop_reason == "end"
    assert after.tokens == before.tokens[:place]
    assert text.startswith(stopped)
    assert text != stopped
    model = str(tmp_path / "after.gguf")
    options = ["--prompt", prompt, "-n", "12", "--temp", "0", "--threads", "1", "--json"]
    assert main(["run", model, *options]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["stop_reason"], shown["text"]) == ("end", stopped)
