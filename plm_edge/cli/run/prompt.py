"""A prompt comes from an option, a file, a pipe, or several of them one after the other."""

from __future__ import annotations

import os
import select
import shlex
import stat
import sys
from pathlib import Path

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError

STDIN = "-"
_PATIENCE = 1.0  # seconds before a person is told that a pipe is waited for


def read(prompt: str | None, file: str | None, model: str | None = None) -> str:
    """Returns the text of a prompt: the option's, then the file's, then what is piped in.

    Args:
        prompt: a text; "-" for stdin, as it is.
        file: a path; "-" for stdin.
        model: what was given for one: words there are a prompt whose option was forgotten.

    Raises:
        PlmEdgeError: there is none, or it is not UTF-8 (code USAGE); the file cannot be read
            (INPUT).
    """
    parts: list[str] = []
    if prompt == STDIN:
        parts.append(_text(_stdin(), "the prompt"))
    elif prompt is not None:
        # Python keeps bytes of an argument that are not UTF-8 as lone surrogates; undo that.
        parts.append(_text(prompt.encode("utf-8", "surrogateescape"), "the prompt"))
    if file is not None:
        raw = _stdin() if file == STDIN else _file(Path(file))
        parts.append(_without_newline(_text(raw, f"the file {file}")))
    if STDIN not in (prompt, file) and _is_piped():
        piped = _text(_stdin(), "what is piped in")
        if piped:
            parts.append(_without_newline(piped))
    if not parts:
        why = "neither --prompt nor --file is given, and nothing comes through a pipe"
        fix = 'give a text, such as --prompt "Once upon a time", a file with -f, or a pipe'
        if model and " " in model and not Path(model).exists():
            why = "what stands alone is taken for a model, and a prompt has its option"
            fix = f"plm-edge run -p {shlex.quote(model)}"
        raise PlmEdgeError("there is no prompt", why, fix, ExitCode.USAGE)
    return "\n".join(parts)


def read_argument(given: str, what: str) -> str:
    """Returns the text of a file.

    Args:
        given: its path.
        what: it is, for an error.

    Raises:
        PlmEdgeError: it cannot be read (INPUT), or is not UTF-8 (USAGE).
    """
    return _text(_file(Path(given)), f"{what} {given}")


def _without_newline(text: str) -> str:
    """The newline that ends a file's last line is no part of a prompt."""
    return text.removesuffix("\n").removesuffix("\r")


def _is_piped() -> bool:
    """Says whether stdin is a pipe or a file: no terminal, no /dev/null, not closed."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _stdin() -> bytes:
    if sys.stdin is None:
        return b""
    if sys.stdin.isatty():
        console.note("reading the prompt from the terminal; Ctrl-D ends it")
    elif os.name == "posix" and not select.select([sys.stdin], [], [], _PATIENCE)[0]:
        console.note("waiting for the pipe; `</dev/null` leaves it out")
    return sys.stdin.buffer.read()


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {path}",
            f"{error.strerror or error}",
            "check the path; plm-edge run --help says what can be given instead of a file",
        ) from error


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise PlmEdgeError(
            f"{what} is not UTF-8 text",
            f"byte 0x{byte:02x} at position {error.start} ({error.reason})",
            "convert it first, for example with iconv -t utf-8",
            ExitCode.USAGE,
        ) from error
