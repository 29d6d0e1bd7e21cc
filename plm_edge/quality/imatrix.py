"""An importance matrix: the mean square of what each column of each weight is multiplied by.

The file is llama.cpp's (tools/imatrix). Beyond what llama-imatrix collects, it has an entry for a
tied embedding, which is the output matrix too. The sums are kept on disk after each chunk, so that
an interrupted reading goes on where it was, to the same bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.quality.activations import Inputs
from plm_edge.quality.kept import KeptSums
from plm_edge.quality.sums import Reading, State, Sums

_WANTED = re.compile(r"blk\.\d+\..+\.weight|(?:output|token_embd)\.weight")


@dataclass(frozen=True)
class Entry:
    """Statistics of one weight matrix.

    Attributes:
        sums: [column]; squares of its inputs, summed over tokens.
        tokens: how many.
    """

    sums: NDArray[np.float64]
    tokens: int


@dataclass(frozen=True)
class Collected:
    """An importance matrix, and the text that it is of.

    Attributes:
        entries: by the tensor's name in a GGUF.
        chunks: of `n_ctx` tokens.
        resumed: chunks that an earlier, interrupted reading had read.
        sums: what is kept on disk until the matrix is written.
    """

    entries: dict[str, Entry]
    chunks: int
    n_ctx: int
    resumed: int
    sums: KeptSums

    def write(self, out: Path, text: str) -> None:
        """Write it as llama-imatrix does. The file appears when it is whole, or not at all.

        Args:
            text: what the file says it was made from.

        Raises:
            OSError: it cannot be written.
        """
        beside = out.with_name(f".{out.name}.partial")
        writer = gguf.GGUFWriter(beside, "")
        # gguf wants an architecture; an importance matrix has none
        writer.kv_data[0].clear()
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [text])
        writer.add_uint32("imatrix.chunk_count", self.chunks)
        writer.add_uint32("imatrix.chunk_size", self.n_ctx)
        for name, entry in sorted(self.entries.items()):
            writer.add_tensor(f"{name}.in_sum2", entry.sums.astype(np.float32)[None])
            writer.add_tensor(f"{name}.counts", np.full((1, 1), entry.tokens, np.float32))
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            beside.replace(out)
        except BaseException:
            writer.close()
            beside.unlink(missing_ok=True)
            raise
        self.sums.forget()


class Statistics(Sums):
    """Sums of squares by weight."""

    what = "imatrix"

    def __init__(self, model: Path, n_ctx: int) -> None:
        super().__init__(model)
        self.entries: dict[str, Entry] = {}
        self._n_ctx = n_ctx

    def state(self) -> State:
        """See `Sums`."""
        return {name: entry.sums for name, entry in self.entries.items()}

    def restore(self, state: State) -> None:
        """See `Sums`."""
        tokens = self.resumed * self._n_ctx
        self.entries = {name: Entry(sums, tokens) for name, sums in state.items()}

    def wants_input(self, weight: str) -> bool:
        """See `Activations`."""
        return _WANTED.fullmatch(weight) is not None

    def take_input(self, weight: str, inputs: Inputs) -> None:
        """See `Activations`.

        Raises:
            PlmEdgeError: a value is no finite number.
        """
        sums = np.square(inputs).sum(0, dtype=np.float64)
        if not np.isfinite(sums).all():
            raise PlmEdgeError(
                f"the model computes no numbers at {weight}",
                "its input has values that are infinite or no numbers",
                "use a GGUF of f32, bf16 or q8_0, made from a sound checkpoint",
            )
        before = self.entries.get(weight)
        if before is not None:
            sums += before.sums
        self.entries[weight] = Entry(sums, len(inputs) + (before.tokens if before else 0))


def collect(model: Path, words: str, how: Reading | None = None) -> Collected:
    """Read a text through a model and note what its weights are multiplied by.

    Args:
        words: the text.

    Raises:
        PlmEdgeError: the text is too short, or the model cannot be computed.
        KeyboardInterrupt: `how.options.stop` said so; call it again to go on.
    """
    how = how or Reading()
    seen = Statistics(model, how.n_ctx)
    chunks = seen.read(words, how)
    return Collected(seen.entries, len(chunks), how.n_ctx, seen.resumed, seen.kept)
