"""`verify` reads a written file again, because its writer's word alone proves nothing.

Right after a conversion, everything is at hand to compare with: each block's hash as it was meant
to be, and the source. Later, a file is checked against the hashes that it carries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters import planes
from plm_edge.converters.planes import PlanesTensor
from plm_edge.converters.tensors import Bytes, Floats, Tensor, columns, rows
from plm_edge.converters.write.gguf_header import Plan, TensorInfo
from plm_edge.converters.write.pipeline import Job, WrittenBlock
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.writer import AtomicFile
from plm_edge.model import ggml_types, gguf_file
from plm_edge.model.description import describe

Q = GGMLQuantizationType
_CHUNK = 1 << 20
SAMPLES = 3  # rows of a tensor
# Largest relative error of a row (root of the mean square), far above what is usual: a wrong row, a
# wrong tensor or a wrong order makes 1.4.
LIMITS = {
    **{Q.F32: 0.0, Q.F16: 1e-3, Q.BF16: 8e-3, Q.Q8_0: 0.05, Q.Q6_K: 0.2},
    **{Q.Q5_K: 0.35, Q.Q5_0: 0.35, Q.Q5_1: 0.35, Q.Q4_K: 0.5, Q.Q4_0: 0.5, Q.Q4_1: 0.5},
    **{Q.IQ4_NL: 0.6, Q.IQ4_XS: 0.6},
}
COARSEST = 0.95  # of the others, and where an importance matrix gives some columns up for others
# What f16 block scales cannot resolve: rows of nearly nothing become zero.
FLOOR = 2e-4


def verify_written(
    file: AtomicFile,
    plan: Plan,
    jobs: Sequence[Job],
    written: Sequence[WrittenBlock],
    quantizer: Quantizer,
    threads: int,
) -> list[str]:
    """Compare the unfinished `file` with what was meant to be written to it.

    Returns:
        SHA-256 of each tensor's data, in the order of `jobs`.

    Raises:
        PlmEdgeError: it differs: the disk, the memory or this program is at fault.
    """
    _check_header(file, plan, [job.target for job in jobs])
    blocks: dict[int, list[WrittenBlock]] = {index: [] for index in range(len(jobs))}
    for block in written:
        blocks[block.job].append(block)
    checker = _Checker(file, quantizer)
    with ThreadPoolExecutor(threads, "verify") as pool:
        try:
            return list(pool.map(checker.check, jobs, blocks.values()))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _check_header(file: AtomicFile, plan: Plan, infos: Sequence[TensorInfo]) -> None:
    """Byte by byte, and by the reader that `run` and `inspect` use, which shares nothing with the
    writer."""
    path = file.partial
    content = gguf_file.read(path)
    found = [(t.name, tuple(reversed(t.shape)), t.type, t.offset) for t in content.tensors]
    expected = [
        (info.name, info.shape, ggml_types.TENSOR_TYPES[info.type][0], offset)
        for info, offset in zip(infos, plan.offsets, strict=True)
    ]
    if found != expected or content.file_bytes != plan.size:
        wrong = next((b for a, b in zip(found, expected, strict=False) if a != b), expected[-1])
        raise _differs(path, f"the entry of {wrong[0]} is not the one that was written")
    header = np.empty(len(plan.header), np.uint8)
    file.read_at(0, header)
    if header.tobytes() != plan.header:
        raise _differs(path, "its header is not the one that was written")


@dataclass(frozen=True)
class _WrittenTensor:
    """What was written of a job, as a `tensors.Tensor`."""

    file: AtomicFile
    job: Job

    @property
    def name(self) -> str:
        return self.job.target.name

    @property
    def type(self) -> GGMLQuantizationType:
        return self.job.target.type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.job.target.shape

    def read_rows(self, first: int, into: Bytes) -> None:
        self.read_bytes(first * _row_bytes(self.type, columns(self.shape)), into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        self.file.read_at(self.job.offset + start, into)


class _Checker:
    def __init__(self, file: AtomicFile, quantizer: Quantizer) -> None:
        self._file = file
        self._quantizer = quantizer

    def check(self, job: Job, blocks: list[WrittenBlock]) -> str:
        whole = hashlib.sha256()
        position = job.offset
        for block in sorted(blocks, key=lambda b: b.offset):
            data = np.empty(block.size, np.uint8)
            self._file.read_at(block.offset, data)
            whole.update(data.data)
            if block.offset != position or hashlib.sha256(data.data).digest() != block.digest:
                raise _differs(self._file.target, f"{job.target.name} at byte {block.offset}")
            position += block.size
        if position != job.offset + job.target.size:
            raise _differs(self._file.target, f"{job.target.name} ends at byte {position}")
        count = rows(job.target.shape)
        for row in sorted({0, count // 2, count - 1} if count >= SAMPLES else set(range(count))):
            self._check_row(job, row)
        return whole.hexdigest()

    def _check_row(self, job: Job, row: int) -> None:
        """The row as stored, decoded, against the source's."""
        width = columns(job.target.shape)
        source = np.empty(_row_bytes(job.source.type, width), np.uint8)
        job.source.read_rows(row, source)
        expected = self._values(job.source.type, source, width)
        stored = np.empty(_row_bytes(job.target.type, width), np.uint8)
        self._stored(job).read_rows(row, stored)
        found = self._values(job.target.type, stored, width)
        limit = LIMITS.get(job.target.type, COARSEST) if job.weights is None else COARSEST
        # A column that the matrix found of no importance is given up wholly: it counts as little
        # here as it did for the quantiser.
        share = None if job.weights is None else _shares(job.weights)
        limit = limit * _rms(expected, share) + FLOOR if job.target.type != Q.F32 else 0.0
        error = _rms(found - expected, share)
        if not error <= limit:
            raise _differs(
                self._file.target,
                f"row {row} of {job.target.name} has an error of {error:.3g}, "
                f"at most {limit:.3g} is possible",
            )

    def _stored(self, job: Job) -> Tensor:
        written = _WrittenTensor(self._file, job)
        return PlanesTensor(written, self._quantizer.planes) if job.target.in_planes else written

    def _values(self, type_: GGMLQuantizationType, raw: Bytes, width: int) -> Floats:
        return self._quantizer.decode(type_, raw, np.empty(width, np.float32))


