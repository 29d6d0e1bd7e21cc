"""The keys of the chat's prompt, beside those of Emacs that prompt_toolkit brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

QUOTES = '"""'


def is_open(text: str) -> bool:
    """Whether a text began with three quotes and has not ended with three others."""
    stripped = text.strip()
    return stripped.startswith(QUOTES) and not (
        len(stripped) >= 2 * len(QUOTES) and stripped.endswith(QUOTES)
    )


def bindings() -> KeyBindings:
    """Returns what Enter, Alt-Enter, Ctrl-J and Ctrl-C do."""
    from prompt_toolkit.key_binding import KeyBindings

    made = KeyBindings()

    @made.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @made.add("escape", "enter")
    @made.add("c-j")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @made.add("c-c")
    @made.add("<sigint>")
    def _clear(event: KeyPressEvent) -> None:
        # It goes to the history: the key Up has it back.
        event.current_buffer.reset(append_to_history=True)

    return made
