from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import Tokenizer

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.plan.tokenizer import tokenizer_keys
from testkit.checkout import TINY_PLM
from testkit.checkpoints import CHAT_TEMPLATE, PADDING_IDS, PlmShape
from tests.converters.conftest import said

VOCAB = PlmShape().vocab
END, START, STOP = (VOCAB - PADDING_IDS - i for i in (3, 2, 1))


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / name
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def keys(folder: Path, vocab: int = VOCAB, **config: Any) -> dict[str, Any]:
    """Without the leading `tokenizer.` and `ggml.`."""
    found = tokenizer_keys(folder, vocab, config)
    short = (name.removeprefix("tokenizer.").removeprefix("ggml.") for name in found)
    return dict(zip(short, (key.value for key in found.values()), strict=True))


def refused(folder: Path, **config: Any) -> str:
    with pytest.raises(PlmEdgeError) as error:
        keys(folder, **config)
    return said(error)


def test_ids_are_those_of_the_tokenizers_library(checkpoint: Path) -> None:
    tokens = keys(checkpoint)["tokens"]
    library = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    assert library.get_vocab() == {t: i for i, t in enumerate(tokens) if not t.startswith("[PAD")}


def test_ids_past_the_last_token_are_filled_up(checkpoint: Path) -> None:
    found = keys(checkpoint)
    assert len(found["tokens"]) == len(found["token_type"]) == VOCAB
    assert found["tokens"][-PADDING_IDS:] == [f"[PAD{VOCAB - PADDING_IDS + i}]" for i in range(5)]
    types = [TokenType(kind) for kind in found["token_type"]]
    assert types[:END] == [TokenType.NORMAL] * END
    assert types[END:-PADDING_IDS] == [TokenType.CONTROL] * 3
    assert types[-PADDING_IDS:] == [TokenType.UNUSED] * PADDING_IDS


def test_qwen2_and_its_special_tokens(checkpoint: Path) -> None:
    found = keys(checkpoint, bos_token_id=END)
    assert (found["model"], found["pre"]) == ("gpt2", "qwen2")
    assert (found["bos_token_id"], found["eos_token_id"]) == (END, END)
    assert found["padding_token_id"] == END
    assert "unknown_token_id" not in found
    assert found["add_bos_token"] is found["add_eos_token"] is False
    assert found["chat_template"] == CHAT_TEMPLATE


def test_name_in_tokenizer_config_counts_more_than_id_in_config(checkpoint: Path) -> None:
    change(checkpoint, "tokenizer_config.json", lambda c: c.update(eos_token="<|im_end|>"))
    assert keys(checkpoint, eos_token_id=END)["eos_token_id"] == STOP
    named = {"content": "<|im_start|>", "special": True}
    change(checkpoint, "tokenizer_config.json", lambda c: c.update(eos_token=named))
    assert keys(checkpoint, eos_token_id=END)["eos_token_id"] == START


def test_without_tokenizer_config(checkpoint: Path) -> None:
    (checkpoint / "tokenizer_config.json").unlink()
    found = keys(checkpoint, eos_token_id=STOP)
    assert found["eos_token_id"] == STOP
    assert "chat_template" not in found


def test_merges_in_both_forms(checkpoint: Path) -> None:
    joined = keys(checkpoint)["merges"]
    assert joined == json.loads((checkpoint / "tokenizer.json").read_text())["model"]["merges"]
    change(
        checkpoint,
        "tokenizer.json",
        lambda t: t["model"].update(merges=[merge.split(" ") for merge in joined]),
    )
    assert keys(checkpoint)["merges"] == joined


def test_added_token_that_is_not_special(checkpoint: Path) -> None:
    token = {"id": VOCAB - PADDING_IDS, "content": "<tool_call>", "special": False}
    change(checkpoint, "tokenizer.json", lambda t: t["added_tokens"].append(token))
    found = keys(checkpoint)
    assert found["tokens"][VOCAB - PADDING_IDS] == "<tool_call>"
    assert found["token_type"][VOCAB - PADDING_IDS] == TokenType.USER_DEFINED


def test_special_by_its_looks_or_by_name(checkpoint: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (checkpoint / file).read_text().replace('"special": true', '"special": false')
        (checkpoint / file).write_text(text)
    assert keys(checkpoint)["token_type"][END] == TokenType.CONTROL


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "list"])
def test_chat_template_elsewhere(checkpoint: Path, place: str) -> None:
    change(checkpoint, "tokenizer_config.json", lambda c: c.pop("chat_template"))
    if place == "list":
        named = [
            {"name": "default", "template": "{{x}}"},
            {"name": "tool use", "template": "{{y}}"},
        ]
        change(checkpoint, "tokenizer_config.json", lambda c: c.update(chat_template=named))
    else:
        text = "{{x}}" if place.endswith("jinja") else '{"chat_template": "{{x}}"}'
        (checkpoint / place).write_text(text)
    found = keys(checkpoint)
    assert found["chat_template"] == "{{x}}"
    if place == "list":
        assert found["chat_templates"] == ["tool_use"]
        assert found["chat_template.tool_use"] == "{{y}}"


