"""Embeddings in parts, end to end: made of tiny-plm, run by the engine, compared with torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert
from plm_edge.converters.embed.spec import Quantised, parse
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.write import amend
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file
from plm_edge.engine import library
from plm_edge.engine.observe import Node
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.quality.calibration import calibrate
from plm_edge.quality.embedding import Parts, embed, importance, measured, plan
from plm_edge.quality.figures import Values
from plm_edge.spa import head
from testkit import reference
from tests.quality.conftest import ONE_THREAD
from tests.quality.embedded import TOKENS, made, rows_of
from tests.store.splitting import split

pytestmark = pytest.mark.slow


FORMS = [
    "tt:dims=16x16,ranks=4",
    "tt:dims=16x16,ranks=5,cores=q8_0",
    "tt:dims=4x8x8,ranks=4x6",
    "tt:dims=2x2x2x2x2x2x2x2,ranks=4,cores=q8_0",
    "tt:dims=16x16,ranks=6,head=cores",
    "r1",
    "r1,type=q3_k",
    "r1,split=1024:q5_k/q3_k",
    "split=1024:q5_k/q3_k",
    "type=q4_k",
]


class Input:
    """Sees what the first layer is given."""

    rows: Values

    def wants(self, node: Node) -> bool:
        return node.name == "embd"

    def take(self, node: Node) -> None:
        self.rows = node.values()[0, 0].astype(np.float64)


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_computes_what_torch_does(
    tmp_path: Path, tiny_f32: Path, tiny_checkpoint: Path, form: str
) -> None:
    path = made(tmp_path, tiny_f32, form)
    at_input, in_head = rows_of(path)
    plm = reference.Plm(tiny_checkpoint)
    plm.embedding = torch.from_numpy(at_input).float()
    expected = plm.forward(TOKENS).hidden.double().numpy() @ in_head.T

    seen = Input()
    options = replace(ONE_THREAD, n_ctx=64, max_outputs=64, observer=seen)
    with Session.open(path, options) as session:
        batch = session.context.batch(len(TOKENS))
        batch.extend(TOKENS, 0, wanted="all")
        session.context.decode(batch)
        logits = np.array(session.context.logits())
        together = seen.rows
        alone = []
        for at, token in enumerate(TOKENS[:4]):
            batch.clear()
            batch.extend([token], len(TOKENS) + at, wanted="all")
            session.context.decode(batch)
            alone.append(seen.rows[0])
    sizes = rows_of(path, np.abs)[0][TOKENS]
    assert (np.abs(together - at_input[TOKENS]) <= 2**-20 * sizes).all()
    np.testing.assert_array_equal(np.stack(alone), together[:4])
    # the head's own type rounds its input to 8 bits in products of quantised rows
    scale = np.abs(expected).max()
    quantised = not form.startswith("tt")
    assert np.abs(logits - expected).max() < (0.02 if quantised else 1e-4) * scale


def test_another_architecture(tmp_path: Path, chat_gguf: Path) -> None:
    """SmolLM2, whose graph is upstream's: with fine types the logits stay about what they were."""
    out = tmp_path / "smol.gguf"
    embed(chat_gguf, out, Parts(parse("r1,split=8192:q8_0/q8_0")))
    found = []
    for path in (chat_gguf, out):
        with Session.open(path, replace(ONE_THREAD, n_ctx=64, max_outputs=64)) as session:
            ids = session.vocabulary.tokenize("The capital of France is", parse_special=False)
            batch = session.context.batch(len(ids) + 2)
            batch.extend([*ids, 8191, 8192], 0, wanted="all")
            session.context.decode(batch)
            found.append(np.array(session.context.logits()))
    before, after = found
    assert (before.argmax(1) == after.argmax(1)).all()
    assert (before - after).std() < 0.1 * before.std()


