"""The rows of an embedding become rows of its parts: on all cores, a bounded number at a time.

What is made waits in a file without a name beside the one to be, so that memory holds some blocks
of rows only.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.converters.embed.rank_one import Pair
from plm_edge.converters.embed.spec import Train
from plm_edge.converters.embed.tensor_train import decompose, rebuild
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.tensors import Bytes, Floats, Rows
from plm_edge.converters.write.amend import NewTensor
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats

ROWS = 256  # computed at once by one thread
_ROUNDED = 1024  # of rows that are rounded by a text


@dataclass(frozen=True)
class Part:
    """A tensor to be made, of a row a token.

    Attributes:
        tokens: whose rows it has.
        row: values of a row.
        weights: [row] the importance of each column, or None.
        factor: [row, row] by which rows are rounded (`gptq.solve`) if the type has a grid, or None.
    """

    name: str
    type: GGMLQuantizationType
    tokens: range
    row: int
    weights: Floats | None = None
    factor: Floats | None = None

    @property
    def rounded(self) -> bool:
        """Whether rows are rounded by a text."""
        return self.factor is not None and self.type in grids.TYPES

    @property
    def size(self) -> int:
        """Bytes."""
        block, size = GGML_QUANT_SIZES[self.type]
        return len(self.tokens) * (self.row // block) * size


class Form(Protocol):
    """Rows of an embedding, [token, width], and rows of a part of it, [token, row]."""

    def apart(self, rows: Floats, first: int) -> Floats:
        """Returns what a part stores of the rows of the tokens from `first` on."""
        ...

    def together(self, stored: Floats, first: int) -> Floats:
        """Returns the rows that are computed from what is stored."""
        ...


@dataclass(frozen=True)
class Trains:
    """A `Form`: each row a tensor train of its own."""

    train: Train
    row: int

    def apart(self, rows: Floats, first: int) -> Floats:
        """See `Form`."""
        del first
        return decompose(rows, self.train, self.row)

    def together(self, stored: Floats, first: int) -> Floats:
        """See `Form`."""
        del first
        return rebuild(stored, self.train)


class Plain:
    """A `Form`: the rows themselves."""

    def apart(self, rows: Floats, first: int) -> Floats:
        """See `Form`."""
        del first
        return rows

    def together(self, stored: Floats, first: int) -> Floats:
        """See `Form`."""
        del first
        return stored


class Rests:
    """A `Form`: what a rank-1 pair leaves over.

    Attributes:
        u: [token], filled while rows are taken apart.
    """

    def __init__(self, pair: Pair, tokens: int) -> None:
        self.pair = pair
        self.u = np.zeros(tokens, np.float32)

    def apart(self, rows: Floats, first: int) -> Floats:
        """See `Form`."""
        u = self.pair.u(rows)
        self.u[first : first + len(rows)] = u
        return self.pair.rest(rows, u)

    def together(self, stored: Floats, first: int) -> Floats:
        """See `Form`."""
        return stored + self.u[first : first + len(stored), None] * self.pair.v


@dataclass(frozen=True)
class Stored:
    """What was made.

    Attributes:
        tensors: one for each part, and the head's last if one was asked for.
        error: ‖E - Ê‖ / ‖E‖, over all rows.
    """

    tensors: list[NewTensor]
    error: float


@dataclass(frozen=True)
class _Block:
    data: Bytes
    head: Bytes | None
    over: float  # squares of what is lost, summed
    of: float  # squares of the rows, summed


def store(
    source: Rows,
    form: Form,
    parts: Sequence[Part],
    quantizer: Quantizer,
    folder: Path,
    workers: int,
    progress: Progress,
    head: Part | None = None,
) -> Stored:
    """Make the parts.

    Args:
        source: the embedding, (tokens, width).
        folder: where there is room for what is made.
        workers: threads.
        progress: told of rows, and to begin by the caller.
        head: a matrix of the rows that are computed from the parts, or None.

    Raises:
        PlmEdgeError: rows cannot be read, hold what is no number, or there is no room.
    """
    quantizer.prepare({part.type for part in parts})
    head_file = _Spool(folder) if head else None
    made: list[NewTensor] = []
    over = of = 0.0
    with ThreadPoolExecutor(workers, "embed") as pool:
        for part in parts:
            step = _ROUNDED if part.rounded else ROWS

            def work(first: int, part: Part = part, step: int = step) -> _Block:
                count = min(step, part.tokens.stop - first)
                return _block(source, form, part, first, count, quantizer, head)

            spool = _Spool(folder)
            starts = range(part.tokens.start, part.tokens.stop, step)
            for block in _in_order(pool, work, starts, 3 * workers):
                spool.append(block.data)
                if head_file and block.head is not None:
                    head_file.append(block.head)
                over, of = over + block.over, of + block.of
                progress.advance(len(block.data) * len(part.tokens) // part.size)
            made.append(_tensor(part, spool))
    if head and head_file:
        made.append(_tensor(head, head_file))
    return Stored(made, float(np.sqrt(over / of)) if of else 0.0)


def _block(
    source: Rows,
    form: Form,
    part: Part,
    first: int,
    count: int,
    quantizer: Quantizer,
    head: Part | None,
) -> _Block:
    rows = floats(source, first, count, quantizer)
    if not np.isfinite(rows).all():
        raise _no_number(source.name, first)
    values = form.apart(rows, first)
    data = _encode(part, values, quantizer)
    stored = quantizer.decode(part.type, data, np.empty(values.size, np.float32))
    again = form.together(stored.reshape(values.shape), first)
    return _Block(
        data,
        None if head is None else _encode(head, again, quantizer),
        float(np.square(again - rows, dtype=np.float64).sum()),
        float(np.square(rows, dtype=np.float64).sum()),
    )


def _encode(part: Part, values: Floats, quantizer: Quantizer) -> Bytes:
    """
    Raises:
        PlmEdgeError: a block of it is no finite number.
    """
    whole = np.ascontiguousarray(values)
    if part.factor is not None and part.rounded:
        blocks = np.ascontiguousarray(
            solve.quantise(whole, part.factor, part.type, quantizer)
        ).reshape(-1)
        if not quantizer.is_finite(part.type, blocks):
            raise _no_number(part.name, 0)
        return blocks
    data = np.empty(part.size // len(part.tokens) * len(values), np.uint8)
    if not quantizer.encode(part.type, whole, part.row, data, part.weights):
        raise _no_number(part.name, 0)
    return data


def _tensor(part: Part, spool: _Spool) -> NewTensor:
    return NewTensor(part.name, part.type, (len(part.tokens), part.row), spool.all())


class _Spool:
    """Bytes in a file that is gone when nobody holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- see above

    def append(self, data: Bytes) -> None:
        """
        Raises:
            PlmEdgeError: there is no room.
        """
        with self._room():
            self._file.write(data.data)

    def all(self) -> Bytes:
        """Returns all of them, without reading them yet.

        Raises:
            PlmEdgeError: there is no room for the last of them.
        """
        with self._room():
            self._file.flush()
        return np.memmap(self._file, np.uint8, "r")

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PlmEdgeError(
                f"there is no room in {self._folder}",
                os.strerror(error.errno or 0),
                "make room, or give another --out",
                ExitCode.ENVIRONMENT,
            ) from error


class _Work(Protocol):
    def __call__(self, first: int) -> _Block: ...


def _in_order(pool: ThreadPoolExecutor, work: _Work, starts: range, ahead: int) -> Iterator[_Block]:
    """What the work gives, in order; so many are begun before they are asked for."""
    waiting: deque[Future[_Block]] = deque()
    try:
        for first in starts:
            waiting.append(pool.submit(work, first))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _no_number(name: str, first: int) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} cannot be taken apart",
        f"from row {first} on it has a value that is infinite or no number",
        "use a model that was made from a sound checkpoint",
    )
