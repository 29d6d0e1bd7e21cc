"""How a calibration reads its text."""

from __future__ import annotations

from pathlib import Path

from plm_edge.base.progress import Progress
from plm_edge.engine.options import Options
from plm_edge.quality import activations
from plm_edge.quality.activations import Activations
from plm_edge.quality.text import Chunks, TooLittleText

N_CTX = 512  # tokens of a chunk


def read(
    model: Path, words: str, options: Options, observer: Activations, progress: Progress
) -> Chunks:
    """Read all of a text through a model while an observer looks on; see `activations.read`.

    Raises:
        TooLittleText: the text fills no chunk.
        PlmEdgeError: the model cannot be loaded or computed.
        KeyboardInterrupt: `options.stop` said so.
    """
    try:
        return activations.read(model, words, N_CTX, None, options, observer, progress)
    except TooLittleText as error:
        raise TooLittleText(
            "there is too little text to calibrate a model",
            error.why,
            "give --calibrate a longer text, or --calibrate default",
        ) from None
