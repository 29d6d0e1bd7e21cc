"""A plugin is made: codec, reading, side, gates, memories."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine.options import Options
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.spa import codec as codecs
from plm_edge.spa import head, mixture, side, texts
from plm_edge.spa.base import Base
from plm_edge.spa.codec import Codec
from plm_edge.spa.memories import Memories
from plm_edge.spa.memory import BREAK, Memory
from plm_edge.spa.nearest import Nearest, Places
from plm_edge.spa.plugin import Plugin, Vocabulary
from plm_edge.spa.reading import WINDOW, Reading, folder, public_codec, read
from plm_edge.spa.training import Head, Settings, Trainer

HELD = 0.2
"""The share of the personal text by which gates, and how long to train, are chosen."""


@dataclass(frozen=True)
class Bars:
    """Who is told how far each step is."""

    codec: Progress
    reading: Progress


@dataclass(frozen=True)
class Made:
    """A plugin, and what it was made of.

    Attributes:
        size: values of the side that were trained.
        tokens: of the personal text.
        held: of these, held back from the side's training.
        epochs: passes of the side that was kept.
        base, mixed: perplexity of the held-back text under the base alone, and all together. The
            gates were fitted to it: new text is a little less likely.
    """

    plugin: Plugin
    size: int
    tokens: int
    held: int
    epochs: int
    base: float
    mixed: float


def codec_path(base: Path) -> Path:
    """Returns where a base's codec lies if nobody says otherwise: beside it."""
    return base.with_name(f"{base.stem}.codec.gguf")


def codec_of(
    base: Path, base_hash: str, given: Path | None, options: Options, progress: Progress
) -> Codec:
    """Returns the codec of a base: the one in `given`, or beside the base, or a new one, which is
    written there.

    Raises:
        PlmEdgeError: it is damaged, or another base's; or it cannot be made or written.
    """
    path = given or codec_path(base)
    if not path.is_file():
        if why := files.obstacle(path):
            raise _cannot_write(path, why)
        reader = Base(base, None, replace(options, n_ctx=WINDOW))
        try:
            made = public_codec(reader, texts.public(), progress)
        finally:
            reader.close()
        try:
            made.write(path, base_hash)
        except OSError as error:
            raise _cannot_write(path, str(error.strerror or error)) from error
    found, wanted = codecs.read(path)
    if wanted != base_hash:
        raise PlmEdgeError(
            f"{path.name} is another base's codec",
            f"it is for the file {wanted[:12]}…, and {base.name} is {base_hash[:12]}…",
            "give the codec of this base with --codec, or none: then it is made",
        )
    return found


def _cannot_write(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path} cannot be written",
        why,
        "name a file in a folder that you can write: --codec, or --out of plm-edge spa codec",
    )


def vocabulary_of(base: Base) -> Vocabulary:
    """Returns the bytes of a loaded base's tokens."""
    own = base.session.vocabulary
    pieces = [own.piece(token) for token in range(own.n_tokens)]
    return Vocabulary(
        np.frombuffer(b"".join(pieces), np.uint8),
        np.cumsum([len(piece) for piece in pieces], dtype=np.int32),
        np.array([t for t in range(own.n_tokens) if own.is_end(t)] or [-1], np.int32),
    )


@dataclass(frozen=True)
class Texts:
    """What the base said of a person's texts, and of public ones."""

    header: GGUFFile
    base_hash: str
    codec: Codec
    personal: Reading
    public: Reading
    vocabulary: Vocabulary


def read_texts(
    base: Path,
    words: Sequence[str],
    codec: Path | None,
    options: Options,
    bars: Bars,
    public: Sequence[str] | None = None,
) -> Texts:
    """Read personal and public texts with the base, once: what is kept is not read again.

    Raises:
        PlmEdgeError: the base cannot be loaded or does not show its states.
        KeyboardInterrupt: `Options.stop` said so.
    """
    base_hash = files.sha256(base)
    found = codec_of(base, base_hash, codec, options, bars.codec)
    reader = Base(base, found, replace(options, n_ctx=WINDOW))
    try:
        own = read(reader, base_hash, words, bars.reading)
        others = read(reader, base_hash, texts.public() if public is None else public, NoProgress())
        return Texts(reader.session.header, base_hash, found, own, others, vocabulary_of(reader))
    finally:
        reader.close()


