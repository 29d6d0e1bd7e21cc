"""Embeddings in parts, end to end: made of tiny-plm, run by the engine, compared with torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

from plm_edge import cli
from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.bench.analyse import cost
from plm_edge.converters.convert import convert
from plm_edge.converters.embed.spec import Quantised, parse
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write import amend
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file
from plm_edge.engine import library
from plm_edge.engine.observe import Node
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.quality.calibration import calibrate
from plm_edge.quality.divergence import log_softmax
from plm_edge.quality.embedding import Parts, embed, importance, measured, plan, products
from plm_edge.quality.figures import Values
from plm_edge.spa import head
from testkit import reference
from tests.quality.conftest import ONE_THREAD
from tests.store.splitting import split

pytestmark = pytest.mark.slow
TOKENS = [5, 900, 4000, 17, 1, 2047, 2048, 4095, 300, 301, 302, 33, 1023, 1024]
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


def made(tmp_path: Path, model: Path, form: str, weights: Floats | None = None) -> Path:
    out = tmp_path / "embedded.gguf"
    embed(model, out, Parts(parse(form), weights=weights, workers=2))
    return out


def rows_of(
    path: Path, value: Callable[[Values], Values] = lambda values: values
) -> tuple[Values, Values]:
    """The embedding at the input and in the head, in float64, by the format's description alone.

    Args:
        value: made of what is stored; np.abs gives how large the sums could be.
    """
    reader = gguf.GGUFReader(path)
    stored = {
        t.name: value(gguf.dequantize(t.data, t.tensor_type).astype(np.float64))
        for t in reader.tensors
        if t.name.startswith(("token_embd", "output.weight"))
    }
    if "token_embd.tt.weight" not in stored:
        kinds = (("r1", "low"), ("r1", "high"), ("split", "low"), ("split", "high"))
        names = ("token_embd.weight", *(f"token_embd.{a}.{b}.weight" for a, b in kinds))
        whole = np.concatenate([stored[name] for name in names if name in stored])
        if "token_embd.r1.u" in stored:
            whole += stored["token_embd.r1.u"] * stored["token_embd.r1.v"]
        return whole, whole
    dims, ranks = (reader.fields[f"plm_edge.embed.{name}"].contents() for name in ("dims", "ranks"))
    cores, at = stored["token_embd.tt.weight"], 0
    whole = np.ones((len(cores), 1, 1))
    for before, dim, after in zip([1, *ranks], dims, [*ranks, 1], strict=True):
        core = cores[:, at : at + before * dim * after].reshape(-1, dim, after, before)
        whole = np.einsum("tpa,tiba->tpib", whole, core).reshape(len(cores), -1, after)
        at += before * dim * after
    return whole[:, :, 0], stored["output.weight"]


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


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, tiny_f32: Path, words: str) -> Floats:
    """What tiny-plm's output matrix is multiplied by while it reads: sums of h h^T."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("seen")))
        return products(tiny_f32, words, ONE_THREAD)


def logits_of(path: Path, options: Options) -> Floats:
    """Of some tokens, one by one."""
    with Session.open(path, replace(options, n_ctx=64)) as session:
        rows = []
        for token in TOKENS:
            session.context.append([token])
            rows.append(np.array(session.context.logits())[-1])
        return np.stack(rows)


