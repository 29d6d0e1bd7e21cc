"""A session generates here: its context computes one token after the other.

    with Session.open(Path("model.gguf")) as session:
        generator = LocalGenerator(session)
        generation = generator.generate(Request(session.tokenize("def add(a, b):"), n_predict=32))
        for text in generation:
            print(text, end="", flush=True)
        print(generation.stats)

A generation is timed between two calls of the engine: what the reader does with the text is not
counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from plm_edge.engine.sampler import Sampler
from plm_edge.engine.session import Session
from plm_edge.generate import prompt as prompts
from plm_edge.generate.logprobs import chosen, log_softmax
from plm_edge.generate.progress import Progress
from plm_edge.generate.prompt import Prompt
from plm_edge.generate.protocol import ChosenLogprob, Message, Request, StopReason
from plm_edge.generate.stats import Stats
from plm_edge.generate.text import TextDecoder
from plm_edge.machine import memory


class LocalGenerator:
    """A session that generates: a `protocol.Generator`.

    Args:
        session: open as long as its generations are iterated. Its `Options.stop` interrupts them,
            within a prefill and between tokens.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._restored: list[int] = []
        self._last: LocalGeneration | None = None

    def hold(self, tokens: Sequence[int]) -> None:
        """Say that the context holds these tokens already, restored from a file: the next
        generation computes only what its prompt has besides."""
        self._restored, self._last = list(tokens), None

    @property
    def held(self) -> list[int]:
        """The tokens that the context holds."""
        return list(self._restored) if self._last is None else self._last.held

    def encode(self, prompt: str | Sequence[Message], *, raw: bool = False) -> Prompt:
        """Turns a prompt into token ids, in the model's chat template if it has one.

        Args:
            prompt: what the user says, or a conversation that is to be answered.
            raw: without the template.

        Raises:
            PlmEdgeError: the template is broken, or there are messages but no template.
        """
        session = self._session
        template = None if raw else session.model.chat_template
        bos, eos = session.vocabulary.bos_eos
        return prompts.encode(prompt, session.tokenize, template, bos=bos, eos=eos)

    def generate(self, request: Request) -> LocalGeneration:
        """Start a generation; iterate it for the text. Forgets earlier generations.

        Raises:
            PlmEdgeError: as `Request.checked`.
        """
        session = self._session
        checked = request.checked(session.n_ctx, session.model.n_ctx_train)
        n_held = _common(self._restored, checked.prompt[:-1])
        self._restored = []
        self._last = LocalGeneration(session, checked, n_held)
        return self._last


class LocalGeneration:
    """One run of the model here: a `protocol.Generation`.

    Args:
        n_held: tokens of the prompt that the context holds already, first ones, not all.
    """

    def __init__(self, session: Session, request: Request, n_held: int = 0) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self.logprobs: list[ChosenLogprob] = []
        self._session = session
        self._text = TextDecoder(request.stop)
        self._n_computed = n_held  # tokens in the cache
        self._prefill_s = 0.0
        self._ttft_s: float | None = None
        self._decode_s = 0.0
        self._n_steps = 0
        if n_held:
            session.context.remove(0, n_held)
        else:
            session.context.clear()

    @property
    def held(self) -> list[int]:
        """The tokens that the context holds: of the prompt, and of the text but for its last."""
        return [*self.request.prompt, *self.tokens][: self._n_computed]

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces():
            text = self._text.feed(piece)
            if text:
                yield text
        rest = self._text.finish()
        if rest:
            yield rest

    def whole(self) -> str:
        """Run it to its end and return all of the text."""
        return "".join(self)

    def _pieces(self) -> Iterator[bytes]:
        """The bytes of each new token. Sets `stop_reason` when it ends."""
        session = self._session
        context, vocabulary = session.context, session.vocabulary
        session.rows.reset()
        started = time.perf_counter()
        if not self._prefill():
            self.stop_reason = "interrupted"
            return
        self._prefill_s = time.perf_counter() - started
        if self.request.n_predict == 0:
            self.stop_reason = "length"
            return
        grammar = self.request.grammar
        with context.sampler(**asdict(self.request.sampling), grammar=grammar) as sampler:
            token = self._next(sampler)
            self._ttft_s = time.perf_counter() - started
            while not vocabulary.is_end(token):
                self.tokens.append(token)
                yield vocabulary.piece(token)
                self.stop_reason = self._reason_to_stop()
                if self.stop_reason:
                    return
                # Timed from here: what the reader did with the last piece is not the engine's.
                step = time.perf_counter()
                context.append([token])
                token = self._next(sampler)
                self._decode_s += time.perf_counter() - step
                self._n_steps += 1
                self._n_computed += 1
        self.stop_reason = "end"

    def _next(self, sampler: Sampler, row: int = -1) -> int:
        """The next token; what the model thought of it is kept where that was asked for."""
        n_top = self.request.logprobs
        if not n_top:
            return sampler.next(row)
        logprobs = log_softmax(self._session.context.row_logits(row))
        token = sampler.next(row)
        if not self._session.vocabulary.is_end(token):
            self.logprobs.append(chosen(logprobs, token, n_top, self._session.vocabulary.piece))
        return token

    def _reason_to_stop(self) -> StopReason | None:
        if self._text.stopped:
            return "stop"
        if self._session.options.stop():
            return "interrupted"
        n_predict = self.request.n_predict
        if n_predict is not None and len(self.tokens) >= n_predict:
            return "length"
        # The last token is not in the cache yet: it needs a place to be computed at.
        return "context" if self._n_computed >= self._session.n_ctx else None

    def _prefill(self) -> bool:
        """Compute the prompt. False when stopped on the way."""
        context = self._session.context
        prompt = self.request.prompt
        progress = Progress.of(self.request, self._session.header, self._n_computed)
        for start in range(self._n_computed, len(prompt), context.n_batch):
            chunk = prompt[start : start + context.n_batch]
            on_node = progress.begin(len(chunk)) if progress else None
            if self._session.options.stop():
                return False
            if not context.append(chunk, abortable=True, on_node=on_node):
                return False
            self._n_computed += len(chunk)
            if progress:
                progress.end()
        return True

    @property
    def stats(self) -> Stats:
        """What it has taken so far."""
        session = self._session
        return Stats.of(
            load_s=session.load_s,
            ttft_s=self._ttft_s,
            n_prompt=len(self.request.prompt),
            prefill_s=self._prefill_s,
            n_generated=len(self.tokens),
            n_steps=self._n_steps,
            decode_s=self._decode_s,
            n_cached=self._n_computed,
            kv=session.kv,
            kv_type=session.options.kv,
            compute_bytes=session.context.compute_bytes,
            peak_rss_bytes=memory.peak_rss(),
            n_ctx=session.n_ctx,
            threads=session.threads,
            zeros_by_layer=[layer.zeros for layer in session.rows.read()],
        )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
