"""A device makes a text: frames come, it decides, and says so where it decides otherwise.

In mode *open* the server gets every token that is not its own. In *shadow* it gets none: it goes on
from its own choice, a placeholder, and the person sees the real word. In *local* there is none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.spa.choosing import Chooser
from plm_edge.spa.plugin import Vocabulary
from plm_edge.spa.remote import RETRY_S, Remote
from plm_edge.spa.source import LinkLost, Source, begun, insisted
from plm_edge.spa.wire import Frame

if TYPE_CHECKING:  # a device without an engine has none
    from plm_edge.spa.standby import Standby

Mode = Literal["open", "shadow", "local"]
_HIDDEN = re.compile(r"\{\{([^{}|]*)\|([^{}|]*)\}\}")


class ServerLost(PlmEdgeError):
    """The server is lost for good, and there is no base here that goes on."""


@dataclass(frozen=True)
class Step:
    """A token.

    Attributes:
        personal: the device decided otherwise than the base.
    """

    token: int
    piece: bytes
    personal: bool


@dataclass
class Generation:
    """A text that is made. Iterate over `steps`; what happened is in the attributes.

    Args:
        source: a server, or the base here.
        chooser: decides.
        vocabulary: the base's.
        mode: what the server gets.
        fallback: the base here, for when the link is lost; None: there is none.

    Attributes:
        tokens: as the person sees them, the prompt's included.
        personal: positions of those that the device decided otherwise than the base.
        moved: the position from which the base here goes on; None: nothing was lost.
        resumed: how often a lost link was taken up again.
        ended: the text came to its end.
        full: the text has as many tokens as the base's side of it can have.
        first: tokens of the prompt.
    """

    source: Source
    chooser: Chooser
    vocabulary: Vocabulary
    mode: Mode = "open"
    fallback: Standby | None = None
    tokens: list[int] = field(default_factory=list)
    personal: list[int] = field(default_factory=list)
    moved: int | None = None
    resumed: int = 0
    ended: bool = False
    full: bool = False
    first: int = 0
    _server: list[int] = field(default_factory=list)  # as the server has them
    _prompt: tuple[str, Sequence[int]] = ("", ())

    def steps(self, prompt: str | Sequence[int], count: int) -> Iterator[Step]:
        """Yields up to `count` tokens, fewer where the text ends.

        Args:
            prompt: a text; in mode shadow {{this|that}} is this for the person, and that for the
                server. Or its tokens, as the server gets them.

        Raises:
            ServerLost: it is lost, and there is no base here (DEVICE).
            PlmEdgeError: it refuses, the base here fails, or as `public_part`.
        """
        if not isinstance(prompt, str):
            self._prompt = "", prompt
        else:
            self._prompt = public_part(prompt) if self.mode == "shadow" else prompt, ()
        self._open()
        if self.fallback is not None:
            self.fallback.begin(self._server, self.source.drawing)
        self.first = len(self._server)
        self.tokens = list(self._server)
        stops = set(self.vocabulary.stops.tolist())
        for _ in range(count):
            position = len(self.tokens)
            if position >= self.source.length:
                self.full = True
                return
            frame = self._frame(position)
            token = self.chooser.choose(frame.row, frame.token, self.tokens[-3:], position)
            personal = token != frame.token
            self.tokens.append(token)
            self._server.append(token if self.mode != "shadow" else frame.token)
            if self.fallback is not None:
                self.fallback.follow(self._server[-1:])
            if personal:
                self.personal.append(position)
            if personal and self.mode != "shadow":
                try:
                    self.source.override(position, token)
                except LinkLost as error:
                    self._recover(error, time.monotonic() + RETRY_S)
            # In mode shadow the base may go on no further than a placeholder.
            self.ended = token in stops or self._server[-1] in stops
            if token not in stops:
                yield Step(token, self.vocabulary.piece(token), personal)
            if self.ended:
                return

    @property
    def public(self) -> list[int]:
        """The tokens as the server has them, the prompt's included."""
        return list(self._server)

    @property
    def overrides(self) -> int:
        """How many tokens were personal."""
        return len(self.personal)

    @property
    def made(self) -> int:
        """How many tokens were made."""
        return max(0, len(self.tokens) - self.first)

    def close(self) -> None:
        """End the text, and free what it took."""
        self.source.close()
        if self.fallback is not None:
            self.fallback.close()

    def _open(self) -> None:
        try:
            if self.fallback is not None:
                self._server = self.source.open(*self._prompt)
            else:
                self._server = begun(lambda: self.source.open(*self._prompt))
        except LinkLost as error:
            self._move(error)

    def _frame(self, position: int) -> Frame:
        until = 0.0
        while True:
            try:
                return self.source.frame(position)
            except LinkLost as error:
                until = until or time.monotonic() + RETRY_S
                self._recover(error, until)

    def _recover(self, error: LinkLost, until: float) -> None:
        """Go on with the base here, or take the link up again.

        Args:
            until: when the server is given up, of the monotonic clock.

        Raises:
            PlmEdgeError: neither can be done.
        """
        if self.fallback is not None:
            self._move(error)
            return
        if isinstance(self.source, Remote) and time.monotonic() < until:
            with suppress(LinkLost):
                insisted(self.source.resume, until)
                self.resumed += 1
                return
        raise self._lost(error)

    def _move(self, error: LinkLost) -> None:
        if self.fallback is None:
            raise self._lost(error) from error
        drawing = self.source.drawing
        self.source.close()
        here = self.fallback.take()
        self.source, self.fallback = here, None
        self.moved = len(self.tokens)
        if not self._server:  # the server was not there to begin with
            here.drawing = drawing
            self._server = here.open(*self._prompt)

    def _lost(self, error: LinkLost) -> ServerLost:
        return ServerLost(
            "the server was lost",
            f"{error}; {self.made} tokens were made before",
            "try again, or have the base here too: --base MODEL goes on without a server",
            ExitCode.DEVICE,
        )


def public_part(prompt: str) -> str:
    """Returns what of a prompt the server gets in mode shadow.

    Raises:
        PlmEdgeError: there are braces that do not say what it gets (USAGE).
    """
    if "{{" in _HIDDEN.sub("|", prompt):
        raise PlmEdgeError(
            "it is not clear what the server gets",
            "a {{ in the text begins no {{this|that}}: neither half may have a brace or a bar",
            "write it as {{this|that}}; where two braces are meant, put a blank between them",
            ExitCode.USAGE,
        )
    return _HIDDEN.sub(r"\2", prompt)


def shown(prompt: str) -> str:
    """Returns a prompt as the person means it."""
    return _HIDDEN.sub(r"\1", prompt)
