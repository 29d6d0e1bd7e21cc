"""The matrices of a model are quantised by what a text multiplies them by (`converters.gptq`).

A q8_0 of the model reads the text with our own engine; then one matrix after the other is
quantised from the original's weights. All that was computed stays on disk until a conversion has
taken it, so that an interrupted run goes on where it was, to the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from gguf import GGMLQuantizationType

from plm_edge import __version__
from plm_edge.base import folders
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.convert import Wanted, convert
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.gptq.codes_file import CodesFile
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.converters.tensors import Bytes, Floats, Rows, columns, rows
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats
from plm_edge.engine import library
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.options import Options
from plm_edge.machine import memory
from plm_edge.machine.threads import default_jobs
from plm_edge.quality import calibration_reading, kept, reference
from plm_edge.quality.products import InputProducts
from plm_edge.quality.text import TooLittleText

# Not W_down, which has as many columns as neurons: its products would take longer than all else
# together, and of it a token reads a tenth.
KINDS = (
    *(Kind.EMBEDDING, Kind.ATTN_Q, Kind.ATTN_KV_A, Kind.ATTN_KV_B, Kind.ATTN_OUT, Kind.FFN_UP),
)
READER = "q8_0"  # the type of the model that reads: its inputs are those of the original
_SHARE = 3  # the products of as many layers as take a third of the free memory are summed at once
_MOST = 4 << 30
_ROWS = 1024  # that are quantised together: the columns of a step fit a core's own cache


@dataclass(frozen=True)
class Watchers:
    """Who is told how far a rounding is: of bytes converted, of chunks read, of rows quantised."""

    converting: Progress = NoProgress()  # noqa: RUF009 -- has no state
    reading: Progress = NoProgress()  # noqa: RUF009
    rounding: Progress = NoProgress()  # noqa: RUF009


class RoundingByText:
    """A `converters.convert.Rounding`.

    Attributes:
        matrices: how many it quantised.
        resumed: of them, an earlier, interrupted run.

    Args:
        words: the text.
        options: how the model that reads is computed.
        watchers: told how far it is.
        embedding: it is quantised, too; without it another step does that.
    """

    name = "gptq"

    def __init__(
        self,
        words: str,
        options: Options | None = None,
        watchers: Watchers | None = None,
        *,
        embedding: bool = True,
    ) -> None:
        self.matrices = self.resumed = 0
        self._kinds = [kind for kind in KINDS if embedding or kind is not Kind.EMBEDDING]
        self._words, self._watchers = words, watchers or Watchers()
        self._options = options or Options(kv="f32")
        self._folder: Path | None = None

    def takes(self, spec: TensorSpec, type_: GGMLQuantizationType) -> bool:
        """See `Rounding`."""
        return spec.kind in self._kinds and type_ in grids.TYPES

    def round(self, source: Path, wanted: Sequence[Wanted]) -> Mapping[str, Rows]:
        """See `Rounding`.

        Raises:
            PlmEdgeError: the model cannot be computed, the text is too short, or the disk is full.
            KeyboardInterrupt: the person said so; the same again goes on.
        """
        tree = library.read_pin().tree
        key = kept.key("rounding", reference.hash_of(source), self._words, tree, __version__)
        folder = self._folder = folders.ensure(kept.folder() / "runs" / key)
        quantizer = Quantizer(library.load().ggml)
        made = {one.spec.name: _codes_file(one, folder) for one in wanted}
        todo = [one for one in wanted if not made[one.spec.name].is_whole()]
        self.matrices, self.resumed = len(wanted), len(wanted) - len(todo)
        reader = folder / f"{READER}.gguf"
        if todo and not reader.exists():
            convert(
                source,
                quant=READER,
                out=reader,
                threads=self._options.threads,
                progress=self._watchers.converting,
                allow_requantize=True,
            )
        self._watchers.rounding.begin(sum(rows(one.source.shape) for one in todo))
        for group in _groups(wanted, min(_MOST, memory.available().bytes // _SHARE)):
            left = [one for one in group if not made[one.spec.name].is_whole()]
            if not left:
                continue
            seen = InputProducts(reader, {_input_of(one.spec) for one in group}, key)
            self._read(reader, seen)
            for name, matrices in _by_input(left).items():
                tied = matrices[0].spec.kind is Kind.EMBEDDING
                damping = solve.OF_EMBEDDING if tied else solve.DAMPING
                factor = solve.factor(seen.sums.pop(name), damping)
                for one in matrices:
                    self._keep(one, made[one.spec.name].path, factor, quantizer)
            seen.kept.forget()
        return made

    def _read(self, reader: Path, seen: InputProducts) -> None:
        try:
            with Interrupt() as stop:
                options = replace(self._options, stop=stop)
                calibration_reading.read(reader, self._words, options, seen, self._watchers.reading)
        except TooLittleText:
            self.forget()  # nobody gives this text again
            raise

    def _keep(self, one: Wanted, path: Path, factor: Floats, quantizer: Quantizer) -> None:
        """Write the blocks of a matrix, some rows after the other.

        Raises:
            PlmEdgeError: they cannot be written (code ENVIRONMENT).
        """
        total = rows(one.source.shape)

        def some(first: int) -> Bytes:
            values = floats(one.source, first, min(_ROWS, total - first), quantizer)
            return solve.quantise(values, factor, one.type, quantizer)

        def watched(blocks: Iterable[Bytes]) -> Iterator[memoryview]:
            for block in blocks:
                self._watchers.rounding.advance(len(block))
                yield block.data

        with ThreadPoolExecutor(self._options.threads or default_jobs(), "round") as pool:
            blocks = pool.map(some, range(0, total, _ROWS))
            kept.write(path, lambda file: file.writelines(watched(blocks)))

    def forget(self) -> None:
        """Remove what is kept on disk, once a conversion has taken it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _codes_file(one: Wanted, folder: Path) -> CodesFile:
    path = folder / f"{one.spec.name}.{one.type.name.lower()}"
    return CodesFile(path, one.spec.name, one.type, one.source.shape)


def _input_of(spec: TensorSpec) -> str:
    """The matrix under whose name the products of its inputs are summed: the query and the latent
    are made of the same."""
    return spec.name.replace("attn_kv_a_mqa", "attn_q")


def _by_input(group: Sequence[Wanted]) -> dict[str, list[Wanted]]:
    found: dict[str, list[Wanted]] = {}
    for one in group:
        found.setdefault(_input_of(one.spec), []).append(one)
    return found


def _groups(wanted: Sequence[Wanted], limit: int) -> Iterator[list[Wanted]]:
    """Matrices of consecutive layers whose products take no more than `limit` bytes, and at least
    of one layer."""
    group: list[Wanted] = []
    taken = 0
    for layer in sorted({one.spec.layer for one in wanted}):
        of_layer = [one for one in wanted if one.spec.layer == layer]
        size = sum(
            4 * columns(matrices[0].source.shape) ** 2 for matrices in _by_input(of_layer).values()
        )
        if group and taken + size > limit:
            yield group
            group, taken = [], 0
        group += of_layer
        taken += size
    if group:
        yield group