def test_rows_that_are_no_whole_blocks_take_another_type(chat_gguf: Path) -> None:
    found = plan(gguf_file.read(chat_gguf), Parts(parse("r1,split=8192:q5_k/q3_k")))
    assert [part.type.name for part in found.parts] == ["Q5_0", "IQ4_NL"]
    assert [(a.name, b.name) for a, b in found.swapped] == [("Q5_K", "Q5_0"), ("Q3_K", "IQ4_NL")]


def test_a_split_by_a_share_of_a_text(tiny_gguf: Path, words: str) -> None:
    spec = parse("r1,split=90%:q5_k/q3_k")
    assert isinstance(spec, Quantised)
    found = measured(tiny_gguf, spec, words)
    assert found.split is not None
    assert found.split % 256 == 0
    with Session.open(tiny_gguf, ONE_THREAD) as session:
        tokens = np.array(session.vocabulary.tokenize(words, parse_special=False))
    assert (tokens < found.split).mean() >= 0.9 > (tokens < found.split - 256).mean()


def test_file_and_keys(tmp_path: Path, tiny_gguf: Path) -> None:
    out = tmp_path / "tt.gguf"
    told: list[int] = []
    spec = parse("tt:ratio=2.0,cores=q8_0")
    found = embed(tiny_gguf, out, Parts(spec), tell=lambda plan: told.append(plan.growth))
    before, after = gguf_file.read(tiny_gguf), gguf_file.read(out)
    rows = 4096 * 128 // 32 * 34  # 16 x 16 of rank 4: 128 values in blocks of 32
    assert found.outline.size == rows
    assert told == [rows]
    assert after.tensor_bytes == before.tensor_bytes + rows
    assert found.size == after.file_bytes == out.stat().st_size
    assert describe(after).embedding == "tt"
    one, other = gguf.GGUFReader(tiny_gguf), gguf.GGUFReader(out)
    for mine, theirs in zip(one.tensors, other.tensors, strict=False):
        name = "output.weight" if mine.name == "token_embd.weight" else mine.name
        assert theirs.name == name
        np.testing.assert_array_equal(mine.data, theirs.data)
    assert verify_file(out, Quantizer(library.load().ggml)).hashed
    again = tmp_path / "again.gguf"
    embed(tiny_gguf, again, Parts(spec, workers=1))
    assert again.read_bytes() == out.read_bytes()


def test_rank_one_is_smaller(tmp_path: Path, tiny_f32: Path, words: str) -> None:
    weights = importance(tiny_f32, words, ONE_THREAD)
    assert weights.shape == (256,)
    assert (weights > 0).all()
    out = tmp_path / "r1.gguf"
    found = embed(
        tiny_f32, out, Parts(parse("r1,split=1024:q5_k/q3_k"), weights=weights, workers=2)
    )
    expected = 1024 * 176 + 3072 * 110 + 4 * (4096 + 256)
    assert found.outline.size == expected
    assert found.outline.growth == expected - 4096 * 256 * 4
    assert gguf_file.read(out).keys["plm_edge.embed.split"] == 1024
    assert found.error < 0.25


def test_interrupted_the_importance_goes_on(tiny_f32: Path, words: str) -> None:
    class Once(NoProgress):
        chunks = 0

        def begin(self, total: int) -> None:
            """Called with the chunks that are left."""
            self.chunks = total

        def advance(self, count: int) -> None:
            """Called after each chunk."""
            raise KeyboardInterrupt

    whole = importance(tiny_f32, words, ONE_THREAD)
    first, second = Once(), Once()
    for progress in (first, second):
        with pytest.raises(KeyboardInterrupt):
            importance(tiny_f32, words, ONE_THREAD, progress)
    assert second.chunks == first.chunks - 1
    np.testing.assert_array_equal(importance(tiny_f32, words, ONE_THREAD), whole)


