"""The pipeline reads, converts and writes tensors by blocks of rows, on all cores.

Every tensor's place in the file is known beforehand, so a thread writes what it made by itself, and
memory is bounded by threads times block size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.converters import planes
from plm_edge.converters.tensors import Bytes, Floats, Rows, columns, rows
from plm_edge.converters.transposed_tensor import TransposedTensor
from plm_edge.converters.write.gguf_header import TensorInfo
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.writer import AtomicFile

# Values in a block: small enough for a core's own cache, large enough that Python does not count.
BLOCK = 1 << 18
# The same where reading has a cost for each row of the source, however few of its columns are read.
BLOCK_TRANSPOSED = 1 << 20
_FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


@dataclass(frozen=True)
class Job:
    """A tensor to convert.

    Attributes:
        offset: where its data go in the file, in bytes.
        through: a 16-bit type that the values are rounded to on the way, or None.
        weights: [columns] the importance of each column, or None.
    """

    source: Rows
    target: TensorInfo
    offset: int
    through: GGMLQuantizationType | None
    weights: Floats | None = None


@dataclass(frozen=True)
class WrittenBlock:
    """A block as it was meant to be written.

    Attributes:
        job: the index of its job.
        offset: where it begins in the file, in bytes.
        size: its bytes.
        digest: their SHA-256.
    """

    job: int
    offset: int
    size: int
    digest: bytes


def run(
    jobs: Sequence[Job], quantizer: Quantizer, file: AtomicFile, threads: int, progress: Progress
) -> list[WrittenBlock]:
    """Convert all jobs into `file`.

    Returns:
        Every block that was written, in no order.

    Raises:
        PlmEdgeError: reading or writing failed, or a weight is not finite. Whatever is raised, no
            thread touches `file` any more.
    """
    quantizer.prepare({job.target.type for job in jobs})
    progress.begin(sum(source_bytes(job.source, rows(job.source.shape)) for job in jobs))
    worker = _Worker(quantizer, file)
    with ThreadPoolExecutor(threads, "convert") as pool:
        try:
            futures = [
                pool.submit(worker.convert, index, job, first, count)
                for index, job in enumerate(jobs)
                for first, count in _blocks(job)
            ]
            for future in as_completed(futures):
                progress.advance(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return worker.written


def buffer_bytes(job: Job) -> int:
    """Returns the most memory that one thread takes for a job, in bytes."""
    count = max((count for _, count in _blocks(job)), default=0)
    values = count * columns(job.source.shape)
    # raw, values, half, result, and what turning a matrix, or packing it in planes, copies through
    return source_bytes(job.source, count) + values * (4 + 2 + 4 + 1)


def source_bytes(tensor: Rows, count: int) -> int:
    """Returns how many bytes `count` rows take."""
    block, size = GGML_QUANT_SIZES[tensor.type]
    return count * columns(tensor.shape) // block * size


def _blocks(job: Job) -> Iterator[tuple[int, int]]:
    """(first row, rows) of each block."""
    tensor = job.source
    values = BLOCK_TRANSPOSED if isinstance(tensor, TransposedTensor) else BLOCK
    total, step = rows(tensor.shape), max(1, values // columns(tensor.shape))
    if job.target.in_planes:
        step = max(planes.ROWS, step // planes.ROWS * planes.ROWS)
    for first in range(0, total, step):
        yield first, min(step, total - first)


class _Buffers(threading.local):
    """Buffers of one thread, which grow to the largest block and are used again."""

    def __init__(self) -> None:
        self._arrays: dict[str, Bytes] = {}

    def take(self, name: str, size: int) -> Bytes:
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, np.uint8)
        return self._arrays[name][:size]


class _Worker:
    def __init__(self, quantizer: Quantizer, file: AtomicFile) -> None:
        self._quantizer = quantizer
        self._file = file
        self._buffers = _Buffers()
        self.written: list[WrittenBlock] = []

    def convert(self, index: int, job: Job, first: int, count: int) -> int:
        """Convert `count` rows from `first` on; returns the bytes that were read."""
        source, target = job.source, job.target
        width = columns(source.shape)
        raw = self._buffers.take("raw", source_bytes(source, count))
        source.read_rows(first, raw)
        if source.type not in _FLOATS and source.type == target.type:
            if not self._quantizer.is_finite(source.type, raw):
                raise _not_finite(source.name)
            self._write(index, job, first, count, raw)
            return raw.size
        values = self._quantizer.decode(
            source.type, raw, self._buffers.take("values", count * width * 4).view(np.float32)
        )
        _check_finite(source, first, values)
        block, block_bytes = GGML_QUANT_SIZES[target.type]
        row_bytes = width // block * block_bytes
        rounds = job.through not in (None, source.type)
        if source.type == target.type and not rounds:
            result = raw
        else:
            if job.through is not None and rounds:
                self._quantizer.round(
                    job.through, values, self._buffers.take("half", count * width * 2)
                )
                _check_finite(source, first, values, job.through)
            result = self._buffers.take("result", count * row_bytes)
            if not self._quantizer.encode(target.type, values, width, result, job.weights):
                raise _too_large(source.name, target.type)
        self._write(index, job, first, count, result)
        return raw.size

    def _write(self, index: int, job: Job, first: int, count: int, data: Bytes) -> None:
        """Write `count` rows from `first` on, in the form that they have in the file."""
        if not job.target.in_planes:
            self._write_at(index, job.offset + first * (data.size // count), data)
            return
        span = planes.Span.of(job.target.shape, first, count)
        for (start, _), part in zip(
            (span.blocks, span.low),
            self._quantizer.planes.pack(data, columns(job.target.shape), count),
            strict=True,
        ):
            self._write_at(index, job.offset + start, part)

    def _write_at(self, index: int, offset: int, data: Bytes) -> None:
        digest = hashlib.sha256(data.data).digest()
        self.written.append(WrittenBlock(index, offset, data.size, digest))
        self._file.write_at(offset, data.data)


def _check_finite(
    tensor: Rows, first: int, values: Floats, through: GGMLQuantizationType | None = None
) -> None:
    # Two passes that allocate nothing; NaN and infinity both fail the comparison.
    if np.isfinite(values.max()) and np.isfinite(values.min()):
        return
    if through is not None:
        raise _too_large(tensor.name, through)
    place = int(np.flatnonzero(~np.isfinite(values))[0])
    row, column = divmod(place, columns(tensor.shape))
    row += first
    if isinstance(tensor, TransposedTensor):
        row, column = column, row  # as the checkpoint has it
    raise PlmEdgeError(
        f"{tensor.name} has a weight that is no finite number",
        f"it is {values[place]} in row {row}, column {column}",
        "the checkpoint is damaged, or its training diverged: use another one",
    )


def _not_finite(name: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} has a block that is no finite number",
        "a scale of its quantised blocks is infinite or no number",
        "the file is damaged: get it again, or convert the original checkpoint",
    )


def _too_large(name: str, type_: GGMLQuantizationType) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} cannot be stored as {type_.name.lower()}",
        "one of its weights is too large for that type's 16-bit floats",
        "take --quant bf16 or f32",
    )
