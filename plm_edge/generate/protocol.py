"""A request starts a generation, which yields text as it is made: one protocol for all places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.generate.logprobs import ChosenLogprob as ChosenLogprob
from plm_edge.generate.prompt import Message as Message
from plm_edge.generate.prompt import Prompt
from plm_edge.generate.prompt import Text as Text
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.stats import Stats

# The model ended its text; n_predict or a stop string was reached; the context is full; somebody
# stopped it.
StopReason = Literal["end", "length", "stop", "context", "interrupted"]


MOST_LOGPROBS = 100  # alternatives of a token; each is kept for the whole answer


@dataclass(frozen=True)
class Request:
    """What is to be generated.

    Attributes:
        prompt: token ids, at least one and fewer than the context has.
        n_predict: most new tokens; None goes on until the model ends or the context is full.
        sampling: how each is picked.
        stop: strings that end the text, no part of it themselves.
        grammar: GBNF that the text obeys, from a rule called root; empty for none.
        logprobs: alternatives of each token to tell the log probabilities of; 0 tells none.
        speculate: guess tokens ahead and check them together, where that pays; the text of greedy
            sampling stays the same.
        on_prefill: called while the prompt is computed, with the tokens done and those of all.
    """

    prompt: list[int]
    n_predict: int | None = None
    sampling: Sampling = Sampling()  # noqa: RUF009 -- frozen
    stop: tuple[str, ...] = ()
    grammar: str = ""
    logprobs: int = 0
    speculate: bool = True
    on_prefill: Callable[[int, int], None] | None = field(default=None, compare=False)

    def checked(self, n_ctx: int, n_ctx_train: int | None) -> Request:
        """Returns this, with a seed drawn if there was none.

        Args:
            n_ctx: tokens of context that there are.
            n_ctx_train: tokens that the model was trained for; None where nothing tells.

        Raises:
            PlmEdgeError: the prompt is empty or does not fit, or a setting is out of its range.
        """
        if not self.prompt:
            raise PlmEdgeError(
                "the prompt is empty",
                "the model needs at least one token to continue",
                "give some text with --prompt",
                ExitCode.USAGE,
            )
        if len(self.prompt) >= n_ctx:
            raise _too_long(len(self.prompt), n_ctx, n_ctx_train)
        if self.n_predict is not None and self.n_predict < 0:
            raise PlmEdgeError(
                f"n_predict cannot be {self.n_predict}",
                "it takes 0 or more tokens; None goes on until the model ends",
                "give a value in that range",
                ExitCode.USAGE,
            )
        check_wishes(self.stop, self.logprobs)
        return replace(self, sampling=self.sampling.checked())


def check_wishes(stop: Sequence[str], logprobs: int) -> None:
    """Refuse what no model could do; it can be asked before one is loaded.

    Args:
        stop: as `Request.stop`.
        logprobs: as `Request.logprobs`.

    Raises:
        PlmEdgeError: a stop string is empty, or there are too many log probabilities (code USAGE).
    """
    if not all(stop):
        raise PlmEdgeError(
            "a stop string is empty",
            "every text would end before it begins",
            "give at least one character, or leave it out",
            ExitCode.USAGE,
        )
    if not 0 <= logprobs <= MOST_LOGPROBS:
        raise PlmEdgeError(
            f"--logprobs {logprobs} is out of range",
            f"it takes 0 (off) to {MOST_LOGPROBS} alternatives a token",
            "give a value in that range, or leave the option out",
            ExitCode.USAGE,
        )


def _too_long(n_prompt: int, n_ctx: int, n_ctx_train: int | None) -> PlmEdgeError:
    has = f"it has {n_prompt:,} tokens, the context {n_ctx:,}"
    if n_ctx_train is None:
        fix = "raise --ctx, or shorten the prompt"
    else:
        has += f" (the model was trained for {n_ctx_train:,})"
        wanted = min(n_ctx_train, -(-(n_prompt + 256) // 256) * 256)
        fix = f"use --ctx {wanted}" if n_prompt < n_ctx_train else "shorten the prompt"
    return PlmEdgeError("the prompt does not fit the context", has, fix)


class Generation(Protocol):
    """One run of a model over a prompt. Iterate it once: it yields text, whole characters only.

    Attributes:
        request: what was asked for, checked.
        tokens: ids of the new tokens so far, the end token not among them.
        stop_reason: why it stopped, or None while it runs.
        logprobs: of each of `tokens`, in their order; empty unless `Request.logprobs` asks for
            them. A device tells none of tokens that end within a character.
    """

    request: Request
    tokens: list[int]
    stop_reason: StopReason | None
    logprobs: list[ChosenLogprob]

    def __iter__(self) -> Iterator[str]: ...

    def whole(self) -> str:
        """Run it to its end and return all of the text; `tokens` then lacks none.

        Raises:
            PlmEdgeError: the engine or the way to it failed.
        """
        ...

    @property
    def stats(self) -> Stats:
        """What it has taken so far."""
        ...


class Generator(Protocol):
    """A model that is ready to generate, wherever it runs."""

    def encode(self, prompt: str | Sequence[Message], *, raw: bool = False) -> Prompt:
        """Turns a prompt into token ids, in the model's chat template if it has one.

        Args:
            prompt: what the user says, or a conversation that is to be answered.
            raw: without the template.

        Raises:
            PlmEdgeError: the template is broken, there are messages but no template, or the model
                cannot be reached.
        """
        ...

    def generate(self, request: Request) -> Generation:
        """Start a generation. It forgets earlier ones, and only the last may still be iterated.

        Raises:
            PlmEdgeError: as `Request.checked`.
        """
        ...
