"""The base on this machine, as a source of frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.generate.prompt import Prompt
from plm_edge.spa.base import Base
from plm_edge.spa.frame import Logits
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.served import Served
from plm_edge.spa.wire import Frame


def require_base(path: Path, plugin: Plugin) -> None:
    """Refuse a base that is not a plugin's. Reads all of the file.

    Raises:
        PlmEdgeError: it is another one.
    """
    found = files.sha256(path)
    if found != plugin.base:
        raise PlmEdgeError(
            f"{path.name} is not the base of this plugin",
            f"it is {found[:12]}…, and the plugin is for {plugin.base[:12]}…",
            "give the base that it was trained on",
        )


class Here:
    """The base on this machine.

    Args:
        path: the GGUF, of which `require_base` made sure.
        plugin: whose base it is.

    Raises:
        PlmEdgeError: it cannot be loaded.
    """

    def __init__(
        self, path: Path, plugin: Plugin, options: Options, temperature: float, seed: int
    ) -> None:
        self._base = Base(path, plugin.codec, options)
        self.length = self._base.session.n_ctx
        self.drawing = temperature, seed
        self._text: Served | None = None

    def encode(self, what: int, text: str) -> Prompt:
        """See `Source`."""
        return self._base.encode(what, text)

    def open(self, text: str, made: Sequence[int]) -> list[int]:
        """See `Source`."""
        tokens = list(made)
        if text or not tokens:
            tokens = [*self._base.session.tokenize(text), *tokens]
        if not tokens or len(tokens) >= self.length:
            raise PlmEdgeError(
                "the prompt does not fit",
                f"it has {len(tokens)} tokens, and a text has 1 to {self.length - 1}",
                "give another prompt, or a larger --ctx",
                ExitCode.USAGE,
            )
        self.begin(tokens)
        return tokens

    def begin(self, tokens: Sequence[int]) -> None:
        """Begin a text with these tokens. What it has in common with the last one is not computed
        again.

        Raises:
            PlmEdgeError: the engine cannot.
            KeyboardInterrupt: `Options.stop` said so.
        """
        known = self._text.tokens if self._text else ()
        self._fill(Served(self._base, 0, tokens, *self.drawing, known=known))

    def follow(self, tokens: Sequence[int]) -> None:
        """Go on with tokens that were chosen elsewhere. Raises as `begin`."""
        assert self._text is not None
        self._text.extend(tokens)
        self._fill(self._text)

    def _fill(self, text: Served) -> None:
        self._text = None  # until the cache has what the text says
        while text.fill():
            pass
        self._text = text

    def frame(self, position: int) -> Frame:
        """See `Source`."""
        assert self._text is not None
        assert position == len(self._text.tokens)
        states, logits = self._base.compute([self._text.next_row])
        row = Logits(logits[0])
        return self._text.advance(row)(self._base.shown(states, [row]))

    def override(self, position: int, token: int) -> None:
        """See `Source`."""
        assert self._text is not None
        self._text.override(position, token)

    def close(self) -> None:
        """See `Source`."""
        self._base.close()
