"""LoRA of a plugin's size, trained on what the plugin learns, and what it says of readings.

Training takes minutes a pass, so that each pass is kept, and so are the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.spa import lora
from plm_edge.spa.making import Texts
from plm_edge.spa.reading import UNREADABLE, Reading, folder

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What LoRA says of some readings.

    Attributes:
        size: values that were trained.
        rank: of the adapters.
        trained: what the training did.
        of: of each reading the natural logarithms of the probabilities of its tokens, [rows], and
            of those that the base finds likeliest, [rows, TOP].
    """

    size: int
    rank: int
    trained: lora.Trained
    of: tuple[tuple[Values, Values], ...]


def ask(
    given: Texts,
    text: Reading,
    rest: Reading,
    readings: Sequence[Reading],
    size: int,
    settings: lora.Settings,
    progress: Callable[[str], Progress],
    stop: Callable[[], bool],
) -> Answers:
    """Train LoRA of about `size` values on `text`, and ask it.

    Args:
        rest: chooses the pass that is kept.
        settings: with 0 epochs it is the base, as torch computes it.
        progress: returns who is told how far a step is, by its name.

    Raises:
        PlmEdgeError: torch is not installed, the base is of another architecture, or a part of a
            window was held back.
        KeyboardInterrupt: `stop` said so; whole passes are kept.
    """
    require_whole_windows(text, rest)
    rank = lora.rank_of(given.header, size)
    what = hashlib.sha256(f"{given.base_hash} {rank} {settings}".encode())
    for reading in (text, rest):
        what.update(f"{reading.windows}".encode())
    training = folder() / "lora" / f"{what.hexdigest()[:32]}.pt"
    for reading in readings:
        what.update(f"{reading.windows}".encode() + reading.rows.ids.tobytes())
    kept = folder() / "lora" / f"{what.hexdigest()[:32]}.npz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        with np.load(kept) as found:
            of = tuple((found[f"own{n}"], found[f"top{n}"]) for n in range(len(readings)))
            counts = [int(count) for count in found["counts"]]
            return Answers(counts[0], rank, lora.Trained(*counts[1:]), of)
    except UNREADABLE:
        pass
    model = lora.Llama(given.header, rank, settings.seed)
    trained = lora.train(
        model, text.windows, rest.windows, text.stream, settings,
        progress(f"LoRA, seed {settings.seed}"), stop, training,
    )  # fmt: skip
    told = progress("asking LoRA")
    of = tuple(lora.judge(model, r.windows, r.stream, r.rows.ids, told) for r in readings)
    arrays: dict[str, Values] = {}
    for n, (own, top) in enumerate(of):
        arrays |= {f"own{n}": own, f"top{n}": top}
    counted = np.array([model.size, trained.epochs, trained.steps, trained.best_epoch])
    with files.replacing(kept, files.PRIVATE, durable=False) as file:
        np.savez(file, counts=counted, **arrays)  # type: ignore[arg-type]
    training.unlink(missing_ok=True)
    return Answers(model.size, rank, trained, of)


def require_whole_windows(text: Reading, rest: Reading) -> None:
    """Refuse to compare LoRA where a window is in both: it would learn what chooses its gates.

    Raises:
        PlmEdgeError: there is such a window.
    """
    if set(text.windows) & set(rest.windows):
        raise PlmEdgeError(
            "LoRA cannot be compared on so few texts",
            "it reads whole windows, and a part of one was held back",
            "give more texts of about one size, or leave --lora out",
        )