def read_general(base: Path, given: Texts, options: Options) -> Reading:
    """Returns what the base says of `texts.general`.

    Raises:
        PlmEdgeError: the base cannot be loaded.
        KeyboardInterrupt: `Options.stop` said so.
    """
    reader = Base(base, given.codec, replace(options, n_ctx=WINDOW))
    try:
        return read(reader, given.base_hash, texts.general(), NoProgress())
    finally:
        reader.close()


def make(given: Texts, settings: Settings, progress: Progress, stop: Callable[[], bool]) -> Made:
    """Make a plugin of texts that were read.

    Raises:
        PlmEdgeError: there is too little personal text.
        KeyboardInterrupt: `stop` said so; whole passes are kept.
    """
    own = given.personal
    held = hold_back(own, settings.seed)
    text, rest = own.take(~held), own.take(held)
    if not len(text) or not len(rest):
        raise PlmEdgeError(
            "there is too little text",
            f"it has {len(own):,} tokens, of which some must be held back",
            "give some thousand words",
        )
    output = Head.of(given.header, np.unique(own.rows.ids))
    trainer = Trainer(text, rest, output, settings)
    key = hashlib.sha256(
        f"{given.base_hash} {given.codec.sha256()} {settings}".encode() + own.stream.tobytes()
    ).hexdigest()[:32]
    kept = folder() / "training" / f"{key}.npz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    weights = trainer.run(progress, kept, stop)
    plugin = assemble(given, weights)
    gates, (base, mixed) = fit_gates(plugin, given, rest)
    return Made(
        replace(plugin, gates=gates), weights.size, len(own), len(rest), trainer.best_epoch, base,
        mixed,
    )  # fmt: skip


def hold_back(own: Reading, seed: int) -> NDArray[np.bool_]:
    """Returns which rows of a personal text are held back, [rows]: whole texts; of a single one
    every fifth stretch of WINDOW tokens."""
    sizes = np.bincount(own.texts)
    chosen = texts.held_back(sizes.tolist(), HELD, seed)
    if chosen:
        return np.isin(own.texts, sorted(chosen))
    stretch = max(1, min(WINDOW, len(own) // 5))
    made: NDArray[np.bool_] = (np.arange(len(own)) // stretch + seed) % 5 == 4
    return made


def without(own: Reading, held: Reading, codec: Codec) -> Memories:
    """Returns the memories of a text without what was held back."""
    stream = own.stream.copy()
    stream[held.places] = BREAK
    rest = own.take(~np.isin(own.places, held.places))
    return Memories(Memory(stream), Nearest(Places.of(rest), codec))


def fit_gates(
    plugin: Plugin, given: Texts, held: Reading
) -> tuple[mixture.Gates, tuple[float, float]]:
    """Returns gates that fit held-back and public text, with memories that have seen neither; and
    the held-back text's perplexity under the base and under all together."""
    memories = without(given.personal, held, given.codec)
    own = plugin.judge(held, memories)
    gates = mixture.fit([own, plugin.judge(given.public, memories)])
    mixed = own[1].mixed(gates.of(own[0]))
    return gates, (perplexity(own[1].base), perplexity(mixed))


def perplexity(p: NDArray[np.float32]) -> float:
    """Returns exp of the mean of -ln p."""
    return float(np.exp(-np.log(np.maximum(p, 1e-30)).mean()))


def assemble(given: Texts, weights: side.Weights) -> Plugin:
    """Returns a plugin whose gates are still shut: the base answers."""
    matrix, scales = [], []
    for _, block in head.blocks(given.header):
        rows = block @ weights.up
        scale = np.maximum(np.abs(rows).max(-1) / 127, 1e-7).astype(np.float16)
        coded = np.rint(rows / scale.astype(np.float32)[:, None])
        matrix.append(np.clip(coded, -127, 127).astype(np.int8))
        scales.append(scale)
    # As they are stored, so that what is measured here is what the device computes.
    stored = {
        name: array.astype(np.float16).astype(np.float32)
        for name, array in weights.arrays().items()
    }
    return Plugin(
        given.base_hash, given.codec, side.Weights(**stored), np.concatenate(matrix),
        np.concatenate(scales), mixture.shut(), given.personal.stream,
        Places.of(given.personal), given.vocabulary,
    )  # fmt: skip
