"""Matrices that are quantised by a text: how far they are off, and how a model is that has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.verify import verify_file
from plm_edge.engine import library
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.quality import calibration_reading, kept, products
from plm_edge.quality.evaluation import Settings, evaluate
from plm_edge.quality.products import InputProducts
from plm_edge.quality.rounding import RoundingByText, Watchers
from testkit.checkout import ROOT, Upstream
from tests.quality.conftest import ONE_THREAD
from tests.quality.test_evaluation import figure, upstream_says

pytestmark = pytest.mark.slow
MATRICES = ("attn_kv_b", "attn_output", "ffn_up")
TYPES = sorted(grids.TYPES)


@pytest.fixture(scope="module")
def text() -> str:
    """Python that `words` are no part of: some 3,500 of tiny-plm's tokens."""
    files = ("session", "options", "vocabulary")
    paths = [ROOT / f"plm_edge/engine/{name}.py" for name in files]
    return "".join(path.read_text(encoding="utf-8") for path in paths)[:9_000]


@dataclass(frozen=True)
class Seen:
    """A matrix, and the products of its inputs on the text that calibrates and on another."""

    matrix: Floats
    calibrates: Floats
    judges: Floats


@pytest.fixture(scope="module")
def seen(
    tiny_f32: Path, words: str, text: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Seen]:
    """By kind, of one layer."""
    names = {f"blk.2.{kind}.weight": kind for kind in MATRICES}
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        for one in (text, words):
            observer = InputProducts(tiny_f32, names, "seen")
            calibration_reading.read(tiny_f32, one, ONE_THREAD, observer, NoProgress())
            found.append(observer.sums)
    weights = {t.name: np.array(t.data) for t in gguf.GGUFReader(tiny_f32).tensors}
    return {
        kind: Seen(weights[name], found[0][name], found[1][name]) for name, kind in names.items()
    }


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
@pytest.mark.parametrize("kind", MATRICES)
def test_products_are_closer_than_plain_and_than_with_an_importance_matrix(
    kind: str, type_: GGMLQuantizationType, seen: dict[str, Seen]
) -> None:
    """By the inputs of a text other than the one that calibrated."""
    quantizer, one = Quantizer(library.load().ggml), seen[kind]
    importance = np.ascontiguousarray(np.diag(one.calibrates))

    def error(raw: Bytes) -> float:
        into = np.empty(one.matrix.size, np.float32)
        off = quantizer.decode(type_, raw.reshape(-1), into).reshape(one.matrix.shape) - one.matrix
        return float(((off @ one.judges) * off).sum())

    def alone(weights: Floats | None) -> float:
        block, size = GGML_QUANT_SIZES[type_]
        raw = np.empty(one.matrix.size // block * size, np.uint8)
        quantizer.encode(type_, one.matrix, one.matrix.shape[1], raw, weights)
        return error(raw)

    found = error(solve.quantise(one.matrix, solve.factor(one.calibrates), type_, quantizer))
    assert found < 0.75 * alone(None)
    assert found < 0.75 * alone(importance)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, text: str) -> Path:
    """tiny-plm in q4_k, in the stock layout, calibrated."""
    folder = tmp_path_factory.mktemp("rounded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(folder / "cache"))
        rounding = RoundingByText(text, ONE_THREAD)
        out = folder / "stock.gguf"
        convert(tiny_checkpoint, quant="q4_k", layout="stock", out=out, rounding=rounding)
        assert rounding.matrices == 31
        rounding.forget()
        assert not [*(folder / "cache/eval/runs").iterdir()]
    return out


def test_only_codes_differ(stock: Path, tiny_stock: Path) -> None:
    before, after = gguf.GGUFReader(tiny_stock), gguf.GGUFReader(stock)
    changed = set()
    for one, other in zip(before.tensors, after.tensors, strict=True):
        same = (one.name, one.tensor_type, one.data.shape)
        assert same == (other.name, other.tensor_type, other.data.shape)
        if not np.array_equal(one.data, other.data):
            changed.add(one.name.split(".")[-2])
    attention = {"attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output"}
    assert changed == attention | {"ffn_up", "token_embd"}
    assert describe(gguf_file.read(stock)).calibrated
    assert not describe(gguf_file.read(tiny_stock)).calibrated
    verify_file(stock, Quantizer(library.load().ggml))


def test_llama_perplexity_reads_it_and_finds_it_closer(
    upstream: Upstream, stock: Path, tiny_stock: Path, tiny_f32: Path, words: str, tmp_path: Path
) -> None:
    """On a text other than the calibration's, by llama.cpp's own tool."""
    path, base = tmp_path / "text.txt", tmp_path / "base"
    path.write_text(words, encoding="utf-8")
    common = ["-f", str(path), "-c", "512", "-b", "512", "--kl-divergence-base", str(base)]
    upstream_says(upstream, "", "-m", tiny_f32, *common)
    found = [
        figure("Mean    KLD", upstream_says(upstream, "Same top p:", "-m", one, *common,
                                            "--kl-divergence"))[0]
        for one in (stock, tiny_stock)
    ]  # fmt: skip
    assert found[0] < 0.8 * found[1]


def test_what_is_quantised_stays_as_it_is(stock: Path, text: str, tmp_path: Path) -> None:
    rounding = RoundingByText(text, ONE_THREAD)
    out = tmp_path / "again.gguf"
    convert(stock, out=out, layout="stock", rounding=rounding)
    assert rounding.matrices == 0
    for one, other in zip(
        gguf.GGUFReader(stock).tensors, gguf.GGUFReader(out).tensors, strict=True
    ):
        np.testing.assert_array_equal(one.data, other.data)
    assert describe(gguf_file.read(out)).rounding == "gptq"


class After(NoProgress):
    """Stops what it watches after so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def advance(self, count: int) -> None:
        """Called after each step."""
        del count
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def test_what_was_interrupted_goes_on_to_the_same_file(
    stock: Path, tiny_checkpoint: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it reads and while it rounds; and two layers at a time, not six."""
    monkeypatch.setattr(products, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("plm_edge.quality.rounding._MOST", (1 + 2 * 4) * 256 * 256 * 4)
    out = tmp_path / "parts.gguf"

    def run(watchers: Watchers) -> RoundingByText:
        rounding = RoundingByText(text, ONE_THREAD, watchers)
        convert(tiny_checkpoint, quant="q4_k", layout="stock", out=out, rounding=rounding)
        return rounding

    class Total(NoProgress):
        chunks = 0

        def begin(self, total: int) -> None:
            """Called with the chunks that are left."""
            self.chunks += total

    with pytest.raises(KeyboardInterrupt):
        run(Watchers(reading=After(2)))
    with pytest.raises(KeyboardInterrupt):
        run(Watchers(rounding=After(7)))
    assert [*tmp_path.glob("*.gguf")] == []
    total = Total()
    rounding = run(Watchers(reading=total))
    assert rounding.resumed == 3  # the embedding, in four steps, and two more
    assert total.chunks == 10  # five for two groups of layers; all of the first one's were kept
    assert out.read_bytes() == stock.read_bytes()
    rounding.forget()
    assert not [*(kept.folder() / "runs").iterdir()]


def test_the_mixture_of_calibrated_files_is_smaller_and_no_worse(
    tiny_checkpoint: Path, tiny_gguf: Path, tiny_f32: Path, words: str, text: str, tmp_path: Path
) -> None:
    out = tmp_path / "edge.gguf"
    convert(tiny_checkpoint, quant="q4_k", out=out, rounding=RoundingByText(text, ONE_THREAD))
    attention = [
        sum(tensor.n_bytes for tensor in gguf_file.read(one).tensors if ".attn_" in tensor.name)
        for one in (out, tiny_gguf)
    ]
    assert attention[0] < 0.8 * attention[1]
    settings = Settings(options=ONE_THREAD)
    found = [evaluate(one, words, tiny_f32, settings).comparison for one in (out, tiny_gguf)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].mean.value < found[1].mean.value


def test_a_text_that_is_too_short(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(PlmEdgeError, match="too little text") as error:
        convert(tiny_checkpoint, out=out, rounding=RoundingByText("few words", ONE_THREAD))
    assert error.value.fix == "give --calibrate a longer text, or --calibrate default"
    assert not out.exists()
    assert not [*(kept.folder() / "runs").iterdir()]
