"""A model is calibrated: hidden states on some text say how its output matrix is best made coarse.

Our own engine collects the states. Their sums are kept on disk after each chunk, so that an
interrupted calibration goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.embed.outline import EMBEDDING, OUTPUT, SPLITS
from plm_edge.converters.embed.whole import Whole
from plm_edge.converters.head import form
from plm_edge.converters.head.states import States
from plm_edge.converters.head.states import Sums as Moments
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write import amend
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.model.gguf_file import COARSE
from plm_edge.quality import calibration_reading
from plm_edge.quality.activations import Inputs
from plm_edge.quality.sums import State, Sums

# its own, or the embedding, of whose two parts both are multiplied by the same
_MATRICES = (OUTPUT, EMBEDDING, *(low for low, _ in SPLITS.values()))


class HiddenStates(Sums):
    """Moments of what the output matrix is multiplied by.

    Attributes:
        sums: what came so far; None where nothing did.
    """

    what = "states"

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self.sums: Moments | None = None

    def states(self) -> States:
        """Returns what was collected, once a text was read.

        Raises:
            PlmEdgeError: nothing was.
        """
        return self.collected().states()

    def collected(self) -> Moments:
        """Returns the sums, once a text was read.

        Raises:
            PlmEdgeError: the model multiplied by no output matrix.
        """
        if self.sums is None:
            raise no_output(self._model)
        return self.sums

    def state(self) -> State:
        """See `Sums`."""
        if self.sums is None:
            return {}
        tokens = np.array(self.sums.tokens)
        return {"tokens": tokens, "sum": self.sums.sum, "products": self.sums.products}

    def restore(self, state: State) -> None:
        """See `Sums`."""
        if state:
            self.sums = Moments(int(state["tokens"]), state["sum"], state["products"])

    def wants_input(self, weight: str) -> bool:
        """See `Activations`."""
        return weight in _MATRICES

    def take_input(self, weight: str, inputs: Inputs) -> None:
        """See `Activations`.

        Raises:
            PlmEdgeError: a value is no finite number.
        """
        if not np.isfinite(inputs).all():
            raise PlmEdgeError(
                f"the model computes no numbers at {weight}",
                "its input has values that are infinite or no numbers",
                "calibrate a model that was made from a sound checkpoint",
            )
        if self.sums is None:
            self.sums = Moments.none(inputs.shape[1])
        self.sums.add(inputs)


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        tokens: that the states are of.
        resumed: chunks that an earlier, interrupted calibration had read.
        deviation: of a coarse logit's error, in nats, by the states.
        matrix_bytes, coarse_bytes: of the output matrix, and of its coarse form.
        size: of the file.
    """

    out: Path
    tokens: int
    resumed: int
    deviation: float
    matrix_bytes: int
    coarse_bytes: int
    size: int


def calibrate(
    model: Path,
    words: str,
    out: Path,
    options: Options | None = None,
    reading: Progress | None = None,
    making: Progress | None = None,
    writing: Progress | None = None,
) -> Calibrated:
    """Write a GGUF again, with the coarse form of its output matrix. It may be of any model.

    Args:
        words: the text.
        out: the file to write; it may be the model itself.
        options: how the model is computed.
        reading, making, writing: told of chunks, rows and bytes.

    Raises:
        PlmEdgeError: it cannot be computed, read or written; `out` is then as it was before.
        KeyboardInterrupt: `options.stop` said so; call it again to go on.
    """
    _check(model)
    seen = HiddenStates(model)
    chosen = options or Options(kv="f32")
    chunks = calibration_reading.read(model, words, chosen, seen, reading or NoProgress())
    with gguf_source.open_tensors(model) as (content, tensors):
        matrix = Whole((tensors[OUTPUT],)) if OUTPUT in tensors else Whole.of(tensors)
        assert matrix is not None
        rows = matrix.tokens
        quantizer = Quantizer(library.load().ggml)

        def blocks() -> Iterator[Floats]:
            for first in range(0, rows, form.ROWS):
                yield matrix.rows(first, min(form.ROWS, rows - first), quantizer)

        coarse = form.make(blocks, rows, seen.states(), making or NoProgress())
        kept_tensors = [t for name, t in tensors.items() if not name.startswith(COARSE)]
        size = amend.amend(
            out,
            content.architecture,
            gguf_source.all_keys(content),
            kept_tensors,
            gguf_source.hashes(content, [t.name for t in kept_tensors]),
            coarse.tensors,
            writing or NoProgress(),
        )
    seen.kept.forget()
    stored = {t.name: t.n_bytes for t in content.tensors}
    return Calibrated(
        out,
        len(chunks) * chunks.n_ctx,
        seen.resumed,
        coarse.deviation,
        sum(stored[table.name] for table in matrix.tables),
        sum(t.data.nbytes for t in coarse.tensors),
        size,
    )


def _check(model: Path) -> None:
    """
    Raises:
        PlmEdgeError: the file is one of several, or has no output matrix.
    """
    with gguf_source.open_tensors(model) as (_, tensors):
        if OUTPUT in tensors or Whole.of(tensors):
            return
    raise no_output(model)


def no_output(model: Path) -> PlmEdgeError:
    """Returns the error of a model that computes no logits."""
    return PlmEdgeError(
        f"{model.name} has no output matrix",
        "what counts in its rows is told by what they are multiplied by, while a text is read",
        "use a model that writes text",
    )
