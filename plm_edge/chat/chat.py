"""A chat asks a model and keeps the conversation: what a person's commands do to it, is here.

chat = Chat(generator, n_ctx, folder.begin("model.gguf", plain=False))
for text in chat.ask("Why is the sky blue?"):
    print(text, end="", flush=True)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.chat import fit
from plm_edge.chat.answer import Answer
from plm_edge.chat.conversation import Conversation, Turn
from plm_edge.chat.file import ChatFile
from plm_edge.generate.protocol import Generation, Generator, Message, Request, Text
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.stats import Stats

PLAIN_PREDICT = 256  # new tokens of a model that continues a text: it seldom ends by itself

OnPrefill = Callable[[int, int], None]


@dataclass(frozen=True)
class Setting:
    """How a chat's answers are made.

    Attributes:
        n_predict: most new tokens of an answer; None: until it ends or the context is full.
        strict: a full context is an error; else the oldest turns go.
        speculate: guess tokens ahead from the text, where that pays.
    """

    sampling: Sampling = Sampling()  # noqa: RUF009 -- frozen
    n_predict: int | None = None
    strict: bool = False
    speculate: bool = True


@dataclass(frozen=True)
class Fullness:
    """How full the context is, in tokens.

    Attributes:
        n_used: of the conversation as it goes to the model, with the last answer.
        next_turn: the turn that goes next, and its tokens; None when there is none to go.
    """

    n_used: int
    n_ctx: int
    next_turn: tuple[Turn, int] | None


class Chat:
    """A conversation with a model that is ready to generate.

    Args:
        generator: the model.
        n_ctx: its tokens of context.
        opened: the conversation's file.
        setting: how answers are made.
        keep: save the conversation in its file.

    Attributes:
        on_prefill: told of a prompt's progress: tokens computed, of how many.
        last: statistics of the last answer of this process; None before there is one.
    """

    def __init__(
        self,
        generator: Generator,
        n_ctx: int,
        opened: ChatFile,
        setting: Setting,
        *,
        keep: bool = True,
    ) -> None:
        self.generator, self.n_ctx = generator, n_ctx
        self.file, self.setting, self._keep = opened, setting, keep
        self.on_prefill: OnPrefill | None = None
        self.last: Stats | None = None
        self._n_retries = 0

    @property
    def conversation(self) -> Conversation:
        """The conversation."""
        return self.file.saved.conversation

    @property
    def kept(self) -> bool:
        """Whether the conversation is in its file."""
        return self._keep and self.file.path.exists()

    def encode(self, prompt: Text | list[Message]) -> list[int]:
        """Returns the token ids of messages in the model's template, or of a text as it is."""
        return self.generator.encode(prompt, raw=self.conversation.plain).tokens

    def count(self, text: str, role: str = "user") -> int:
        """Returns how many tokens a text has.

        Args:
            role: who wrote it.
        """
        return len(self.generator.encode(Text.by(role, text), raw=True).tokens)

    def save(self, durable: bool = True) -> None:
        """Write the conversation, unless it is not to be kept."""
        if self._keep:
            self.file.save(durable=durable)

    def ask(self, question: str) -> Answer:
        """Begin the answer to a question: iterate it.

        Raises:
            PlmEdgeError: the question does not fit the context, or it is full and turns may not
                be dropped. The conversation is then as it was.
        """
        # A terminal may deliver bytes that are no UTF-8, which no file and no model takes.
        question = question.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._n_retries = 0
        return self._answer(Turn(question))

    def retry(self) -> Answer:
        """Begin another answer to the last question, in the place of the one that there is.

        Raises:
            PlmEdgeError: there is no question; or as `ask`.
        """
        old = self._last_turn()
        self.conversation.undo()
        self._n_retries += 1
        try:
            return self._answer(Turn(old.question))
        except BaseException:
            self.conversation.turns.append(old)
            raise

    def undo(self) -> Turn:
        """Take the last turn back and return it.

        Raises:
            PlmEdgeError: there is none.
        """
        turn = self._last_turn()
        self.conversation.undo()
        self.save()
        return turn

    def restore(self, turn: Turn) -> None:
        """Put a turn that was taken back in the place of the last one's unfinished successor."""
        self.conversation.turns.append(turn)
        self.save()

    def fullness(self) -> Fullness:
        """Returns how full the context is."""
        conversation = self.conversation
        turns, n_dropped = conversation.turns, conversation.n_dropped
        if not turns:
            system = conversation.system
            return Fullness(self.count(system, "system") if system else 0, self.n_ctx, None)
        prompt = len(self.encode(conversation.prompt(n_dropped)))
        following = None
        if n_dropped < len(turns) - 1:
            without = len(self.encode(conversation.prompt(n_dropped + 1)))
            following = (turns[n_dropped], prompt - without)
        return Fullness(prompt + self.count(turns[-1].answer, "assistant"), self.n_ctx, following)

    def _last_turn(self) -> Turn:
        if not self.conversation.turns:
            raise PlmEdgeError(
                "there is no turn yet",
                "the chat has no question",
                "type one",
                ExitCode.USAGE,
            )
        return self.conversation.turns[-1]

    def _answer(self, turn: Turn) -> Answer:
        conversation = self.conversation
        before = turn.n_dropped = conversation.n_dropped
        conversation.turns.append(turn)
        try:
            fitted = fit.fit(conversation, self.encode, self.n_ctx, strict=self.setting.strict)
            generation = self._generate(fitted.tokens, self.setting.n_predict, self.on_prefill)
            conversation.n_dropped = fitted.n_dropped
            self.save()
        except BaseException:
            conversation.turns.pop()
            conversation.n_dropped = before
            raise
        n_new = fitted.n_dropped - before
        answer = Answer(turn, generation, self._saved, lambda: self._go_on(answer), n_new)
        return answer

    def _saved(self, durable: bool) -> None:
        self.save(durable)

    def _generate(
        self, tokens: list[int], n_predict: int | None, on_prefill: OnPrefill | None = None
    ) -> Generation:
        sampling = self.setting.sampling
        if self._n_retries and sampling.seed is not None:  # the same seed gives the same answer
            sampling = replace(sampling, seed=(sampling.seed + self._n_retries) % 0xFFFFFFFF)
        request = Request(
            tokens,
            n_predict,
            sampling,
            speculate=self.setting.speculate,
            on_prefill=on_prefill,
        )
        return self.generator.generate(request)

    def _go_on(self, answer: Answer) -> Generation | None:
        """Drop turns for an answer that filled the context; None when there are none to drop."""
        conversation = self.conversation
        if self.setting.strict:
            return None
        written = self._tokens_of(answer.turn.answer)
        for n_dropped in range(conversation.n_dropped + 1, len(conversation.turns)):
            tokens = self.encode(conversation.prompt(n_dropped)) + written
            if len(tokens) + max(1, self.n_ctx // 4) <= self.n_ctx:
                answer.n_dropped += n_dropped - conversation.n_dropped
                conversation.n_dropped = n_dropped
                n_predict = self.setting.n_predict
                left = None if n_predict is None else max(1, n_predict - len(written))
                return self._generate(tokens, left)
        return None

    def _tokens_of(self, text: str) -> list[int]:
        """The tokens of an answer's text so far."""
        begin = self.generator.encode(Text(()), raw=True).tokens  # what begins each text
        tokens = self.generator.encode(Text.by("assistant", text), raw=True).tokens
        return tokens[len(begin) :]