@pytest.mark.parametrize(
    "form",
    [
        *("tt:ratio=1.5", "r1,split=1000:q5_k/q3_k", "split=1000:q8_0/q3_k"),
        *(pytest.param(form, marks=pytest.mark.full) for form in ("r1", "type=q4_k")),
    ],
)
def test_logits_in_two_stages(
    tmp_path: Path, tiny_gguf: Path, words: str, seen: Floats, form: str
) -> None:
    """Likely ones are those of the model without a coarse form, whatever parts they are made of."""
    path, coarse = tmp_path / "embedded.gguf", tmp_path / "coarse.gguf"
    embed(tiny_gguf, path, Parts(parse(form), products=seen, workers=2))
    calibrate(path, words, coarse, ONE_THREAD)
    said = describe(gguf_file.read(coarse))
    assert said.two_stages
    assert said.embedding == describe(gguf_file.read(path)).embedding
    expected = logits_of(path, ONE_THREAD)
    # a product and a sum may be rounded at once; without a coarse form K-quants are laid out anew
    slack = 0.0 if form == "split=1000:q8_0/q3_k" else 2e-5
    np.testing.assert_allclose(logits_of(coarse, ONE_THREAD), expected, 0, slack)
    two_stages = replace(ONE_THREAD, full_logits=False)
    np.testing.assert_allclose(
        logits_of(coarse, replace(two_stages, exact=True)),
        logits_of(path, replace(two_stages, exact=True)),
        *(0, slack),
    )
    found = logits_of(coarse, two_stages)
    likely = expected > expected.max(1, keepdims=True) - 1
    np.testing.assert_allclose(found[likely], expected[likely], 0, slack)
    chances = np.exp(log_softmax(expected))
    assert 0 < (chances * (log_softmax(expected) - log_softmax(found))).sum(1).mean() < 0.003
    with Session.open(coarse, replace(two_stages, n_ctx=64)) as session:
        session.rows.reset()
        session.context.append([5])
        rows, read = session.rows.head()
    assert rows == 4096
    assert 0 < read < rows
    header = gguf_file.read(coarse)
    of_head = "output.weight" if form.startswith("tt") else "token_embd."
    expected_bytes = sum(t.n_bytes for t in header.tensors if t.name.startswith(of_head))
    assert cost.of(header, "f32", sparse=True).head_bytes == expected_bytes


def test_a_calibrated_embedding_is_not_taken_apart(
    tmp_path: Path, tiny_gguf: Path, words: str
) -> None:
    coarse = tmp_path / "coarse.gguf"
    calibrate(tiny_gguf, words, coarse, ONE_THREAD)
    with pytest.raises(PlmEdgeError, match="it is calibrated"):
        embed(coarse, tmp_path / "no.gguf", Parts(parse("r1")))
    assert not (tmp_path / "no.gguf").exists()


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, tiny_f32: Path) -> Floats:
    """As `seen`, of another text."""
    words = Path(__file__).read_text(encoding="utf-8")[:8000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("judge")))
        return products(tiny_f32, words, ONE_THREAD)


@pytest.mark.parametrize("form", ["type=q4_k", "r1,split=1024:q5_k/q3_k"])
def test_rows_are_rounded_by_a_text(
    tmp_path: Path, tiny_f32: Path, seen: Floats, judge: Floats, form: str
) -> None:
    """Logits are off by less than where columns are but weighed, also of another text."""
    weighed, rounded = tmp_path / "weighed.gguf", tmp_path / "rounded.gguf"
    embed(tiny_f32, weighed, Parts(parse(form), weights=np.diag(seen).copy(), workers=2))
    embed(tiny_f32, rounded, Parts(parse(form), products=seen, workers=2))
    one, other = gguf_file.read(weighed), gguf_file.read(rounded)
    assert [(t.name, t.type) for t in one.tensors] == [(t.name, t.type) for t in other.tensors]
    exact = rows_of(tiny_f32)[1]

    def lost(path: Path) -> float:
        error = rows_of(path)[1] - exact
        return float(np.einsum("ij,ij->", error @ judge, error))

    assert lost(rounded) < 0.85 * lost(weighed)


def test_a_plain_embedding_is_of_no_form(tmp_path: Path, tiny_f32: Path, seen: Floats) -> None:
    """Any program reads it."""
    path = tmp_path / "plain.gguf"
    found = embed(tiny_f32, path, Parts(parse("type=q5_k"), products=seen))
    assert found.outline.size == 4096 * 176
    keys = gguf_file.read(path).keys
    assert [key for key in keys if "embed." in key] == ["plm_edge.embed.importance"]
    assert describe(gguf_file.read(path)).embedding == ""


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


