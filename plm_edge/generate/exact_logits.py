"""Which logits of a generation are exact: all where they are looked at, else the likeliest.

A grammar may allow none but unlikely tokens. As long as it agrees with what the model likes best,
nobody looks at others; where it does not, all logits of the step are made exact, and so are those
after it, for a model that disagrees once mostly does so again: of one step where that took the
output matrix alone, of more where the whole step was computed twice.
"""

from __future__ import annotations

from plm_edge.engine.session import Session
from plm_edge.generate.protocol import Request

PATIENCE = 16  # steps with all logits, once one was computed again because a grammar refused it


class ExactLogits:
    """Tells a session's context which logits must be exact, step by step.

    Args:
        session: that generates.
        request: what is generated.
    """

    def __init__(self, session: Session, request: Request) -> None:
        self._context, self._options = session.context, session.options
        again = session.model.holds_tokens_apart
        self._always = bool(request.logprobs) or (bool(request.grammar) and not again)
        self._prompt = bool(request.logprobs or request.grammar)
        self._full = False
        self._left, self._patience = 0, 1  # steps that are to be exact, now and after a refusal

    def begin(self) -> None:
        """Before the prompt is computed."""
        self._set(self._prompt)

    def before_step(self) -> None:
        """Before each step after it."""
        self._set(self._always or self._left > 0)
        self._left = max(0, self._left - 1)

    def refused(self) -> None:
        """A grammar does not allow what the model likes best: others are looked at now."""
        if not self._full:
            self._patience = 1 if self._context.again_in_full() else PATIENCE
            self._full = True
        self._left = self._patience

    def end(self) -> None:
        """Leaves the context as the session's options have it."""
        self._context.full_logits(self._options.full_logits)

    def _set(self, full: bool) -> None:
        self._full = full
        self._context.full_logits(full)
