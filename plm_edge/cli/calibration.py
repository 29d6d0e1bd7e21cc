"""What `plm-edge convert --calibrate` does and shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge.base import console, files
from plm_edge.base.errors import PlmEdgeError

if TYPE_CHECKING:
    from plm_edge.quality.calibration import Calibrated

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

    try:
        with (
            Interrupt() as stop,
            console.progress(in_bytes=False) as counts,
        ):
            return calibrate(
                model,
                words,
                out,
                Options(kv="f32", threads=threads, stop=stop),
                Bar(counts, "reading chunks of text"),
                Bar(counts, "making output rows coarse"),
                Bar(counts, "writing bytes"),
            )
    except KeyboardInterrupt:
        console.note("interrupted; the same command goes on where it was")
        raise


def show(made: Calibrated) -> None:
    """Print what was made, and what it is worth."""
    about = console.table("", "")
    for name, value in {
        "calibrated by": f"{made.tokens:,} tokens",
        "output matrix": f"{console.size(made.matrix_bytes)}, and {console.size(made.coarse_bytes)}"
        " in coarse form: a token reads the latter, and the rows of likely tokens",
        "file": f"{made.out}, {console.size(made.size)}",
    }.items():
        about.add_row(console.cell(name, "dim"), console.cell(value))
    console.out.print(about)
    console.note(f"what it changes: plm-edge eval {made.out} --switches")
    console.note("other programs based on llama.cpp cannot read a calibrated file")


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
