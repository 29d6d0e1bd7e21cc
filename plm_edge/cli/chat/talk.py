"""A person and a model take turns in the terminal, until the person leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import attachment, commands, folder
from plm_edge.chat.attachment import Attachment
from plm_edge.cli.chat import opening, remarks, views
from plm_edge.cli.chat.completion import path_of
from plm_edge.cli.chat.prompt import Prompt, silent_keys
from plm_edge.cli.chat.screen import Screen
from plm_edge.cli.run import output, result

if TYPE_CHECKING:
    from plm_edge.chat.answer import Answer
    from plm_edge.chat.chat import Chat
    from plm_edge.chat.file import ChatFile
    from plm_edge.cli.run.place import Place

NOTHING = "-"  # after /system and /file: take away what there is


class Talk:
    """A chat in the terminal.

    Args:
        chat: the conversation and its model.
        place: where the model is.
        stats: show what each answer took.
    """

    def __init__(self, chat: Chat, place: Place, *, stats: bool) -> None:
        self.chat, self._place, self._stats = chat, place, stats
        self._prompt = Prompt(folder.names)
        self._draft = ""
        self._edits = False  # the draft goes to the editor, and replaces the last question
        self._files: list[Attachment] = []
        self._left = False

    def run(self) -> None:
        """Talk until the person leaves."""
        self._show_opened()
        hint = "a message, or /help"
        while not self._left:
            self._draft, draft = "", self._draft
            # Here, and not before an answer: a Ctrl-C right after Enter is for the answer.
            self._place.interrupt.reset()
            text = self._prompt.read(draft, hint=hint, editor=self._edits)
            hint = ""
            if text is None:
                break
            try:
                self._take(text)
            except PlmEdgeError as error:
                console.show_error(error)
            except KeyboardInterrupt:  # one more Ctrl-C than it took
                self.chat.save()
        if self.chat.kept:
            console.note(f"saved as {self.chat.file.name}; plm-edge chat -c goes on with it")

    def _take(self, text: str) -> None:
        """Do what a person typed."""
        if self._edits:
            self._edits = False
            self._ask_edited(text)
            return
        command = commands.parse(text)
        if command is not None:
            name, argument = command
            self._commands()[name](argument)
        elif text.strip() or self._files or self._may_go_on():
            self._ask(text)

    def _may_go_on(self) -> bool:
        conversation = self.chat.conversation
        return conversation.plain and bool(conversation.turns)

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "/help": lambda _: views.show_help(),
            "/undo": lambda _: self._undo(),
            "/retry": lambda _: self._retry(),
            "/edit": lambda _: self._edit(),
            "/system": self._system,
            "/file": self._file,
            "/context": lambda _: views.show_context(self.chat),
            "/stats": lambda _: views.show_stats(self.chat),
            "/save": self._save,
            "/load": self._load,
            "/new": lambda _: self._new(),
            "/quit": lambda _: self._quit(),
        }

    # Messages

    def _ask(self, text: str) -> None:
        plain = self.chat.conversation.plain
        question = attachment.message(self._files, text, plain=plain)
        self._draft = text  # until there is an answer: an error must not lose it
        answer = self._show(lambda: self.chat.ask(question))
        if answer.turn.answer or answer.stop_reason != "interrupted":
            self._draft, self._files = "", []
        else:
            self.chat.undo()
            console.note("stopped before it began; your message is back at the prompt")

    def _show(self, begin: Callable[[], Answer]) -> Answer:
        """Write an answer as it comes, and return it."""
        screen = Screen()
        with silent_keys(), output.reading() as self.chat.on_prefill:
            answer = begin()
            try:
                for text in answer:
                    screen.write(text)
            except KeyboardInterrupt:  # a second Ctrl-C; the answer kept its text
                pass
            finally:
                screen.finish()
        self.chat.last = answer.stats
        remarks.after(self.chat, answer)
        if self._stats and answer.stats:
            result.show_stats(answer.stats)
        console.err.print()
        return answer

    def _retry(self) -> None:
        old = self.chat.conversation.turns[-1] if self.chat.conversation.turns else None
        answer = self._show(self.chat.retry)
        if old is not None and not answer.turn.answer and answer.stop_reason == "interrupted":
            self.chat.undo()
            self.chat.restore(old)
            console.note("stopped before it began; the answer that was there stays")

    def _undo(self) -> None:
        turn = self.chat.undo()
        console.note(f"took back: {views.begin_of(turn.question)}")

    def _edit(self) -> None:
        turns = self.chat.conversation.turns
        self._draft = turns[-1].question if turns else ""
        self._edits = True

    def _ask_edited(self, text: str) -> None:
        turns = self.chat.conversation.turns
        if not text.strip() or (turns and text == turns[-1].question):
            console.note("nothing was changed")
            return
        old = self.chat.undo() if turns else None
        try:
            self._ask(text)
        finally:
            # The question did not fit, or was stopped before its answer began.
            if old is not None and self._draft:
                self.chat.restore(old)

    # What goes with them

    def _system(self, text: str) -> None:
        conversation = self.chat.conversation
        if text:
            conversation.system = "" if text == NOTHING else text
            self.chat.save()
        shown = console.printable(conversation.system)
        console.note(f"system: {shown}" if shown else "no system message")

    def _file(self, argument: str) -> None:
        if argument == NOTHING:
            self._files = []
        elif argument:
            added = attachment.read(path_of(argument))
            n_tokens = self.chat.count(added.text)
            views.check_fits(self.chat, added, n_tokens)
            self._files.append(added)
        views.show_files(self.chat, self._files)

    # Conversations

    def _save(self, name: str) -> None:
        if not self.chat.conversation.turns:
            console.note(
                "there is nothing to save yet; a chat is saved by itself from its first turn"
            )
            return
        self._go_to(folder.save_as(self.chat.file, name))
        console.note(f"saved as {name}, and goes on there")

    def _load(self, name: str) -> None:
        if name == self.chat.file.name:
            console.note(f"{name} is this chat")
            return
        opened = folder.resume(name, opening.say_set_aside)
        plain = self.chat.conversation.plain  # the model stays
        self._leave()
        self._go_to(opened)
        opening.adopt(self.chat, self._place, plain=plain)
        self._show_opened()

    def _new(self) -> None:
        conversation = self.chat.conversation
        begun = folder.begin(
            self.chat.file.saved.model, plain=conversation.plain, system=conversation.system
        )
        self._leave()
        self._go_to(begun)
        console.note(
            "a new chat; the system message stays" if conversation.system else "a new chat"
        )

    def _leave(self) -> None:
        if self.chat.conversation.turns:
            console.note(f"{self.chat.file.name} is saved")
        self.chat.file.close()

    def _go_to(self, opened: ChatFile) -> None:
        self.chat.file = opened

    def _quit(self) -> None:
        self._left = True

    def _show_opened(self) -> None:
        """Show where a conversation goes on; a question without an answer is at the prompt."""
        turns = self.chat.conversation.turns
        if turns and not turns[-1].answer and turns[-1].stop_reason is None:
            self._draft = turns[-1].question
            turns.pop()
        views.show_opened(self.chat)
