"""`plm-edge chat` opens the conversation first, then the model that it is to be held with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from plm_edge.base import console
from plm_edge.chat import folder
from plm_edge.chat.chat import PLAIN_PREDICT, Chat
from plm_edge.chat.chat import Setting as ChatSetting
from plm_edge.chat.file import ChatFile
from plm_edge.cli import options
from plm_edge.cli.run.place import Place, Setting
from plm_edge.generate.protocol import Text


class Start:
    """A conversation that goes on, or None; and how the model is to be opened.

    Args:
        alone: load the model in this process, though a server may have it.

    Attributes:
        resumed: is open until this process ends, or another conversation takes its place.
    """

    def __init__(self, resumed: ChatFile | None, setting: Setting, *, alone: bool) -> None:
        self.resumed = resumed
        self._setting, self._alone = setting, alone

    def place(self, device: str | None, emulate: bool) -> AbstractContextManager[Place]:
        """Open the model where it is wanted; while entered, Ctrl-C stops what it generates.

        Raises:
            PlmEdgeError: there is no such model or device, or it cannot be opened.
        """
        setting = self._setting
        if device is not None:
            from plm_edge.cli.run import there

            return there.open_place(device, emulate, setting)
        if emulate:
            raise options.without_device("--emulate", "it runs on this machine")
        from plm_edge.cli.run import here, served

        if self.resumed is not None and setting.model is None:
            setting = replace(setting, model=self._model_of(self.resumed))
        server = None if self._alone else served.find(setting)
        return here.open_place(setting) if server is None else served.open_place(server)

    def _model_of(self, resumed: ChatFile) -> str | None:
        model = resumed.saved.model
        if Path(model).is_file():
            return model
        if model:
            console.warn(f"the chat was held with {model}, which is gone")
        return None


@contextmanager
def opened(name: str | None, setting: Setting, *, alone: bool) -> Iterator[Start]:
    """Open the conversation that a person named.

    Args:
        name: None: a new one; empty: the last.
        alone: use no running server.

    Raises:
        PlmEdgeError: there is no such conversation, or it cannot be opened.
    """
    resumed = None if name is None else folder.resume(name or None, say_set_aside)
    start = Start(resumed, setting, alone=alone)
    try:
        yield start
    finally:
        if start.resumed is not None:
            start.resumed.close()


def begin(
    start: Start, place: Place, setting: ChatSetting, *, system: str | None, keep: bool, raw: bool
) -> Chat:
    """Returns a chat that goes on with the conversation, or begins one.

    Args:
        system: what the model is told first; None leaves it as it is.
        keep: save the conversation.
        raw: the model continues the text, though it may have a chat template.
    """
    plain = is_plain(place, raw)
    if plain:
        why = "without its chat template" if raw else "this model has no chat template:"
        console.note(f"{why} it does not answer, it continues the text (Enter alone: more of it)")
    if setting.n_predict is None and plain:
        setting = replace(setting, n_predict=PLAIN_PREDICT)
    elif setting.n_predict == -1:
        setting = replace(setting, n_predict=None)
    if start.resumed is None:
        start.resumed = folder.begin(model_of(place), plain=plain)
    chat = Chat(place.generator, place.n_ctx, start.resumed, setting, keep=keep)
    adopt(chat, place, plain=plain)
    if system is not None:
        chat.conversation.system = system
    return chat


def adopt(chat: Chat, place: Place, *, plain: bool) -> None:
    """Let the open conversation be held with this model, whichever it was held with before.

    Args:
        plain: whether the model continues a text, as `is_plain` says of it.
    """
    saved = chat.file.saved
    model = model_of(place)
    if saved.model and saved.model != model:
        console.note(f"this chat was held with {saved.model} so far")
    saved.model = model
    saved.conversation.plain = plain


def is_plain(place: Place, raw: bool) -> bool:
    """Whether the model is to continue a text: it has no chat template, or none is wanted."""
    return raw or not place.generator.encode(Text.by("user", "x")).templated


def model_of(place: Place) -> str:
    """Returns the model's path, whole where it is one of this machine."""
    path = Path(str(place.model["path"]))
    return str(path.resolve()) if path.is_file() else str(path)


def say_set_aside(name: str, path: Path, why: str) -> None:
    """Print that a broken file was set aside."""
    console.warn(f"the chat {name} is damaged ({why}); it was kept as {path}")
