"""All that the program writes to a terminal goes through this module.

`out` is stdout and carries results only: generated text, tables that were asked for, JSON.
`err` is stderr and carries the rest: progress, notes, errors. Rich already honours NO_COLOR and
drops colour and animation when a stream is not a terminal; what it does not do is keep control
characters from a file or a model off the terminal, which is what `printable` is for.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plm_edge.base.errors import PlmEdgeError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

WIDE = 200  # columns of a stream that is no terminal: nothing there needs to be folded


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the program with code 1; ours ends as others do whose reader left."""
        raise BrokenPipeError


def _console(stderr: bool) -> Console:
    made = _Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made


out = _console(stderr=False)
err = _console(stderr=True)

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turn notes and progress on stderr off (`--quiet`, `--json`). Errors are always shown."""
    global _quiet
    _quiet = quiet


def printable(text: str) -> str:
    """Makes control characters, bidirectional overrides and undecodable bytes visible.

    A file name may hold bytes that are no UTF-8, and a GGUF or a model's output may hold escape
    sequences that would recolour, retitle or reprogram the terminal. Newline and tab stay.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    control = unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"
    bidi_override = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return char.encode("unicode_escape").decode() if control or bidi_override else char


def note(message: str) -> None:
    """Prints one dim line on stderr; nothing when quiet."""
    if not _quiet:
        _line(Text(printable(message), style="dim"))


def warn(message: str) -> None:
    """Prints one yellow line on stderr; nothing when quiet."""
    if not _quiet:
        _line(Text("note: ", style="yellow").append(printable(message), style="default"))


def echo(text: str) -> None:
    """Prints text on stderr, dim and without a newline, that stdout will continue on a terminal."""
    if not _quiet and err.is_terminal:
        err.print(Text(printable(text), style="dim"), end="", soft_wrap=True)


def show_error(error: PlmEdgeError) -> None:
    """Prints the three lines of an error on stderr: what happened, why, what to do."""
    what, why, fix = (
        printable(text).replace("\n", "\\n") for text in (error.what, error.why, error.fix)
    )
    _line(Text(what, style="bold red"))
    _line(Text("  why  ", style="dim").append(why, style="default"))
    _line(Text("  fix  ", style="green").append(fix, style="default"))


def _line(text: Text) -> None:
    """One line on stderr: the terminal may fold it, we do not, so that it can be copied whole."""
    err.print(text, soft_wrap=True)


def emit_json(obj: dict[str, Any]) -> None:
    """Write one JSON object on stdout, indented.

    Args:
        obj: carries its own versioned schema, {"schema": "plm-edge/NAME/VERSION", ...}.
    """
    schema = obj.get("schema", "")
    if not (isinstance(schema, str) and schema.startswith("plm-edge/") and schema.count("/") == 2):
        raise ValueError(f"a JSON result needs a schema plm-edge/NAME/VERSION, not {schema!r}")
    # ensure_ascii keeps lone surrogates (file names that are no UTF-8) writable everywhere.
    sys.stdout.write(json.dumps(obj, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(*, in_bytes: bool = True, transient: bool = True) -> Iterator[Progress]:
    """A progress display on stderr that draws nothing when quiet or not on a terminal.

    Args:
        in_bytes: tasks count bytes (shows size and speed); else they count things.
        transient: wipe the display when done.
    """
    # Imported late: `--help` and most errors do without.
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
    ]
    columns += [DownloadColumn(True), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns += [TimeRemainingColumn()]
    display = Progress(
        *columns,
        console=err,
        transient=transient,
        disable=_quiet or not err.is_terminal,
        expand=True,
    )
    with display:
        yield display


def table(*columns: str, title: str | None = None, right: tuple[int, ...] = ()) -> Table:
    """Returns a light table in the house style.

    Args:
        columns: headings; none shows no heading line.
        right: indices of the columns that hold figures; these and the first are never folded.
    """
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=any(columns),
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for index, name in enumerate(columns):
        made.add_column(
            name,
            justify="right" if index in right else "left",
            no_wrap=index in right or index == 0,
        )
    return made


def cell(value: object, style: str = "") -> Text:
    """Returns a table cell that shows `value` as it is: no markup, no control characters."""
    return Text(printable(str(value)), style=style)


def show_facts(facts: Mapping[str, object]) -> None:
    """Prints facts on stdout, a line each, with their names before them."""
    about = table("", "")
    for name, value in facts.items():
        about.add_row(cell(name, "dim"), cell(value))
    out.print(about)


def size(n_bytes: float) -> str:
    """Words bytes for a person, in binary units: 144.0 MiB."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """Words seconds for a person: 340 ms, 12.3 s, 4 min 05 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