def test_chat_template_that_is_none(checkpoint: Path) -> None:
    change(checkpoint, "tokenizer_config.json", lambda c: c.update(chat_template=7))
    assert "chat template cannot be read" in refused(checkpoint)


def steps(t: dict[str, Any]) -> Any:
    return t["pre_tokenizer"]["pretokenizers"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda t: steps(t)[0]["pattern"].update(Regex=r"\s+|\w+"), r"'\\s+|\\w+'"),
        (lambda t: steps(t)[0].update(pattern={"String": " "}), "None"),
        (lambda t: steps(t)[0].update(behavior="Removed"), "Removed"),
        (lambda t: steps(t)[0].update(invert=True), "inverted"),
        (lambda t: steps(t)[1].update(add_prefix_space=True), "adds a space"),
        (lambda t: steps(t)[1].update(use_regex=True), "splits once more"),
        (lambda t: steps(t).pop(0), "['ByteLevel']"),
        (lambda t: t.update(pre_tokenizer={"type": "Metaspace"}), "['Metaspace']"),
        (lambda t: t.update(pre_tokenizer=None), "[None]"),
        (lambda t: t.update(normalizer={"type": "Lowercase"}), "Lowercase"),
    ],
)
def test_unknown_pretokenizer(
    checkpoint: Path, edit: Callable[[dict[str, Any]], object], expected: str
) -> None:
    change(checkpoint, "tokenizer.json", edit)
    text = refused(checkpoint)
    assert "pre-tokenizer is not known" in text
    assert expected in text


def test_no_normalizer_is_fine(checkpoint: Path) -> None:
    change(checkpoint, "tokenizer.json", lambda t: t.update(normalizer=None))
    assert keys(checkpoint)["pre"] == "qwen2"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda t: t["model"].update(type="Unigram"), "Unigram, not BPE"),
        (lambda t: t.update(model=None), "None, not BPE"),
        (lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda t: t["model"].update(ignore_merges=True), "ignore_merges"),
        (lambda t: t["model"].update(end_of_word_suffix="</w>"), "'</w>'"),
        (lambda t: t["model"].pop("merges"), "no merges"),
        (lambda t: t["model"].update(merges=["a b c"]), "'a b c' does not have two parts"),
        (lambda t: t["model"]["vocab"].update(zzz=VOCAB), f"id {VOCAB}"),
        (lambda t: t["model"]["vocab"].update(zzz=-1), "id -1"),
        (lambda t: t["model"]["vocab"].update(zzz=0), "id 0 is both"),
        (lambda t: t["added_tokens"][0].update(id=0), "id 0 is both"),
        (lambda t: t["added_tokens"][0].update(id="0"), "has the id '0'"),
        (lambda t: t["added_tokens"][0].update(content="<|other|>"), "is both"),
        (lambda t: t.update(post_processor={"type": "BertProcessing"}), "BertProcessing"),
        (lambda t: t.update(added_tokens=["x"]), "does not have the form"),
        (lambda t: t.update(pre_tokenizer="x"), "does not have the form"),
        (lambda t: t["model"]["merges"].append(7), "does not have the form"),
    ],
)
def test_tokenizer_that_llama_cpp_cannot_have(
    checkpoint: Path, edit: Callable[[dict[str, Any]], object], expected: str
) -> None:
    change(checkpoint, "tokenizer.json", edit)
    text = refused(checkpoint)
    assert "tokenizer cannot be converted" in text
    assert expected in text


def test_special_id_past_the_vocabulary(checkpoint: Path) -> None:
    change(checkpoint, "tokenizer_config.json", lambda c: c.update(eos_token=None))
    assert f"eos_token_id is {VOCAB}" in refused(checkpoint, eos_token_id=VOCAB)


def test_vocabulary_larger_than_the_embedding(checkpoint: Path) -> None:
    with pytest.raises(PlmEdgeError, match="vocab_size is 300"):
        keys(checkpoint, vocab=300)


def test_no_tokenizer_json(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in refused(checkpoint)


def test_cut_off_tokenizer_json(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-50])
    assert "tokenizer.json is not valid JSON" in refused(checkpoint)


def test_tiny_plm() -> None:
    config = json.loads((TINY_PLM / "config.json").read_text())
    found = keys(TINY_PLM, config["vocab_size"], **config)
    library = Tokenizer.from_file(str(TINY_PLM / "tokenizer.json"))
    for token, token_id in library.get_vocab().items():
        assert found["tokens"][token_id] == token
