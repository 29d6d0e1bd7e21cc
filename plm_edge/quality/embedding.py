"""A model's token embedding is taken apart: `plm-edge convert --embed`.

Of the file nothing else changes. The importance of the columns of an embedding that is the output
matrix as well is collected by our own engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.convert import thread_count
from plm_edge.converters.embed import outline as outlines
from plm_edge.converters.embed.outline import EMBEDDING, OUTPUT, Outline
from plm_edge.converters.embed.rank_one import Pair
from plm_edge.converters.embed.spec import Quantised, Spec
from plm_edge.converters.embed.store import Form, Plain, Rests, Trains, store
from plm_edge.converters.gptq import solve
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.sources.gguf_source import GgufTensor
from plm_edge.converters.tensors import Floats, Renamed, Rows, Tensor
from plm_edge.converters.write import amend
from plm_edge.converters.write.amend import NewTensor
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model.description import EMBED_KEY, describe
from plm_edge.model.gguf_file import COARSE, GGUFFile
from plm_edge.quality import calibration_reading
from plm_edge.quality.calibration import HiddenStates, no_output
from plm_edge.quality.imatrix import Statistics
from plm_edge.quality.sums import Reading

N_CTX = 512
_ROWS = 2048  # of a pass that only sums


@dataclass(frozen=True)
class Parts:
    """What is to be done, and how; see `embed`.

    Attributes:
        source: the rows to take apart, where they are known better than the file has them.
        weights: [width] the importance of columns.
        products: [width, width] sums of h h^T over what the output matrix is multiplied by: rows
            are rounded by them (`converters.gptq`); `weights` are then left aside.
        workers: threads.
    """

    spec: Spec
    source: Rows | None = None
    weights: Floats | None = None
    products: Floats | None = None
    workers: int | None = None

    @property
    def importance(self) -> Floats | None:
        """The importance of columns, wherever it is from."""
        return self.weights if self.products is None else np.diag(self.products).astype(np.float32)


@dataclass(frozen=True)
class Embedded:
    """What was made.

    Attributes:
        outline: as it was planned.
        error: ‖E - Ê‖ / ‖E‖.
        size: of the file, in bytes.
    """

    out: Path
    outline: Outline
    error: float
    size: int


class _OfHead(Statistics):
    """Squares of what the output matrix is multiplied by, summed."""

    what = "importance of the output matrix"

    def wants_input(self, weight: str) -> bool:
        """See `Activations`."""
        return weight in (EMBEDDING, OUTPUT)


def importance(
    model: Path, words: str, options: Options, progress: Progress | None = None
) -> Floats:
    """Returns the mean square of each column of what a model's output matrix is multiplied by,
    [width], while it reads a text.

    Raises:
        PlmEdgeError: it cannot be computed, or the text is too short.
        KeyboardInterrupt: `options.stop` said so; the same again goes on.
    """
    seen = _OfHead(model, N_CTX)
    seen.read(words, Reading(N_CTX, None, options, progress or NoProgress()))
    seen.kept.forget()
    if not seen.entries:
        raise no_output(model)
    [entry] = seen.entries.values()
    found: Floats = (entry.sums / entry.tokens).astype(np.float32)
    return found


def products(model: Path, words: str, options: Options, progress: Progress | None = None) -> Floats:
    """Returns the sum of h h^T, [width, width], over what a model's output matrix is multiplied by,
    h, while it reads a text.

    Raises:
        PlmEdgeError: it cannot be computed, or the text is too short.
        KeyboardInterrupt: `options.stop` said so; the same again goes on.
    """
    seen = HiddenStates(model)
    calibration_reading.read(model, words, options, seen, progress or NoProgress())
    seen.kept.forget()
    found: Floats = seen.collected().products.astype(np.float32)
    return found


def measured(model: Path, spec: Quantised, words: str) -> Quantised:
    """Returns what was asked for, with its split where the tokens of a text put it: the smallest
    multiple of 256 below which its share of them is.

    Raises:
        PlmEdgeError: the model cannot be loaded, or the text has no tokens.
    """
    if spec.share is None:
        return spec
    with Session.open(model, Options(n_ctx=64)) as session:
        tokens = session.vocabulary.tokenize(words, parse_special=False)
    if not tokens:
        raise PlmEdgeError("the text has no tokens", "it is empty", "give another text")
    last = sorted(tokens)[(len(tokens) * spec.share - 1) // 100]
    return replace(spec, split=256 * (last // 256 + 1), share=None)


def is_tied(content: GGUFFile) -> bool:
    """Says whether the embedding of a model is its output matrix as well."""
    return all(tensor.name != OUTPUT for tensor in content.tensors)


def plan(content: GGUFFile, parts: Parts) -> Outline:
    """Returns what would be made of a GGUF.

    Raises:
        PlmEdgeError: nothing can be.
    """
    stored = {tensor.name: tensor for tensor in content.tensors}
    said = describe(content).embedding
    if EMBEDDING not in stored or said:
        why = f"its embedding is in parts already ({said})" if said else f"it has no {EMBEDDING}"
        raise _unfit(content.path, why, "give the model as it was before, or another one")
    entry = stored[EMBEDDING]
    if len(entry.shape) != 2:
        raise _unfit(content.path, f"{EMBEDDING} is no matrix", "get the file again")
    width, tokens = entry.shape
    type_ = GGMLQuantizationType[entry.type.upper()]
    factor = None if parts.products is None else solve.factor(parts.products, solve.OF_EMBEDDING)
    made = outlines.outline(
        *(parts.spec, (tokens, width), (type_, entry.n_bytes), is_tied(content)),
        *(parts.importance, factor),
    )
    coarse = any(name.startswith(COARSE) for name in stored)
    if coarse and is_tied(content) and not made.keeps:
        raise _unfit(
            content.path,
            "it is calibrated: a coarse form goes with an output matrix that stays as it is",
            "use the file as it was before --calibrate, or --embed tt with head=keep",
        )
    return made


def embed(
    model: Path,
    out: Path,
    parts: Parts,
    tell: Callable[[Outline], None] | None = None,
    making: Progress | None = None,
    writing: Progress | None = None,
    found: Callable[[float], None] | None = None,
) -> Embedded:
    """Write a GGUF again, with its token embedding in parts. It may be of any model.

    Args:
        out: the file to write; it may be the model itself.
        parts: the form, and of what it is made.
        tell, found: given the plan and the error, before anything is written.
        making, writing: told of rows and bytes.

    Raises:
        PlmEdgeError: it cannot be made, read or written; `out` is then as it was before.
    """
    quantizer = Quantizer(library.load().ggml)
    making = making or NoProgress()
    workers = thread_count(parts.workers)
    with gguf_source.open_tensors(model) as (content, tensors):
        made = plan(content, parts)
        source = parts.source or tensors[EMBEDDING]
        if source.shape != (made.tokens, made.width):
            raise _unfit(model, "its embedding is of another shape than the checkpoint's", "")
        if tell:
            tell(made)
        making.begin(made.tokens * (2 if made.kind == "r1" else 1))
        form = _form(made, source, quantizer, parts.importance, making)
        stored = store(
            *(source, form, made.parts, quantizer),
            *(out.resolve().parent, workers, making, made.head),
        )
        if found:
            found(stored.error)
        kept = list(_kept(tensors, made))
        was = [t.source.name if isinstance(t, Renamed) else t.name for t in kept]
        keys = {
            k: v for k, v in gguf_source.all_keys(content).items() if not k.startswith(EMBED_KEY)
        }
        size = amend.amend(
            out,
            content.architecture,
            keys | made.keys(),
            kept,
            gguf_source.hashes(content, was),
            [*stored.tensors, *_pair(form)],
            writing or NoProgress(),
        )
    return Embedded(out, made, stored.error, size)


def _form(
    made: Outline, source: Rows, quantizer: Quantizer, weights: Floats | None, progress: Progress
) -> Form:
    if made.train:
        return Trains(made.train, made.parts[0].row)
    if made.kind != "r1":
        return Plain()

    def blocks() -> Iterator[Floats]:
        for first in range(0, made.tokens, _ROWS):
            rows = floats(source, first, min(_ROWS, made.tokens - first), quantizer)
            yield rows
            progress.advance(len(rows))

    return Rests(Pair.of(blocks(), made.width, weights), made.tokens)


def _pair(form: Form) -> list[NewTensor]:
    if not isinstance(form, Rests):
        return []
    f32 = GGMLQuantizationType.F32
    return [
        NewTensor(outlines.U, f32, (len(form.u), 1), form.u),
        NewTensor(outlines.V, f32, form.pair.v.shape, form.pair.v),
    ]


def _kept(tensors: dict[str, GgufTensor], made: Outline) -> Iterator[Tensor]:
    for name, tensor in tensors.items():
        if name != EMBEDDING:
            yield tensor
        elif made.keeps:
            yield Renamed(tensor, OUTPUT)


def _unfit(path: Path, why: str, fix: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the embedding of {path.name} cannot be taken apart",
        why,
        fix or "give the checkpoint that the file was made from",
    )
