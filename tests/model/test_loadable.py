"""Files over which the engine would end the process: the smallest of each, refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file, loadable
from plm_edge.store.inspection import inspect
from testkit import plm_gguf
from tests.model import mutations
from tests.model.mutations import ARRAY, STRING, Parts

U32, F32, BOOL = 4, 6, 7
TOKENS = "tokenizer.ggml.tokens"
Change = Callable[[Parts], object]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plm_gguf.write(tmp_path_factory.mktemp("gguf") / "m.gguf")


def changed(valid: Path, folder: Path, change: Change) -> Path:
    parts = mutations.parse(valid.read_bytes())
    change(parts)
    path = folder / "changed.gguf"
    path.write_bytes(mutations.build(parts))
    return path


def token(parts: Parts, number: int, name: bytes) -> None:
    parts.array(TOKENS)[number] = name


def test_what_is_taken_apart_is_put_together_again(valid: Path) -> None:
    assert mutations.build(mutations.parse(valid.read_bytes())) == valid.read_bytes()
    loadable.check(gguf_file.read(valid))


def twice(parts: Parts) -> None:
    token(parts, 7, parts.array(TOKENS)[3])


def zero_bytes(parts: Parts) -> None:
    token(parts, 3, b"same\0one")
    token(parts, 7, b"same\0other")


def the_name_of_an_empty_one(parts: Parts) -> None:
    token(parts, 3, b"")
    token(parts, 7, b"[EMPTY_3]")


def no_begin_token(parts: Parts) -> None:
    parts.array(TOKENS)[:] = parts.array(TOKENS)[:11]
    parts.set("tokenizer.ggml.add_bos_token", BOOL, True)


def no_end_token(parts: Parts) -> None:
    parts.array(TOKENS)[:] = parts.array(TOKENS)[:11]
    parts.set("tokenizer.ggml.add_eos_token", BOOL, True)


VOCABULARIES: list[tuple[Change, str]] = [
    (twice, "tokens 3 and 7 have the same name"),
    (zero_bytes, "tokens 3 and 7 have the same name, 'same'"),
    (the_name_of_an_empty_one, "tokens 3 and 7 have the same name, '[EMPTY_3]'"),
    (no_begin_token, "tokenizer.ggml.bos_token_id names none of its 11 tokens"),
    (no_end_token, "tokenizer.ggml.eos_token_id names none of its 11 tokens"),
    (lambda p: p.set("tokenizer.ggml.model", STRING, b"none"), "has no vocabulary"),
    (lambda p: p.set("tokenizer.ggml.model", STRING, b"no_vocab"), "has no vocabulary"),
    (lambda p: p.set("tokenizer.ggml.model", STRING, b"llama"), "no token <0x00> for that byte"),
]
SIZES: list[tuple[Change, str]] = [
    (lambda p: p.set("plm.block_count", U32, 0), "plm.block_count is 0"),
    (lambda p: p.set("plm.block_count", U32, 513), "1 to 512 layers"),
    (lambda p: p.set("plm.nextn_predict_layers", U32, 3), "there are 2 layers"),
    (lambda p: p.set("plm.expert_count", U32, 1025), "at most 1024"),
    (lambda p: p.set("plm.expert_count", U32, 4), "expert_used_count is 0"),
    (lambda p: p.set("plm.expert_used_count", U32, 1), "there are 0 experts"),
    (lambda p: p.set("plm.expert_used_count", ARRAY, (U32, [0, 1])), "there are 0 experts"),
    (lambda p: p.set("plm.expert_group_count", U32, 1), "there are 0 experts"),
    (lambda p: p.set("plm.rope.scaling.type", STRING, b"odd"), "known are none, linear, yarn"),
    (lambda p: p.set("plm.attention.layer_norm_rms_epsilon", F32, math.nan), "epsilon is nan"),
    (lambda p: p.set("plm.attention.layer_norm_rms_epsilon", F32, -1.0), "epsilon is -1.0"),
    (lambda p: p.set("plm.rope.dimension_count", U32, 31), "turned in pairs"),
    (lambda p: setattr(p.tensor("output_norm.weight"), "type", 8), "is of type q8_0"),
    (lambda p: setattr(p.tensor("token_embd.weight"), "type", 26), "is of type i32"),
]


@pytest.mark.parametrize(("change", "said"), VOCABULARIES + SIZES)
def test_it_is_refused(valid: Path, tmp_path: Path, change: Change, said: str) -> None:
    path = changed(valid, tmp_path, change)
    with pytest.raises(PlmEdgeError) as caught:
        loadable.check(gguf_file.read(path))
    assert said in caught.value.why
    assert caught.value.code is ExitCode.INPUT
    assert str(caught.value).count("\n") == 2


def test_a_vocabulary_alone(valid: Path, tmp_path: Path) -> None:
    """It can be looked at, and is no model; but it can be the first part of one."""
    path = changed(valid, tmp_path, lambda parts: parts.tensors.clear())
    with pytest.raises(PlmEdgeError, match="cannot be loaded") as caught:
        loadable.check(gguf_file.read(path))
    assert "no weights" in caught.value.why
    assert inspect(path)["tensors"] == []
    loadable.check(gguf_file.read(path.rename(tmp_path / "m-00001-of-00002.gguf")))


@pytest.mark.parametrize("number", [26, 15, 9, 28])  # i32, q8_K, q8_1, f64
def test_types_that_nothing_multiplies(tmp_path: Path, number: int) -> None:
    def change(parts: Parts) -> None:
        tensor = parts.tensor("blk.1.attn_k.weight")
        tensor.type, tensor.shape = number, [256, 32]

    llama = plm_gguf.write(tmp_path / "llama.gguf", arch="llama")
    loadable.check(gguf_file.read(llama))
    with pytest.raises(PlmEdgeError, match="in which the engine cannot compute it"):
        loadable.check(gguf_file.read(changed(llama, tmp_path, change)))


def test_an_embedding_in_parts(tmp_path: Path) -> None:
    """Of another architecture: its parts are multiplied, whatever they are called."""

    def change(parts: Parts) -> None:
        tensor = parts.tensor("token_embd.weight")
        tensor.name, tensor.type = b"token_embd.tt.weight", 26

    llama = plm_gguf.write(tmp_path / "llama.gguf", arch="llama")
    with pytest.raises(PlmEdgeError, match="is of type i32"):
        loadable.check(gguf_file.read(changed(llama, tmp_path, change)))


USES = [inspect, Session.open, lambda path: convert(path, quant="q8_0")]


@pytest.mark.parametrize(
    ("use", "change"),
    [
        *((use, lambda p: p.set("plm.block_count", U32, 0)) for use in USES),
        *((use, twice) for use in USES if use != Session.open),
    ],
)
def test_by_whoever_uses_it(
    valid: Path, tmp_path: Path, use: Callable[[Path], object], change: Change
) -> None:
    path = changed(valid, tmp_path, change)
    with pytest.raises(PlmEdgeError) as caught:
        use(path)
    assert caught.value.what.startswith(f"{path} cannot be ")


@pytest.mark.parametrize("change", [twice, zero_bytes, the_name_of_an_empty_one])
def test_the_engine_says_that_two_tokens_have_one_name(
    valid: Path, tmp_path: Path, change: Change
) -> None:
    """Whoever only loads leaves that to it: to read all names takes longer than the header."""
    path = changed(valid, tmp_path, change)
    loadable.check(gguf_file.read(path), names=False)
    with pytest.raises(PlmEdgeError) as caught:
        Session.open(path)
    assert "tokens 3 and 7 have the same name" in caught.value.why
    assert caught.value.code is ExitCode.INPUT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.drop(TOKENS), "cannot find tokenizer vocab"),
        (lambda p: p.drop("tokenizer.ggml.model"), "not found in model: tokenizer.ggml.model"),
        (lambda p: p.set("tokenizer.ggml.model", STRING, b"odd"), "unknown tokenizer: 'odd'"),
    ],
)
def test_the_engine_says_what_its_vocabulary_lacks(
    valid: Path, tmp_path: Path, change: Change, said: str
) -> None:
    """Not that a tensor does not fit a vocabulary of no tokens: both are read at once."""
    path = changed(valid, tmp_path, change)
    with pytest.raises(PlmEdgeError) as caught:
        Session.open(path)
    assert caught.value.why.startswith("error loading model vocabulary: ")
    assert said in caught.value.why
    assert caught.value.code is ExitCode.INPUT


def two_empty(parts: Parts) -> None:
    """Each gets a name of its own."""
    token(parts, 3, b"")
    token(parts, 7, b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda p: token(p, 3, b""),
        two_empty,
        lambda p: token(p, 3, b"[EMPTY_4]"),
        lambda p: p.set("tokenizer.ggml.add_bos_token", BOOL, True),
        lambda p: p.drop("tokenizer.ggml.bos_token_id"),
        lambda p: p.set("tokenizer.ggml.bos_token_id", U32, 999),
        lambda p: p.set("plm.rope.scaling.type", STRING, b"yarn"),
        lambda p: p.set("plm.expert_used_count", ARRAY, (U32, [0, 0])),
        lambda p: p.set("plm.attention.layer_norm_rms_epsilon", F32, 0.0),
    ],
)
def test_what_the_engine_loads_is_not_refused(valid: Path, tmp_path: Path, change: Change) -> None:
    path = changed(valid, tmp_path, change)
    with Session.open(path) as session:
        assert session.tokenize("a")
