"""A prompt becomes token ids, within the model's chat template where it has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import chat


class Message(TypedDict):
    """One message of a conversation.

    Attributes:
        role: who speaks: "system", "user" or "assistant", or what else the model's template knows.
        content: what is said.
    """

    role: str
    content: str


class Text(str):
    """A text that says who wrote what of it, for a generator that may not tell others all of it.

    Args:
        parts: messages; their contents one after the other are the text.
    """

    __slots__ = ("parts",)

    parts: tuple[Message, ...]

    def __new__(cls, parts: Iterable[Message]) -> Text:
        kept = tuple(parts)
        made = super().__new__(cls, "".join(part["content"] for part in kept))
        made.parts = kept
        return made

    @classmethod
    def by(cls, role: str, content: str) -> Text:
        """Returns a text that one role wrote: see `Message`."""
        return cls([{"role": role, "content": content}])


@dataclass(frozen=True)
class Prompt:
    """A prompt as token ids.

    Attributes:
        templated: the chat template was put around it.
    """

    tokens: list[int]
    templated: bool


class Tokenize(Protocol):
    """Turns text into token ids; `add_special` adds the begin token where the model wants one."""

    def __call__(self, text: str, *, add_special: bool) -> list[int]: ...


def encode(
    prompt: str | Sequence[Message],
    tokenize: Tokenize,
    template: str | None,
    *,
    bos: str = "",
    eos: str = "",
) -> Prompt:
    """Returns the token ids of a user's prompt, or of a conversation that is to be answered.

    Args:
        prompt: a text is what the user says. Messages need a template.
        template: the chat template to put around it; None sends a text as it is.
        bos: text of the token that begins a sequence, for the template; `eos` of the one that ends
            it.

    Raises:
        PlmEdgeError: the template is broken or refuses the messages (INPUT), there are messages and
            no template, or it is neither a text nor messages (USAGE).
    """
    if not isinstance(prompt, str):
        _check_messages(prompt)
    if template is None:
        if not isinstance(prompt, str):
            raise _no_template()
        return Prompt(tokenize(prompt, add_special=True), False)
    said: Sequence[Message] = prompt if not isinstance(prompt, str) else [_by_user(prompt)]
    text = chat.render(template, said, bos=bos, eos=eos)
    # A template writes the begin token itself where its model wants one.
    return Prompt(tokenize(text, add_special=False), True)


def _check_messages(prompt: object) -> None:
    """Programs pass tokens, bytes or None by mistake; types are not checked when they run."""
    messages = list(prompt) if isinstance(prompt, Sequence) else []
    sound = all(isinstance(one, Mapping) and "role" in one and "content" in one for one in messages)
    if not messages or not sound:
        raise PlmEdgeError(
            "this is no prompt",
            f'it takes a text, or messages with "role" and "content", and not {prompt!r:.60}',
            'for example "Hello", or [{"role": "user", "content": "Hello"}]',
            ExitCode.USAGE,
        )


def _by_user(text: str) -> Message:
    return {"role": "user", "content": text}


def _no_template() -> PlmEdgeError:
    return PlmEdgeError(
        "a base model takes no system prompt and no conversation",
        "this one has no chat template, which says where they stand: it continues a text",
        "put it all into one text, or use an instruct model",
        ExitCode.USAGE,
    )
