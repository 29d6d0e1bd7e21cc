"""A file's text is read to go with a message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError

MOST_BYTES = 16 << 20  # no context holds so much text


@dataclass(frozen=True)
class Attachment:
    """A file's name and its text."""

    name: str
    text: str


def read(path: Path) -> Attachment:
    """Read a text file.

    Raises:
        PlmEdgeError: it cannot be read, is too large, or is no text in UTF-8.
    """
    what = f"{path} cannot be added"
    try:
        if path.is_dir():
            raise PlmEdgeError(what, "it is a folder", "name a file in it")
        if not path.exists():
            raise PlmEdgeError(what, "there is no such file", "check the path; Tab completes it")
        if not path.is_file():
            raise PlmEdgeError(what, "it is no regular file", "name a text file")
        n_bytes = path.stat().st_size
        if n_bytes > MOST_BYTES:
            size = console.size(n_bytes)
            raise PlmEdgeError(what, f"it has {size}", "cut out the part that matters")
        raw = path.read_bytes()
    except OSError as error:
        raise PlmEdgeError(what, str(error.strerror), "check its permissions") from error
    if b"\0" in raw:
        raise PlmEdgeError(what, "it is binary: it holds zero bytes", "name a text file")
    try:
        return Attachment(path.name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PlmEdgeError(
            what,
            f"it is no text in UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}",
            "name a text file, or convert it with iconv -t utf-8",
        ) from error


def message(attachments: list[Attachment], text: str, *, plain: bool) -> str:
    """Returns a message with the files before its text.

    Args:
        plain: the model continues a text: the files stand there as they are.
    """
    if plain:
        return "".join(file.text for file in attachments) + text
    blocks = []
    for file in attachments:
        fence = "```"
        while fence in file.text:
            fence += "`"
        body = file.text if file.text.endswith("\n") or not file.text else file.text + "\n"
        blocks.append(f"{file.name}:\n{fence}\n{body}{fence}\n")
    return "\n".join([*blocks, text] if text else blocks)
