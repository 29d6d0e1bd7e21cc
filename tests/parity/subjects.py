"""The models that the engine and the reference are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from plm_edge.converters.convert import convert
from testkit.checkout import ROOT
from testkit.checkpoints import PlmShape, write_checkpoint
from testkit.reference import Output, Plm
from tests.parity.engine import Engine, Logits, Model, Row, Setting, interleaved, rows

TINY = ROOT / "examples" / "tiny-plm" / "checkpoint"

# Sizes that no kernel likes, one head, odd head counts, a rotary part wider than the rest, value
# heads unlike key heads, PLM-1.8B's own attention, and mostly zeros after ReLU.
SHAPES = {
    "odd": PlmShape(hidden=72, heads=3, nope=20, rope=16, v=28, kv_lora=72, ffn=152),
    "one-head": PlmShape(hidden=64, heads=1, nope=64, rope=64, v=32, kv_lora=64, ffn=160),
    "four-heads": PlmShape(hidden=96, heads=4, nope=24, rope=32, v=40, kv_lora=160, ffn=224),
    "wide-rope": PlmShape(hidden=128, heads=16, nope=16, rope=64, v=8, kv_lora=128, ffn=256),
    "plm-attention": PlmShape(
        layers=1, hidden=64, heads=16, nope=128, rope=64, v=128, kv_lora=512, ffn=128
    ),
    "zeros": PlmShape(layers=3, hidden=128, heads=4, nope=32, rope=32, v=32, kv_lora=96, ffn=512),
}
ZEROS = {"zeros": 0.9}
# Rows of whole blocks of 32, latent and rotary key each: what q8_0 and q4_0 caches ask for.
QUANTISABLE = ("one-head", "four-heads", "wide-rope", "plm-attention", "zeros", "tiny-plm")
ALL = (*SHAPES, "tiny-plm")


@dataclass
class Subject:
    """One model in both hands: the engine's file with f32 weights, and the torch reference."""

    folder: Path
    gguf: Path
    engine: Engine
    _known: dict[tuple[int, ...], Output] = field(default_factory=dict)
    _clear: tuple[list[int], list[int]] | None = None

    @cached_property
    def model(self) -> Model:
        return self.engine.load(self.gguf)

    @cached_property
    def reference(self) -> Plm:
        return Plm(self.folder)

    @cached_property
    def text(self) -> list[int]:
        """700 tokens: Python source for a model that knows Python, else random ones."""
        if self.folder == TINY:
            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            source = Path(__file__).with_name("prompt.txt").read_text(encoding="utf-8")
            ids: list[int] = tokenizer.encode(source).ids[:700]
            assert len(ids) == 700
            return ids
        return [int(token) for token in np.random.default_rng(7).integers(0, 256, 700)]

    def known(self, tokens: Sequence[int]) -> Output:
        """The reference's answer, worked out once."""
        key = tuple(tokens)
        if key not in self._known:
            self._known[key] = self.reference.forward(tokens)
        return self._known[key]

    def expected(self, tokens: Sequence[int]) -> Logits:
        """The reference's logits [T, vocab]."""
        return self.known(tokens).logits.numpy()

    def clear_text(self, least: int, count: int, clear: float) -> tuple[list[int], list[int]]:
        """A prompt of `least` tokens or a few more, and the `count` greedy tokens after it, at
        each of which the reference's best logit leads by `clear`: rounding decides near ties."""
        if self._clear is None:
            for length in range(least, len(self.text)):
                text = self.reference.generate(self.text[:length], count, clear)
                if len(text) == count:
                    self._clear = self.text[:length], text
                    break
            else:
                raise AssertionError(f"no clear prompt in the text of {self.folder.name}")
        return self._clear

    def sequences(self, *lengths: int) -> list[list[int]]:
        """Pieces of `text`, one after the other."""
        ends = np.cumsum(lengths).tolist()
        assert ends[-1] <= len(self.text)
        return [self.text[end - n : end] for n, end in zip(lengths, ends, strict=True)]


def make(name: str, folder: Path, engine: Engine) -> Subject:
    """A subject by name; its files lie in `folder`."""
    source = TINY
    if name != "tiny-plm":
        seed, zeros = list(SHAPES).index(name), ZEROS.get(name, 0.5)
        source = write_checkpoint(folder / name, SHAPES[name], seed, "f32", zeros=zeros)
    gguf = folder / f"{name}.gguf"
    convert(source, quant="f32", out=gguf)
    return Subject(source, gguf, engine)


def error_of(
    subject: Subject, lengths: tuple[int, ...], setting: Setting, model: Model | None = None
) -> float:
    """NMSE of all rows when sequences of these lengths are decoded as one interleaved batch.

    Args:
        model: the subject's in another file; None: its own.
    """
    sequences = subject.sequences(*lengths)
    batch = interleaved(as_rows(sequences))
    expected = by_row(batch, [subject.expected(tokens) for tokens in sequences])
    with (model or subject.model).context(setting) as context:
        return nmse(context.decode(batch), expected)


def by_row(batch: Sequence[Row], sequences: Sequence[Logits]) -> Logits:
    """Expected logits of each row of a batch whose sequences start at position 0."""
    return np.stack([sequences[row.sequence][row.position] for row in batch])


def as_rows(sequences: Sequence[Sequence[int]]) -> list[list[Row]]:
    return [rows(tokens, sequence=i) for i, tokens in enumerate(sequences)]


def nmse(got: Logits, expected: Logits) -> float:
    """Mean squared error over all positions, in units of the logits' variance within a position.

    A constant added to all logits of a position changes no probability, and a large one would
    hide errors: each position is centred first, which makes the measure the stricter one.
    """
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    got = got - got.mean(-1, keepdims=True, dtype=np.float64)
    expected = expected - expected.mean(-1, keepdims=True, dtype=np.float64)
    return float(np.square(got - expected).sum() / np.square(expected).sum())
