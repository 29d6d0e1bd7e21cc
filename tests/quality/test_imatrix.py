"""Importance matrices: those of llama-imatrix, in both layouts, and what they are good for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.imatrix import ImportanceMatrix, read_imatrix
from plm_edge.quality import imatrix, kept
from plm_edge.quality.evaluation import Settings, evaluate
from plm_edge.quality.sums import Reading
from testkit import plm_gguf
from testkit.checkout import ROOT, Upstream
from tests.quality.conftest import ONE_THREAD

EMBEDDING = "token_embd.weight"


@pytest.fixture(scope="module")
def matrix(tiny_f32: Path, words: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made with tiny-plm in f32, of `words`."""
    out = tmp_path_factory.mktemp("imatrix") / "ours.gguf"
    imatrix.collect(tiny_f32, words, Reading(options=ONE_THREAD)).write(out, "words")
    return out


@pytest.fixture(scope="module")
def large(tiny_f32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of about 8,000 tokens: fewer leave too many neurons unseen to be of use."""
    files = sorted((ROOT / "plm_edge/engine").glob("*.py"))
    text = "".join(file.read_text(encoding="utf-8") for file in files)[:24_000]
    out = tmp_path_factory.mktemp("imatrix") / "large.gguf"
    imatrix.collect(tiny_f32, text, Reading(options=ONE_THREAD)).write(out, "plm_edge/engine")
    return out


def apart(one: ImportanceMatrix, other: ImportanceMatrix, name: str) -> float:
    """The largest difference of an entry, as a share of its largest value."""
    a, b = one.entries[name], other.entries[name]
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.slow
def test_it_is_that_of_llama_imatrix(
    upstream: Upstream, tiny_f32: Path, words: str, matrix: Path, tmp_path: Path
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "theirs.gguf"
    text.write_text(words, encoding="utf-8")
    command: list[str | Path] = [
        upstream.bin / "llama-imatrix",
        "-m",
        tiny_f32,
        "-f",
        text,
        "-o",
        out,
        "--no-ppl",
    ]
    command += ["-t", "1", "-b", "512", "-ctk", "f32", "-ctv", "f32", "-fa", "on"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    ours, theirs = read_imatrix(matrix), read_imatrix(out)
    assert set(ours.entries) - set(theirs.entries) == {EMBEDDING}
    assert set(theirs.entries) < set(ours.entries)
    assert ours.chunks == theirs.chunks
    # the order of sums in float32 is what is left
    assert max(apart(ours, theirs, name) for name in theirs.entries) < 1e-5


@pytest.mark.slow
def test_both_layouts_give_the_same(
    tiny_checkpoint: Path, words: str, matrix: Path, tmp_path: Path
) -> None:
    edge, out = tmp_path / "edge.gguf", tmp_path / "edge.imatrix.gguf"
    convert(tiny_checkpoint, quant="f32", layout="edge", out=edge)
    imatrix.collect(edge, words, Reading(options=ONE_THREAD)).write(out, "words")
    one, other = read_imatrix(out), read_imatrix(matrix)
    assert one.entries.keys() == other.entries.keys()
    assert one.entries["blk.1.ffn_down.weight"].size == 1024
    assert max(apart(one, other, name) for name in other.entries) < 1e-4


@pytest.mark.slow
def test_llama_quantize_takes_it_and_agrees_with_convert(
    upstream: Upstream, tiny_f32: Path, tiny_checkpoint: Path, matrix: Path, tmp_path: Path
) -> None:
    """The tied embedding's entry included: it has the same tensors."""
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    command: list[str | Path] = [
        upstream.bin / "llama-quantize",
        "--imatrix",
        matrix,
        tiny_f32,
        theirs,
        "q3_k_m",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    convert(tiny_f32, quant="q3_k_m", layout="stock", imatrix=matrix, out=ours)
    assert tensors(ours) == tensors(theirs)
    convert(tiny_f32, quant="q3_k_m", layout="stock", out=ours)
    assert tensors(ours)[EMBEDDING] != tensors(theirs)[EMBEDDING]


def tensors(path: Path) -> dict[str, bytes]:
    from plm_edge.model import gguf_file

    content = path.read_bytes()
    return {
        tensor.name: content[tensor.offset : tensor.offset + tensor.n_bytes]
        for tensor in gguf_file.read(path).tensors
    }


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["stock", "edge"])
def test_with_it_the_same_bytes_are_closer(
    tiny_f32: Path, tiny_checkpoint: Path, large: Path, tmp_path: Path, layout: str
) -> None:
    """On other text than it was made of."""
    other = (ROOT / "plm_edge/base/console.py").read_text(encoding="utf-8")[:6000]
    settings = Settings(n_ctx=256, options=ONE_THREAD)
    kl, sizes = [], []
    for given in (None, large):
        out = tmp_path / "model.gguf"
        convert(tiny_checkpoint, quant="q3_k_m", layout=layout, imatrix=given, out=out)
        found = evaluate(out, other, tiny_f32, settings).comparison
        assert found is not None
        kl.append(found.mean.value)
        sizes.append(sum(map(len, tensors(out).values())))
    assert sizes[0] == sizes[1]
    assert kl[1] < 0.98 * kl[0], kl


def test_entries_of_a_small_model(tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "model.gguf")
    found = imatrix.collect(model, "abcdefgh" * 8, Reading(32, options=ONE_THREAD))
    assert (found.chunks, found.n_ctx) == (2, 32)
    names = ("attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output", "ffn_up", "ffn_down")
    expected = {f"blk.{layer}.{name}.weight" for layer in range(2) for name in names}
    assert found.entries.keys() == expected | {EMBEDDING}
    assert {entry.tokens for entry in found.entries.values()} == {64}
    out = tmp_path / "out.gguf"
    found.write(out, "letters")
    matrix = read_imatrix(out)
    assert (matrix.datasets, matrix.chunks) == (("letters",), 2)
    entry = found.entries["blk.1.ffn_down.weight"]
    assert matrix.entries["blk.1.ffn_down.weight"] == pytest.approx(entry.sums / 64, rel=1e-6)
    assert [*tmp_path.glob(".*")] == []


def test_what_was_cut_short_by_a_loss_of_power_is_begun_anew(tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "model.gguf")

    def collect() -> imatrix.Collected:
        return imatrix.collect(model, "abcdefgh" * 8, Reading(32, options=ONE_THREAD))

    first = collect()
    assert (first.resumed, collect().resumed) == (0, 2)
    [sums] = (kept.folder() / "runs").glob("*/sums.npz")
    whole = sums.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2]):
        sums.write_bytes(damaged)
        again = collect()
        assert again.resumed == 0
        assert again.entries.keys() == first.entries.keys()
    again.write(tmp_path / "out.gguf", "letters")
    assert not sums.exists()


def test_weights_of_nan_are_refused(tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "model.gguf")
    content = bytearray(model.read_bytes())
    content[-4:] = np.array([np.nan], np.float32).tobytes()  # of the last layer's W_down
    model.write_bytes(content)
    with pytest.raises(PlmEdgeError) as caught:
        imatrix.collect(model, "abcdefgh" * 8, Reading(32, options=ONE_THREAD))
    assert "computes no numbers at token_embd.weight" in caught.value.what
