"""A conversation's file is written anew after every turn, and each moment while an answer comes.

One JSON file a conversation, which only its owner can read. While it is open a lock beside it keeps
a second program out. A file that cannot be read is set aside under a name of its own.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.chat.conversation import Conversation

SCHEMA = "plm-edge/chat/1"
_FAMILY = SCHEMA.rpartition("/")[0] + "/"


@dataclass
class SavedChat:
    """What a file holds. `created` is local time with its offset, ISO 8601; `model` a path.

    Attributes:
        automatic: its name is the time at which it began; the person gave none.
    """

    schema: str = SCHEMA
    automatic: bool = False
    created: str = ""
    model: str = ""
    conversation: Conversation = field(default_factory=Conversation)


class BrokenChat(Exception):
    """A file is no conversation; the text says why."""


def read(path: Path) -> SavedChat:
    """Read a file.

    Raises:
        BrokenChat: it is damaged.
        PlmEdgeError: a later version of plm-edge wrote it, or it cannot be opened.
    """
    import msgspec  # late: `--help` does without

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PlmEdgeError(
            f"the chat {path} cannot be read", str(error.strerror), "check its permissions"
        ) from error
    saved: SavedChat | None
    try:
        saved, why = msgspec.json.decode(raw, type=SavedChat), ""
    except msgspec.DecodeError as error:  # a ValidationError is one too
        saved, why = None, str(error)
    schema = saved.schema if saved else _schema(raw)
    if schema.startswith(_FAMILY) and schema != SCHEMA:
        raise PlmEdgeError(
            f"the chat {path} is of another version",
            f"it says {schema}, this plm-edge reads {SCHEMA}",
            "use a newer plm-edge for it, or begin another chat",
        )
    if saved is None or schema != SCHEMA:
        raise BrokenChat(why if saved is None else f"it says {schema!r} and not {SCHEMA}")
    conversation = saved.conversation
    conversation.n_dropped = max(0, min(conversation.n_dropped, len(conversation.turns)))
    return saved


def _schema(raw: bytes) -> str:
    import msgspec

    @dataclass
    class Head:
        schema: str = ""

    try:
        return msgspec.json.decode(raw, type=Head).schema
    except msgspec.DecodeError:
        return ""


def set_aside(path: Path) -> Path:
    """Give a broken file a name under which nothing overwrites it, and return that."""
    for number in range(1, 1000):
        target = path.with_name(f"{path.stem}.broken{'' if number == 1 else f'-{number}'}")
        try:
            os.link(path, target)  # unlike a rename, this replaces nothing
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if target.exists():
                continue
            path.rename(target)
            return target
        path.unlink()
        return target
    raise FileExistsError(path)


class ChatFile:
    """The file of one conversation, held by this process until `close`.

    Args:
        path: the file; it need not be there.
        saved: what it is to hold.

    Attributes:
        name: under which a person knows it.
        saved: what it holds once `save` was called.

    Raises:
        PlmEdgeError: another process has it open.
    """

    def __init__(self, path: Path, saved: SavedChat) -> None:
        self.path, self.saved = path, saved
        self.name = path.stem
        self._lock = path.with_name(f".{path.stem}.lock")
        self._fd = _lock(self._lock, self.name)
        for left in path.parent.glob(f".{path.name}.*.partial"):  # of a process that was killed
            with contextlib.suppress(OSError):
                left.unlink()

    def save(self, *, durable: bool = True) -> None:
        """Write the conversation. One without a turn has a file only if a person gave it a name.

        Args:
            durable: wait for the disk. Without it a crash of this program loses nothing either,
                one of the machine may.

        Raises:
            PlmEdgeError: it cannot be written.
        """
        import msgspec

        conversation = self.saved.conversation
        if not conversation.turns and self.saved.automatic:
            with contextlib.suppress(OSError):
                self.path.unlink()
            return
        self.saved.created = self.saved.created or now()
        raw = msgspec.json.format(msgspec.json.encode(self.saved), indent=1)
        try:
            with files.replacing(self.path, files.PRIVATE, durable=durable) as file:
                file.write(raw + b"\n")
        except OSError as error:
            raise PlmEdgeError(
                f"the chat cannot be saved as {self.path}",
                str(error.strerror),
                "make room there, or set PLM_EDGE_DATA_DIR to a folder that you can write",
                ExitCode.RESOURCES if files.is_full(error) else ExitCode.ENVIRONMENT,
            ) from error

    def close(self) -> None:
        """Let others open it. Safe to call twice."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._lock.unlink()
            os.close(self._fd)
        self._fd = None

    def __enter__(self) -> ChatFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def now() -> str:
    """Returns the time in ISO 8601, to the second, with the offset from UTC."""
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")


def _lock(path: Path, name: str) -> int | None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), files.PRIVATE)
        if not files.try_lock(fd):
            os.close(fd)
            raise PlmEdgeError(
                f"the chat {name} is open already",
                "another plm-edge chat writes it",
                "leave it there with Ctrl-D, or begin another: plm-edge chat",
            )
        # Who had it may have removed the file between our two calls: then we locked nothing.
        try:
            if os.path.samestat(path.stat(), os.fstat(fd)):
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)
