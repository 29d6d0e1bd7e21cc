"""A token is added to a model: its row, its name, and that nothing else changes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.gguf_writer import GGUFValue
from safetensors.torch import load_file, save_file

from plm_edge import cli
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert
from plm_edge.converters.embed.spec import parse
from plm_edge.converters.keys import array, string
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write import amend
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file
from plm_edge.engine import library
from plm_edge.engine.session import Session
from plm_edge.quality import tokens
from plm_edge.quality.embedding import Parts, embed
from testkit.checkpoints import PlmShape, write_checkpoint
from tests.quality.conftest import ONE_THREAD

pytestmark = pytest.mark.slow
SHAPE = PlmShape(
    layers=2, hidden=256, heads=2, nope=96, rope=32, v=128, kv_lora=256, ffn=512, vocab=520
)
FIRST = SHAPE.vocab - 5  # the spare rows are the last five
FORMS = [
    *(None, "tt:dims=16x16,ranks=4,cores=q8_0", "r1", "r1,split=300:q5_k/q3_k"),
    *("split=300:q5_k/q3_k", "type=q4_k"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tokens") / "checkpoint", SHAPE)


def model_of(checkpoint: Path, out: Path, form: str | None, weights: Floats | None = None) -> Path:
    convert(checkpoint, quant="q4_k", out=out)
    if form:
        embed(out, out, Parts(parse(form), weights=weights, workers=1))
    return out


def logits(path: Path, ids: list[int]) -> Floats:
    with Session.open(path, replace(ONE_THREAD, n_ctx=64)) as session:
        batch = session.context.batch(len(ids))
        batch.extend(ids, 0, wanted="all")
        session.context.decode(batch)
        return np.array(session.context.logits())


@pytest.mark.parametrize("form", FORMS)
def test_all_other_logits_stay(checkpoint: Path, tmp_path: Path, form: str | None) -> None:
    path, out = model_of(checkpoint, tmp_path / "a.gguf", form), tmp_path / "b.gguf"
    made = tokens.add(path, "zyzzyva", out, text="a weevil")
    assert made.id == FIRST
    assert made.spare == 4
    assert made.size == out.stat().st_size
    before, after = logits(path, [5, 9, 300]), logits(out, [5, 9, 300])
    others = np.arange(SHAPE.vocab) != FIRST
    np.testing.assert_array_equal(before[:, others], after[:, others])
    assert (before[:, FIRST] != after[:, FIRST]).all()
    with Session.open(out, replace(ONE_THREAD, n_ctx=64)) as session:
        ids = session.vocabulary.tokenize("one zyzzyva!", parse_special=False)
        assert FIRST in ids
        assert session.vocabulary.piece(FIRST) == b"zyzzyva"
    assert verify_file(out, Quantizer(library.load().ggml)).hashed


def test_a_row_has_the_bits_that_a_conversion_gives_it(checkpoint: Path, tmp_path: Path) -> None:
    vector = torch.randn(SHAPE.hidden, generator=torch.Generator().manual_seed(4)).bfloat16()
    whole = write_checkpoint(tmp_path / "checkpoint", SHAPE)
    weights = load_file(whole / "model.safetensors")
    weights["model.embed_tokens.weight"][FIRST] = vector
    save_file(weights, whole / "model.safetensors")
    expected = model_of(whole, tmp_path / "expected.gguf", None)
    made = model_of(checkpoint, tmp_path / "made.gguf", None)
    tokens.add(made, "zyzzyva", made, vectors=vector.float().numpy())
    for one, other in zip(
        gguf.GGUFReader(expected).tensors, gguf.GGUFReader(made).tensors, strict=True
    ):
        np.testing.assert_array_equal(one.data, other.data)


def test_cores_of_a_row_are_those_of_a_conversion(checkpoint: Path, tmp_path: Path) -> None:
    """Also of rank 1 with importances, which the file keeps."""
    base = tmp_path / "base.gguf"
    convert(checkpoint, quant="f16", out=base)
    stored = {t.name: t.data for t in gguf.GGUFReader(base).tensors}
    vector = stored["token_embd.weight"][7].astype(np.float32)
    importance = np.geomspace(0.1, 3, SHAPE.hidden).astype(np.float32)
    for form in FORMS[1:]:
        path = tmp_path / "parts.gguf"
        embed(base, path, Parts(parse(str(form)), weights=importance, workers=1))
        tokens.add(path, "zyzzyva", path, vectors=vector)
        low = {t.name: t.data for t in gguf.GGUFReader(path).tensors if "embd" in t.name}
        if "token_embd.tt.weight" in low:
            cores = low["token_embd.tt.weight"]
            np.testing.assert_array_equal(cores[FIRST], cores[7])
            continue
        if "token_embd.r1.u" in low:
            u = low["token_embd.r1.u"]
            np.testing.assert_array_equal(u[FIRST], u[7])
        if "token_embd.weight" in low:
            rows = low["token_embd.weight"]
            np.testing.assert_array_equal(rows[FIRST], rows[7])


def test_what_cannot_be_added(checkpoint: Path, tmp_path: Path, tiny_gguf: Path) -> None:
    path, out = model_of(checkpoint, tmp_path / "a.gguf", None), tmp_path / "b.gguf"
    before = path.read_bytes()
    with pytest.raises(PlmEdgeError, match=r"is token \d+ already") as error:
        tokens.add(path, "<|im_start|>", out, text="x")
    assert error.value.code == ExitCode.USAGE
    with pytest.raises(PlmEdgeError, match=r"shape \[7\]"):
        tokens.add(path, "new", out, vectors=np.zeros(7, np.float32))
    with pytest.raises(PlmEdgeError, match="no tokens"):
        tokens.add(path, "new", out, text="")
    with pytest.raises(PlmEdgeError, match="no spare row"):
        tokens.add(tiny_gguf, "zyzzyva", out, text="x")
    assert not out.exists()
    assert path.read_bytes() == before
    for number in range(5):
        tokens.add(path, f"new{number}", path, text="x")
    with pytest.raises(PlmEdgeError, match="no spare row"):
        tokens.add(path, "another", path, text="x")


@pytest.mark.parametrize(
    ("form", "key", "value", "why"),
    [
        ("tt:dims=16x16,ranks=4", "plm_edge.embed.dims", array([16, -16]), "no shape"),
        ("tt:dims=16x16,ranks=4", "plm_edge.embed.ranks", array([17]), "no shape"),
        ("tt:dims=16x16,ranks=4", "plm_edge.embed.ranks", array([4, 4]), "no shape"),
        ("r1", "plm_edge.embed.importance", array([1.0, 2.0]), "importance of 256 columns"),
        (None, "plm_edge.embed.kind", string("tt"), r"has no token_embd\.tt\.weight"),
        (None, "tokenizer.ggml.token_type", array([5] * 600), "520 tokens have 600 types"),
    ],
)
def test_keys_that_cannot_be(
    checkpoint: Path, tmp_path: Path, form: str | None, key: str, value: GGUFValue, why: str
) -> None:
    path = model_of(checkpoint, tmp_path / "a.gguf", form)
    with gguf_source.open_tensors(path) as (content, tensors):
        keys = gguf_source.all_keys(content) | {key: value}
        kept = [*tensors.values()]
        amend.amend(path, content.architecture, keys, kept, None, [], NoProgress())
    with pytest.raises(PlmEdgeError, match=why) as error:
        tokens.add(path, "new", path, vectors=np.zeros(SHAPE.hidden, np.float32))
    assert str(error.value).count("\n") == 2


@pytest.mark.parametrize("kind", ["text", "archive", "empty", "huge", "fields"])
def test_files_that_hold_no_vector(tmp_path: Path, kind: str) -> None:
    path, header = tmp_path / "vector.npy", io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 45,)}
    np.lib.format.write_array_header_1_0(header, shape)
    data = {"text": b"no array", "archive": b"PK\3\4", "empty": b"", "huge": header.getvalue()}
    if kind == "fields":
        np.save(path, np.zeros(3, [("a", "f4"), ("b", "f4")]))
    else:
        path.write_bytes(data[kind])
    with pytest.raises(PlmEdgeError, match="holds no vector"):
        tokens.read_vector(path)


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model_of(checkpoint, tmp_path / "a.gguf", None)
    vector = tmp_path / "vector.npy"
    np.save(vector, np.ones(SHAPE.hidden, np.float32))
    assert cli.main(["tokens", "add", str(path), "new", "--json"]) == ExitCode.USAGE
    capsys.readouterr()
    assert cli.main(["tokens", "add", str(path), "new", "--vector", str(vector), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "plm-edge/tokens-add/1"
    assert said["id"] == FIRST
    assert said["spare_rows"] == 4
    assert cli.main(["tokens", "add", str(path), "other", "--from", "a thing"]) == 0
    assert f"other is token {FIRST + 1}" in capsys.readouterr().out
