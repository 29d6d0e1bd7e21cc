"""Sums over what a model's weights are multiplied by, which an interrupted reading takes up again.

They are kept on disk after each chunk of the text: the same command goes on where it was, to the
same bits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine.options import Options
from plm_edge.quality import activations, kept, reference
from plm_edge.quality.activations import Activations
from plm_edge.quality.kept import KeptSums
from plm_edge.quality.text import Chunks

_DONE = "chunks"  # beside the sums: how many chunks they are of
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Reading:
    """How a text is read through a model.

    Attributes:
        n_ctx: tokens of a chunk; each is begun anew.
        most: chunks; None takes all.
        options: how the model is computed.
        progress: told of chunks.
    """

    n_ctx: int = 512
    most: int | None = None
    options: Options = Options()  # noqa: RUF009 -- frozen
    progress: Progress = NoProgress()  # noqa: RUF009 -- it holds nothing


class Sums(Activations):
    """Activations of which only sums are kept.

    Attributes:
        resumed: chunks that an earlier, interrupted reading had read.
        kept: what is on disk until somebody forgets it.
        n_chunks: of the text that is being read.
    """

    what: str  # names the kind of sums
    place = ""  # a key under which they are kept beside others of the same

    def __init__(self, model: Path) -> None:
        self.resumed = self.n_chunks = 0
        self.kept: KeptSums
        self._model = model

    @abstractmethod
    def state(self) -> State:
        """Returns the sums so far, by name, at the end of a chunk."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Go on from what `state` returned once."""

    def begin(self, chunks: Chunks, how: str) -> int:
        """See `Activations`."""
        key = kept.key(self.what, reference.hash_of(self._model), how, chunks)
        self.kept, self.n_chunks = KeptSums(f"{self.place}/{key}".lstrip("/")), len(chunks)
        found = self.kept.read()
        if found:
            self.resumed = int(found.pop(_DONE))
            self.restore(found)
        return self.resumed

    def end_chunk(self, chunk: int) -> None:
        """See `Activations`."""
        self.kept.keep({**self.state(), _DONE: np.array(chunk + 1)})

    def read(self, words: str, how: Reading) -> Chunks:
        """Read a text, or what of it was not read yet.

        Args:
            words: the text.

        Raises:
            PlmEdgeError: the text is too short, or the model cannot be computed.
            KeyboardInterrupt: `how.options.stop` said so; a new object goes on.
        """
        return activations.read(
            self._model, words, how.n_ctx, how.most, how.options, self, how.progress
        )
