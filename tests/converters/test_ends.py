"""Which tokens end a text: what the checkpoint says must hold in the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.convert import convert
from plm_edge.engine.session import Options, Session
from plm_edge.errors import PlmEdgeError
from tests.checkpoints import PlmShape, special_ids
from tests.converters.conftest import said
from tests.converters.gguf_content import read

IDS = special_ids(PlmShape().vocab)
START, END, TEXT_END = IDS["<|im_start|>"], IDS["<|im_end|>"], IDS["<|endoftext|>"]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def ends(model: Path) -> set[int]:
    """Ids for which llama_vocab_is_eog holds."""
    from plm_edge.engine import library

    bindings = library.load().bindings
    with Session.open(model, Options(threads=1)) as session:
        ids = range(PlmShape().vocab)
        return {i for i in ids if bindings.llama_vocab_is_eog(session.vocab, i)}


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