def _rms(values: Floats, share: Floats | None = None) -> float:
    return float(np.sqrt(np.average(np.square(values, dtype=np.float64), weights=share)))


def _shares(weights: Floats) -> Floats | None:
    """Importances as shares; None where none is above zero."""
    return weights if weights.any() else None


def _row_bytes(type_: GGMLQuantizationType, width: int) -> int:
    block, size = GGML_QUANT_SIZES[type_]
    return width // block * size


def _differs(path: Path, where: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path.name} is not what was written to it",
        where,
        "check this machine's disk and memory, and convert again; if it stays, report it",
        ExitCode.ENVIRONMENT,
    )


@dataclass(frozen=True)
class Verdict:
    """What a check of a whole file found.

    Attributes:
        tensors: number of tensors that were read.
        bytes: of their data.
        hashed: the file carries hashes, and all of them are right. Without them only the header
            and the form of the blocks could be checked.
    """

    tensors: int
    bytes: int
    hashed: bool

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields, for --json."""
        return {"tensors": self.tensors, "bytes": self.bytes, "hashed": self.hashed}


def verify_file(path: Path, quantizer: Quantizer) -> Verdict:
    """Check every byte of a GGUF's weights against the hashes that it carries.

    Raises:
        PlmEdgeError: the file is damaged; names the first tensor that is.
    """
    content = gguf_file.read(path)
    said = describe(content)
    listed = said.tensor_hashes
    hashes = None if listed is None else listed.values()
    if hashes is not None and len(hashes) != len(content.tensors):
        raise _damaged(path, f"{len(hashes)} hashes for {len(content.tensors)} tensors")
    with path.open("rb", buffering=0) as file:
        for index, tensor in enumerate(content.tensors):
            digest, sound = _digest(file.fileno(), tensor, tensor.name in said.planes, quantizer)
            if hashes is not None and digest != hashes[index]:
                raise _damaged(path, f"the weights of {tensor.name} have changed")
            if not sound:
                raise _damaged(path, f"{tensor.name} has a block that is no finite number")
    size = sum(tensor.n_bytes for tensor in content.tensors)
    return Verdict(len(content.tensors), size, hashes is not None)


def _digest(
    fd: int, tensor: gguf_file.Tensor, in_planes: bool, quantizer: Quantizer
) -> tuple[str, bool]:
    """SHA-256 of a tensor's data, and whether every block of it is finite."""
    type_ = GGMLQuantizationType(ggml_types.NUMBERS[tensor.type])
    _, size = ggml_types.TYPE_SIZES[tensor.type]
    scales = tensor.n_bytes  # bytes from the start that hold blocks with scales
    if in_planes and planes.fits(type_, tuple(reversed(tensor.shape))):
        size = planes.BLOCK_BYTES
        scales = planes.Span.of(tuple(reversed(tensor.shape)), 0, tensor.shape[-1]).blocks[1]
    digest, sound, done = hashlib.sha256(), True, 0
    buffer = np.empty(_CHUNK // size * size, np.uint8)
    while done < tensor.n_bytes:
        part = buffer[: min(buffer.size, tensor.n_bytes - done)]
        if files.read_at(fd, part, tensor.offset + done) < part.size:
            raise PlmEdgeError(
                "the file ended while it was read", tensor.name, "leave it alone, and start again"
            )
        digest.update(part.data)
        blocks = part[: max(0, scales - done)]
        if scales < tensor.n_bytes:
            sound = sound and planes.is_finite(blocks)
        else:
            sound = sound and quantizer.is_finite(type_, blocks)
        done += part.size
    return digest.hexdigest(), sound


def _damaged(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path.name} is damaged", f"{path}: {why}", "get the file again, or convert it again"
    )