def test_the_command_of_a_model(
    tmp_path: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gguf"
    command = ["convert", str(tiny_gguf), "--out", str(out)]
    assert cli.main([*command, "--embed", "tt:dims=16x16,ranks=4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "plm-edge/embed/1"
    assert said["embedding"]["element_ratio"] == 2.0
    assert said["embedding"]["size"] == out.stat().st_size
    assert said["embedding"]["growth_bytes"] == said["embedding"]["embedding_bytes"]
    assert cli.main(["inspect", str(out), "--verify"]) == 0
    assert "tensor trains" in capsys.readouterr().out
    console.set_quiet(False)
    assert cli.main([*command, "--embed", "tt:ratio=2"]) == 0
    assert "this file grows by" in capsys.readouterr().err
    assert cli.main([*command, "--embed", "tt:dims=16x17"]) == ExitCode.USAGE
    assert "256" in capsys.readouterr().err
    for slip in (["--threads", "-1"], ["--layout", "square"]):
        capsys.readouterr()
        assert cli.main([*command, "--embed", "tt", *slip]) == ExitCode.USAGE
        assert slip[0].strip("-") in capsys.readouterr().err
    # the other layout is not passed over: W_down would be quantised a second time
    assert cli.main([*command, "--embed", "tt", "--layout", "stock"]) != 0
    assert "--allow-requantize" in capsys.readouterr().err


def test_the_command_with_a_text(
    tmp_path: Path,
    tiny_gguf: Path,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is there when it is calibrated, too, or not at all."""
    out, text = tmp_path / "out.gguf", tmp_path / "words.txt"
    text.write_text(words)
    command = ["convert", str(tiny_gguf), "--out", str(out), "--embed", "split=1024:q5_k/q3_k"]
    command += ["--calibrate", str(text), "--json"]

    def fails(*_: object) -> None:
        raise PlmEdgeError("no", "it should not", "see the test")

    with monkeypatch.context() as patch:
        patch.setattr("plm_edge.quality.calibration.calibrate", fails)
        assert cli.main(command) != 0
    assert sorted(path.name for path in tmp_path.glob("*")) == ["cache", "words.txt"]
    capsys.readouterr()
    assert cli.main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["embedding"]["rounded"]
    assert said["embedding"]["types"] == ["q5_k", "q3_k"]
    assert said["embedding"]["size"] == said["calibration"]["size"] == out.stat().st_size
    found = describe(gguf_file.read(out))
    assert (found.embedding, found.two_stages) == ("split", True)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["cache", "out.gguf", "words.txt"]


def test_the_command_of_a_checkpoint(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own vectors are taken apart, not those that were quantised."""
    out = tmp_path / "out.gguf"
    command = ["convert", str(tiny_checkpoint), "--out", str(out), "--quant", "q3_k_m", "--json"]
    assert cli.main([*command, "--embed", "tt:dims=16x17"]) == ExitCode.USAGE
    assert not out.exists()
    capsys.readouterr()
    assert cli.main([*command, "--embed", "tt:dims=16x16,ranks=16"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["embedding"]["error"] < 1e-3
    assert said["embedding"]["size"] == out.stat().st_size
    at_input, in_head = rows_of(out)
    own = reference.Plm(tiny_checkpoint).embedding.numpy()
    assert np.abs(at_input - own).max() < 1e-3 * np.abs(own).max()
    assert np.abs(in_head - own).max() > 1e-2 * np.abs(own).max()


@pytest.mark.full
def test_the_command_for_other_programs(
    tmp_path: Path, tiny_checkpoint: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "out.gguf", tmp_path / "words.txt"
    text.write_text(words)
    command = ["convert", str(tiny_checkpoint), "--out", str(out), "--layout", "stock"]
    command += ["--embed", "type=q4_k", "--calibrate", str(text), "--json"]
    assert cli.main(command) == 0
    said = json.loads(capsys.readouterr().out)["embedding"]
    assert (said["kind"], said["types"], said["rounded"]) == ("type", ["q4_k"], True)
    found = describe(gguf_file.read(out))
    assert (found.layout, found.embedding, found.two_stages) == ("stock", "", False)
    logits_of(out, ONE_THREAD)
