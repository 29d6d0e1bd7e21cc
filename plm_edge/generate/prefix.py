"""What a context holds of earlier prompts is used again, and what the disk has of them.

A prompt of 64 tokens or more is computed up to its last token, and that one by itself. So the same
prompt gives the same bits whether its beginning was computed, still there, or read from disk: of a
prompt that is there as a whole the last token alone is computed, for its logits. (A batch rounds
differently from single tokens; where prompts share a part only, the batches are others, and the
last bits may be.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.prompt_cache import LEAST
from plm_edge.engine.session import Session


@dataclass(frozen=True)
class ReusedTokens:
    """Tokens of a prompt that were not computed again, by where they were."""

    memory: int = 0
    disk: int = 0

    @property
    def total(self) -> int:
        """From wherever."""
        return self.memory + self.disk


class CacheContents:
    """The tokens whose rows the cache of a session's context holds, as sequence 0.

    Args:
        session: others may use its context as well: what they change is noticed, and nothing is
            used again then.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tokens: list[int] = []
        self._n_changes = -1  # of the context, when `_tokens` was what it held
        self._given = False  # by `hold`: a person means it to be used, however short it is

    @property
    def tokens(self) -> list[int]:
        """The tokens; none once others changed the context."""
        return self._tokens if self._n_changes == self._session.context.n_changes else []

    def hold(self, tokens: Sequence[int]) -> None:
        """Say that the context holds these tokens, and nothing else: restored from a file."""
        self._tokens, self._given = list(tokens), True
        self._n_changes = self._session.context.n_changes

    def begin(self, prompt: Sequence[int]) -> ReusedTokens:
        """Make the context hold the longest beginning of `prompt` that can be had, nothing else.

        It is all but the last token at most.
        """
        context, prompts = self._session.context, self._session.prompts
        known, given = self.tokens, self._given
        memory = held = 0
        if len(prompt) >= LEAST or given:
            most = len(prompt) - 1
            # A window or a state has forgotten its beginning: it cannot go back.
            memory = min(_common(known, prompt), most) if context.first() == 0 else 0
            held = memory
            if prompts is not None and memory < most:
                held = min(prompts.restore(prompt, memory), most)
        if held:
            try:
                context.remove(0, held)
            except PlmEdgeError:
                held = 0
        if not held:
            context.clear()
        self._tokens, self._given = list(prompt[:held]), False
        self._n_changes = context.n_changes
        return ReusedTokens(disk=held) if held > memory else ReusedTokens(memory=held)

    def add(self, tokens: Sequence[int]) -> None:
        """Say that the context has computed `tokens` after what it held."""
        self._tokens.extend(tokens)
        self._n_changes = self._session.context.n_changes

    def keep(self, length: int) -> None:
        """Write the first `length` tokens to disk, if the session keeps prompts there."""
        prompts = self._session.prompts
        if prompts is not None:
            prompts.store(self.tokens[:length])


def batches(start: int, end: int, most: int) -> list[tuple[int, int]]:
    """Returns the parts in which a prompt's tokens from `start` to before `end` are computed.

    Args:
        most: tokens of a part.
    """
    alone = end - 1 if end >= LEAST else end
    parts = [(at, min(at + most, alone)) for at in range(start, alone, most)]
    return [*parts, (alone, end)] if alone < end else parts


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
