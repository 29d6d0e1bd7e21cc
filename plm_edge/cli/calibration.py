"""What `plm-edge convert --calibrate` does and shows."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge.base import console, files
from plm_edge.base.errors import PlmEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from plm_edge.quality.calibration import Calibrated
    from plm_edge.quality.rounding import RoundingByText

DEFAULT = "default"


def read(chosen: str) -> str:
    """Returns the text that `--calibrate` names.

    Raises:
        PlmEdgeError: it is no text.
    """
    from plm_edge.quality import text

    return text.for_calibration() if chosen == DEFAULT else text.read(Path(chosen))


def check_place(out: Path) -> None:
    """Find out before minutes of work whether the file can be written.

    Raises:
        PlmEdgeError: it cannot.
    """
    why = files.obstacle(out)
    if why:
        raise PlmEdgeError(
            f"{out} cannot be written",
            why,
            "give the path of a file in a folder that you can write with --out",
        )


@contextmanager
def goes_on(words: str | None) -> Iterator[None]:
    """Say of an interruption that what was computed by a text is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if words is not None:
            console.note("interrupted; the same command goes on where it was")
        raise


def rounding(
    words: str, threads: int | None, display: Progress, *, embedding: bool
) -> RoundingByText:
    """Returns how the matrices of a model are quantised by a text, shown on `display`.

    Args:
        embedding: its embedding, too.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.engine.options import Options
    from plm_edge.quality.rounding import RoundingByText, Watchers

    watchers = Watchers(
        Bar(display, "converting bytes, to read with"),
        Bar(display, "reading chunks of text"),
        Bar(display, "rounding rows"),
    )
    options = Options(kv="f32", threads=threads)
    return RoundingByText(words, options, watchers, embedding=embedding)


def run(model: Path, words: str, out: Path, threads: int | None) -> Calibrated:
    """Calibrate a GGUF, and say how far it is.

    Raises:
        PlmEdgeError: it cannot be computed, read or written.
        KeyboardInterrupt: the person said so.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.quality.calibration import calibrate

    with goes_on(words), Interrupt() as stop, console.progress(in_bytes=False) as counts:
        return calibrate(
            model,
            words,
            out,
            Options(kv="f32", threads=threads, stop=stop),
            Bar(counts, "reading chunks of text"),
            Bar(counts, "making output rows coarse"),
            Bar(counts, "writing bytes"),
        )


def show_rounding(matrices: int, layout: str) -> None:
    """Print what a text was good for when the file was quantised."""
    if matrices:
        console.note(f"{matrices} matrices are rounded by the text (docs/quality.md)")
    elif layout == "stock":
        console.warn(
            "--calibrate changed nothing: no matrix was quantised to a type that a text can round, "
            "and the stock layout has no coarse form"
        )


def show(made: Calibrated) -> None:
    """Print what was made, and what it is worth."""
    console.show_facts(
        {
            "calibrated by": f"{made.tokens:,} tokens",
            "output matrix": f"{console.size(made.matrix_bytes)}, and "
            f"{console.size(made.coarse_bytes)}"
            " in coarse form: a token reads the latter, and the rows of likely tokens",
            "file": f"{made.out}, {console.size(made.size)}",
        }
    )
    console.note(f"what it changes: plm-edge eval {made.out} --switches")
    console.note("other programs based on llama.cpp cannot read a file with a coarse form")


def as_dict(made: Calibrated) -> dict[str, Any]:
    """Returns its fields for --json."""
    return {
        "tokens": made.tokens,
        "resumed_chunks": made.resumed,
        "deviation_nats": made.deviation,
        "matrix_bytes": made.matrix_bytes,
        "coarse_bytes": made.coarse_bytes,
        "size": made.size,
    }