def test_a_calibrated_embedding_is_not_taken_apart(
    tmp_path: Path, tiny_gguf: Path, words: str
) -> None:
    coarse = tmp_path / "coarse.gguf"
    calibrate(tiny_gguf, words, coarse, ONE_THREAD)
    with pytest.raises(PlmEdgeError, match="it is calibrated"):
        embed(coarse, tmp_path / "no.gguf", Parts(parse("r1")))
    assert not (tmp_path / "no.gguf").exists()


def test_parts_are_not_taken_apart_again_nor_converted(tmp_path: Path, tiny_gguf: Path) -> None:
    path = made(tmp_path, tiny_gguf, "r1")
    with pytest.raises(PlmEdgeError, match="in parts already") as error:
        embed(path, tmp_path / "no.gguf", Parts(parse("tt")))
    assert len(str(error.value).split("\n")) == 3
    with pytest.raises(PlmEdgeError, match="in parts"):
        convert(path, quant="q4_k", out=tmp_path / "no.gguf", allow_requantize=True)
    with pytest.raises(PlmEdgeError, match="in parts"):
        head.tensor(gguf_file.read(path))


def test_one_of_several_files_is_refused_before_any_work(
    tmp_path: Path, tiny_gguf: Path, words: str
) -> None:
    split(tiny_gguf, tmp_path / "part")
    first, out = tmp_path / "part-00001-of-00002.gguf", tmp_path / "out.gguf"
    for work in (
        lambda: embed(first, out, Parts(parse("r1"))),
        lambda: calibrate(first, words, out, ONE_THREAD),
    ):
        with pytest.raises(PlmEdgeError, match="one of several files"):
            work()
    assert not out.exists()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("plm_edge.embed.version", GGUFValue(2, GGUFValueType.UINT32), "version 2"),
        ("plm_edge.embed.kind", GGUFValue("x", GGUFValueType.STRING), "kind 'x'"),
        ("plm_edge.embed.dims", GGUFValue([16, 17], GGUFValueType.ARRAY), "dims"),
        ("plm_edge.embed.ranks", GGUFValue([4, 4], GGUFValueType.ARRAY), "ranks"),
        (
            "plm_edge.embed.dims",
            GGUFValue([1] * 10 + [16, 16], GGUFValueType.ARRAY),
            "fit each other",
        ),
    ],
)
def test_keys_that_cannot_be_are_refused(
    tmp_path: Path, tiny_gguf: Path, key: str, value: GGUFValue, why: str
) -> None:
    path = made(tmp_path, tiny_gguf, "tt:dims=16x16,ranks=4")
    with gguf_source.open_tensors(path) as (content, tensors):
        keys = gguf_source.all_keys(content) | {key: value}
        if key.endswith("dims"):  # as many ranks as there should be
            ranks = [1] * (len(value.value) - 2) + [4]
            keys["plm_edge.embed.ranks"] = GGUFValue(ranks, GGUFValueType.ARRAY)
        amend.amend(
            *(tmp_path / "bad.gguf", content.architecture, keys, [*tensors.values()]),
            *(None, [], NoProgress()),
        )
    with pytest.raises(PlmEdgeError, match=why):
        Session.open(tmp_path / "bad.gguf", ONE_THREAD).close()


@pytest.mark.parametrize("form", ["tt:dims=16x16,ranks=4", "r1", "split=1024:q5_k/q3_k"])
def test_an_engine_that_does_not_know_the_keys_refuses_the_file(
    tmp_path: Path, tiny_gguf: Path, form: str
) -> None:
    """It is what engines before version 1 of the form do: to them the keys mean nothing."""
    path, out = made(tmp_path, tiny_gguf, form), tmp_path / "bad.gguf"
    with gguf_source.open_tensors(path) as (content, tensors):
        keys = gguf_source.all_keys(content)
        keys = {name: value for name, value in keys.items() if "embed." not in name}
        amend.amend(out, content.architecture, keys, [*tensors.values()], None, [], NoProgress())
    with pytest.raises(PlmEdgeError, match=r"not found|wrong number of tensors"):
        Session.open(out, ONE_THREAD).close()
