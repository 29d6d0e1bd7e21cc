"""A step of a generation computes the last token, and with it a draft where that pays."""

from __future__ import annotations

import time
from collections.abc import Callable

from plm_edge.engine.batch import Batch
from plm_edge.engine.session import Session
from plm_edge.generate.prefix import CacheContents
from plm_edge.generate.protocol import Request
from plm_edge.generate.speculation import MOST, Lookup, Pace


class Steps:
    """Takes a text on, some tokens at a time.

    Args:
        held: the tokens that the session's context holds; it is kept up.
        request: what is generated; guesses are made if it and the session's options allow them, and
            the text is sure to stay the same.

    Attributes:
        pace: what guesses were made, and what they gained.
    """

    def __init__(self, session: Session, held: CacheContents, request: Request) -> None:
        self._session, self._held, self._request = session, held, request
        able = session.batches_are_exact and session.options.max_outputs >= MOST
        guesses = request.speculate and able
        self._lookup = Lookup(request.prompt) if guesses else None
        self._batch: Batch | None = None
        self._guess: list[int] = []
        self.pace = Pace()

    def take(self, new: list[int], n_so_far: int, pick: Callable[[int], int]) -> list[int]:
        """Compute the last of the `new` tokens; return what comes next, a token at least.

        An end token may be the last of them. All but the last one are in the context then.

        Args:
            new: tokens that the text has since the last step; the last one is not computed yet.
            n_so_far: tokens that the text has after the prompt.
            pick: picks a token by the logits of a row of the last batch; -1 is its last one. It is
                called once for each token that is returned.
        """
        context, held = self._session.context, self._held
        last, draft = new[-1], self._draft(new, n_so_far)
        started = time.perf_counter()
        if draft:
            found = self._check(last, draft, pick)
        else:
            context.append([last])
            found = [pick(-1)]  # which may compute it again
            held.add([last])
        self.pace.took(1 + len(draft), time.perf_counter() - started, len(found))
        return found

    def _check(self, last: int, draft: list[int], pick: Callable[[int], int]) -> list[int]:
        """As `take`, with a draft: it is computed together, and its right beginning stays."""
        context, held = self._session.context, self._held
        batch = self._batch = self._batch or context.batch(MOST)
        batch.clear()
        batch.extend([last, *draft], len(held.tokens), wanted="all")
        context.decode(batch)
        found: list[int] = []
        for row in range(len(draft) + 1):
            found.append(pick(row))
            right = row < len(draft) and found[row] == draft[row]
            if not right or self._session.vocabulary.is_end(found[row]):
                break
        held.add([last, *found[:-1]])
        if len(found) <= len(draft):
            context.remove(0, len(held.tokens))
            held.add([])
        return found

    def _draft(self, new: list[int], n_so_far: int) -> list[int]:
        """Tokens that may come next, where checking them pays. Learns from the newest ones."""
        if self._lookup is None:
            return []
        for guess, token in zip(self._guess, new, strict=False):
            self.pace.guessed(guess == token)
            if guess != token:
                break
        self._lookup.extend(new)
        most = self._session.n_ctx - len(self._held.tokens) - 1
        if self._request.n_predict is not None:
            most = min(most, self._request.n_predict - n_so_far - 1)
        self._guess = self._lookup.draft(MOST - 1)
        return self._guess[: self.pace.choose(min(most, len(self._guess)))]
