"""A prompt becomes token ids, within the model's chat template where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from plm_edge.engine import chat


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
    text: str, tokenize: Tokenize, template: str | None, *, bos: str = "", eos: str = ""
) -> Prompt:
    """Returns the token ids of a user's prompt.

    Args:
        template: the chat template to put around it; None sends it as it is.
        bos: text of the token that begins a sequence, for the template; `eos` of the one that ends
            it.

    Raises:
        PlmEdgeError: the template is broken.
    """
    if template is None:
        return Prompt(tokenize(text, add_special=True), False)
    prompt = chat.render(template, [{"role": "user", "content": text}], bos=bos, eos=eos)
    # A template writes the begin token itself where its model wants one.
    return Prompt(tokenize(prompt, add_special=False), True)
