"""Progress of a prefill moves within a micro-batch too: by the nodes of its graph.

Smaller micro-batches would move as well, but compute less fast, and other digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from plm_edge.generate.protocol import Request
from plm_edge.model.description import describe
from plm_edge.model.gguf_file import GGUFFile

_PAUSE = 0.1  # seconds between two reports within a micro-batch
_NODES_A_LAYER = 24  # until the first micro-batch tells


class Progress:
    """Tells how many of a prompt's tokens are computed.

    Args:
        tell: called with the tokens done and those of all; never fewer than before.
        total: tokens of the prompt.
        n_nodes: a guess of the nodes of a micro-batch's graph.
    """

    def __init__(self, tell: Callable[[int, int], None], total: int, n_nodes: int) -> None:
        self._tell, self._total, self._n_nodes = tell, total, n_nodes
        self._done = self._size = self._nodes = self._told = 0
        self._last = time.monotonic()

    @classmethod
    def of(cls, request: Request, header: GGUFFile, done: int) -> Progress | None:
        """Returns the progress that a request wants to be told of, if any.

        Args:
            done: tokens of the prompt that need not be computed.
        """
        if request.on_prefill is None:
            return None
        n_layers = describe(header).n_layers or 1
        made = cls(request.on_prefill, len(request.prompt), n_layers * _NODES_A_LAYER)
        made._done = done
        return made

    def begin(self, size: int) -> Callable[[], None]:
        """Returns what is to be called at each node of a micro-batch of `size` tokens."""
        self._size, self._nodes = size, 0
        return self._node

    def _node(self) -> None:
        self._nodes += 1
        now = time.monotonic()
        if now - self._last < _PAUSE:
            return
        share = min(self._nodes / self._n_nodes, 0.99)
        self._say(self._done + int(share * self._size), now)

    def end(self) -> None:
        """The micro-batch is computed."""
        self._done += self._size
        self._n_nodes = max(self._nodes, 1)
        self._say(self._done, time.monotonic())

    def _say(self, done: int, now: float) -> None:
        if done > self._told:
            self._told, self._last = done, now
            self._tell(done, self._total)
