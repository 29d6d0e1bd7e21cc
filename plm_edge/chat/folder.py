"""A person's conversations lie in one folder, each known by the name of its file."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.chat import file
from plm_edge.chat.file import BrokenChat, ChatFile, SavedChat

LONGEST_NAME = 80


def place() -> Path:
    """Returns the folder, which need not be there."""
    return folders.data() / "chats"


def ensure() -> Path:
    """Make the folder, which only its owner can read, and return it.

    Raises:
        PlmEdgeError: it cannot be made.
    """
    made = place()
    if not made.is_dir():
        folders.ensure(made, "PLM_EDGE_DATA_DIR").chmod(0o700)
    return folders.ensure(made, "PLM_EDGE_DATA_DIR")


@dataclass(frozen=True)
class ConversationEntry:
    """One conversation of the list. `changed` is in seconds since 1970.

    Attributes:
        begins: its first question, on one line; why it cannot be read, if `broken`.
    """

    name: str
    changed: float
    n_turns: int
    begins: str
    broken: bool = False


def names() -> list[str]:
    """Returns the names of all conversations, the one that was changed last first."""
    found = []
    for path in place().glob("*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path.stem))
        except OSError:  # gone meanwhile
            continue
    return [name for _, name in sorted(found, reverse=True)]


def listing() -> list[ConversationEntry]:
    """Returns all conversations, the one that was changed last first; broken ones among them."""
    found = []
    for name in names():
        path = _path(name)
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:  # gone meanwhile
            continue
        try:
            turns = file.read(path).conversation.turns
        except BrokenChat as error:
            found.append(ConversationEntry(name, changed, 0, str(error), broken=True))
        except PlmEdgeError as error:
            found.append(ConversationEntry(name, changed, 0, error.why, broken=True))
        else:
            begins = " ".join(turns[0].question.split()) if turns else ""
            found.append(ConversationEntry(name, changed, len(turns), begins))
    return found


def check_name(name: str) -> str:
    """Returns a name that may be a file's.

    Raises:
        PlmEdgeError: it may not (code USAGE).
    """
    allowed = all(char.isalnum() or char in "-_. " for char in name)
    if allowed and name.strip() == name and name[:1].isalnum() and len(name) <= LONGEST_NAME:
        return name
    raise PlmEdgeError(
        f"{name!r} cannot be a chat's name",
        "a name is letters, digits, '-', '_', '.' and blanks, and begins with a letter or digit; "
        f"at most {LONGEST_NAME} characters",
        "choose another name",
        ExitCode.USAGE,
    )


def begin(model: str, *, plain: bool, system: str = "") -> ChatFile:
    """Returns the file of a new conversation, named by the time, not yet written."""
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M")
    ensure()
    for number in range(1, 10_000):
        path = _path(stamp if number == 1 else f"{stamp}-{number}")
        if path.exists():
            continue
        saved = SavedChat(automatic=True, model=model)
        saved.conversation.plain, saved.conversation.system = plain, system
        try:
            opened = ChatFile(path, saved)
        except PlmEdgeError:  # begun in the same minute elsewhere, and still without a turn
            continue
        if not path.exists():
            return opened
        opened.close()
    raise FileExistsError(stamp)


def resume(name: str | None, on_broken: Callable[[str, Path, str], None]) -> ChatFile:
    """Open a conversation.

    Args:
        name: None: the one that was changed last and can be read.
        on_broken: told of a file that was set aside: its name, where it is now, what is wrong.

    Raises:
        PlmEdgeError: there is none, it is broken, or another process has it open.
    """
    if name is not None:
        return _open(check_name(name), on_broken)
    for found in names():
        try:
            return _open(found, on_broken)
        except BrokenPlace:
            continue
    raise PlmEdgeError(
        "there is no chat to continue",
        f"{place()} holds none",
        "begin one: plm-edge chat",
    )


class BrokenPlace(PlmEdgeError):
    """A conversation was set aside, because its file is damaged."""


def _open(name: str, on_broken: Callable[[str, Path, str], None]) -> ChatFile:
    path = _path(name)
    if not path.exists():
        close = difflib.get_close_matches(name, names(), n=1)
        raise PlmEdgeError(
            f"there is no chat {name}",
            f"{place()} has no file of that name",
            f"did you mean {close[0]}?" if close else "the names: plm-edge chat --list",
        )
    opened = ChatFile(path, SavedChat())
    try:
        opened.saved = file.read(path)  # read under the lock
    except BrokenChat as error:
        aside = file.set_aside(path)
        on_broken(name, aside, str(error))
        opened.close()
        raise BrokenPlace(
            f"the chat {name} is damaged",
            str(error),
            f"it was kept as {aside}; mend it there, or begin another chat",
        ) from error
    except BaseException:
        opened.close()
        raise
    return opened


def save_as(opened: ChatFile, name: str) -> ChatFile:
    """Returns the conversation's new file, written; the old one is closed.

    A name that the time gave goes away; one that a person gave stays, as it is.

    Raises:
        PlmEdgeError: the name is taken or cannot be one.
    """
    path = _path(check_name(name))
    if path == opened.path:
        opened.saved.automatic = False
        opened.save()
        return opened
    taken = PlmEdgeError(
        f"there is a chat {name} already",
        f"{path} is not overwritten",
        "choose another name",
        ExitCode.USAGE,
    )
    if path.exists():
        raise taken
    made = ChatFile(path, opened.saved)
    if path.exists():
        made.close()
        raise taken
    was_automatic = opened.saved.automatic
    made.saved.automatic = False
    made.save()
    if was_automatic:
        opened.path.unlink(missing_ok=True)
    opened.close()
    return made


def _path(name: str) -> Path:
    return place() / f"{name}.json"
