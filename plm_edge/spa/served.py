"""One text that a base goes on with: what is in its cache, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from plm_edge.spa.base import TOGETHER, Base
from plm_edge.spa.choosing import pick
from plm_edge.spa.frame import Logits, Rows, log_probabilities
from plm_edge.spa.wire import Frame


class Served:
    """A text in one sequence of a base's cache.

    Args:
        known: the text that the sequence had before: what both begin with is not computed again.

    Attributes:
        tokens: of the text, the base's own choices ahead of the device included.
        epoch: how many overrides it has.
        first: the position after the prompt.
    """

    def __init__(
        self,
        base: Base,
        sequence: int,
        tokens: Sequence[int],
        temperature: float,
        seed: int,
        known: Sequence[int] = (),
    ) -> None:
        self._base, self.sequence = base, sequence
        self._temperature, self._seed = temperature, seed
        self.tokens, self.epoch, self.first = list(tokens), 0, len(tokens)
        # Tokens of the prompt that are in the cache. The last one of either text is not: it was
        # chosen, and its row makes the next frame.
        shorter = min(len(known), len(tokens)) - 1
        pairs = zip(tokens, known, strict=False)
        same = next((at for at, (one, two) in enumerate(pairs) if one != two), shorter)
        self._filled = max(0, min(same, shorter))
        self._begun = False

    def fill(self) -> bool:
        """Compute some more of the prompt. False: all but its last token, whose row makes the first
        frame, are in the cache.

        Raises:
            PlmEdgeError: the engine cannot.
        """
        if not self._begun:
            self._base.session.context.remove(self.sequence, self._filled)
            self._begun = True
        part = self.tokens[self._filled : self.first - 1][:TOGETHER]
        if part:
            self._base.fill(part, self._filled, self.sequence)
            self._filled += len(part)
        return bool(part)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens that were chosen elsewhere, to be computed as the prompt is."""
        self.tokens += tokens
        self.first = len(self.tokens)

    @property
    def next_row(self) -> tuple[int, int, int]:
        """What is computed for the next frame."""
        return self.tokens[-1], len(self.tokens) - 1, self.sequence

    @property
    def ended(self) -> bool:
        """Whether the base chose to end the text."""
        return self._base.session.vocabulary.is_end(self.tokens[-1])

    def advance(self, logits: Logits) -> Callable[[Rows], Frame]:
        """Append the base's choice, and return what makes the frame of what the device gets.

        Args:
            logits: of `next_row`.
        """
        position = len(self.tokens)
        if self._temperature <= 0:
            token = int(np.argmax(logits.values))  # of equal ones the first, as in `likeliest`
        else:
            ids, short, rest = logits.likeliest
            logs = log_probabilities(short, rest)[0]
            token = pick(ids[0], logs, self._temperature, self._seed, position)
        self.tokens.append(token)
        return partial(Frame, position, self.epoch, token)

    def allows(self, position: int, token: int) -> bool:
        """Whether there is such a position in what was computed, and such a token."""
        known = 0 <= token < self._base.session.vocabulary.n_tokens
        return known and self.first <= position < len(self.tokens)

    def override(self, position: int, token: int) -> bool:
        """Put a token at a position, and forget what comes after it. False: `allows` says no."""
        if not self.allows(position, token):
            return False
        self.tokens[position:] = [token]
        self._base.session.context.remove(self.sequence, position)
        self.epoch += 1
        return True

    def rewind(self, position: int) -> bool:
        """Go back, so that the next frame is of this position. False: it was never computed."""
        if not self.first <= position <= len(self.tokens):
            return False
        del self.tokens[position:]
        # The last token that stays is computed again: its row makes the next frame.
        self._base.session.context.remove(self.sequence, position - 1)
        return True

    def close(self) -> None:
        """Forget it."""
        self._base.session.context.remove(self.sequence)
