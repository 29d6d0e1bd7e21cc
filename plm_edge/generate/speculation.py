"""Speculation guesses the next tokens from the text so far, and the model checks them together.

Text repeats itself: code that is edited, a page that is quoted. Where the last tokens stood before,
what followed them there is the draft. The engine computes up to 8 tokens at once with the bits that
they have one by one (vendor/llama.cpp/overlay/ggml/src/ggml-cpu/plm/alone.h), and each is picked by
the same sampler in turn, so the text is the one without drafts: greedy, or drawn with a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 8  # tokens that are checked together: PLM_ALONE of the engine
_SIZES = (4, 3, 2)  # tokens that must have stood there before; the longest that has is taken
_WEIGHT = 0.15  # of the newest measurement in a running mean
_LEAST_GAIN = 1.1  # below that a guess costs more than it is sure to bring: times are noisy


class Lookup:
    """Finds where the last tokens of a text stood before.

    Args:
        tokens: the text so far.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        # by tokens that stand together: where the text goes on after the last of such places
        self._next: dict[tuple[int, ...], int] = {}
        self._before: dict[tuple[int, ...], int] = {}  # after the place before that one
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append to the text."""
        for token in tokens:
            self._tokens.append(token)
            end = len(self._tokens)
            for size in _SIZES:
                if size <= end:
                    key = tuple(self._tokens[end - size :])
                    if key in self._next:
                        self._before[key] = self._next[key]
                    self._next[key] = end

    def draft(self, count: int) -> list[int]:
        """Returns up to `count` tokens that may come next; none where nothing stood before."""
        tokens = self._tokens
        for size in _SIZES:
            # The end of the text itself is always the last place: what counts is the one before.
            at = self._before.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if at is not None:
                found: list[int] = []
                while len(found) < count:  # past its end, the text goes on as the draft does
                    i = at + len(found)
                    found.append(tokens[i] if i < len(tokens) else found[i - len(tokens)])
                return found
        return []


class Pace:
    """Decides how many tokens to check at once, by what that took and how often drafts were right.

    Attributes:
        n_drafted: tokens that were guessed and checked.
        n_accepted: of these, those that the model said as well.
        saved_s: seconds that single steps would have taken more than the checks did, by estimate.
    """

    def __init__(self) -> None:
        self.n_drafted = 0
        self.n_accepted = 0
        self.saved_s = 0.0
        self._seconds: dict[int, float] = {}  # of a step, by tokens that it computes
        self._right = 0.6  # share of guesses that are right, given those before them

    def choose(self, most: int) -> int:
        """Returns how many tokens to guess, 0 to `most`: what promises the most tokens a second."""
        single = self._seconds.get(1)
        if single is None:
            return 0  # the first step measures what a single one takes
        best, best_gain = 0, _LEAST_GAIN
        expected = right = 1.0
        for count in range(1, min(most, MOST - 1) + 1):
            right *= self._right
            expected += right
            gain = expected * single / self._estimate(count + 1)
            if gain > best_gain:
                best, best_gain = count, gain
        return best

    def _estimate(self, n: int) -> float:
        """Seconds for a step of n tokens: measured, or on a line with the nearest that were."""
        if n in self._seconds:
            return self._seconds[n]
        single = self._seconds[1]
        measured = [k for k in self._seconds if k > 1]
        if not measured:
            return single * (1 + 0.3 * (n - 1))  # a guess, once
        near = min(measured, key=lambda k: abs(k - n))
        return single + (self._seconds[near] - single) * (n - 1) / (near - 1)

    def took(self, n: int, seconds: float, n_new: int) -> None:
        """Learn from a step.

        Args:
            n: tokens that it computed: the last one of the text, and the draft.
            n_new: tokens of text that it gave, at least one.
        """
        old = self._seconds.get(n)
        self._seconds[n] = seconds if old is None else old + _WEIGHT * (seconds - old)
        if n > 1:
            self.n_drafted += n - 1
            self.n_accepted += n_new - 1
            self.saved_s += n_new * self._seconds[1] - seconds

    def guessed(self, right: bool) -> None:
        """Learn whether a guess was right, also one that nobody checked."""
        self._right += _WEIGHT * (float(right) - self._right)
