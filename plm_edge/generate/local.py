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
from plm_edge.generate import prefix
from plm_edge.generate import prompt as prompts
from plm_edge.generate.exact_logits import ExactLogits
from plm_edge.generate.logprobs import chosen, log_softmax
from plm_edge.generate.prefix import CacheContents, ReusedTokens
from plm_edge.generate.progress import Progress
from plm_edge.generate.prompt import Prompt
from plm_edge.generate.protocol import ChosenLogprob, Message, Request, StopReason
from plm_edge.generate.stats import Stats
from plm_edge.generate.steps import Steps
from plm_edge.generate.text import TextDecoder
from plm_edge.machine import memory
from plm_edge.machine.load import OtherPrograms


class LocalGenerator:
    """A session that generates: a `protocol.Generator`.

    Args:
        session: open as long as its generations are iterated. Its `Options.stop` interrupts them,
            within a prefill and between tokens.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held = CacheContents(session)

    def hold(self, tokens: Sequence[int]) -> None:
        """Say that the context holds these tokens already, restored from a file: the next
        generation computes only what its prompt has besides."""
        self._held.hold(tokens)

    @property
    def held(self) -> list[int]:
        """The tokens that the context holds."""
        return list(self._held.tokens)

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
        """Start a generation; iterate it for the text. Only the last may still be iterated.

        What the context holds of its prompt, or the disk, is not computed again.

        Raises:
            PlmEdgeError: as `Request.checked`.
        """
        session = self._session
        checked = request.checked(session.n_ctx, session.model.n_ctx_train)
        return LocalGeneration(session, checked, self._held)


class LocalGeneration:
    """One run of the model here: a `protocol.Generation`.

    Args:
        held: what the context holds of earlier ones.
    """

    def __init__(self, session: Session, request: Request, held: CacheContents) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self.logprobs: list[ChosenLogprob] = []
        self._session = session
        self._held = held
        self._reused = ReusedTokens()
        self._steps = Steps(session, held, request)
        self._exact_logits = ExactLogits(session, request)
        self._text = TextDecoder(request.stop)
        self._n_prefilled = 0  # tokens of the prompt in the cache
        self._prefill_s = 0.0
        self._ttft_s: float | None = None
        self._decode_s = 0.0
        self._n_steps = 0
        self._other_cores: float | None = None

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
        self._session.rows.reset()
        self._exact_logits.begin()
        others = OtherPrograms()
        started = time.perf_counter()
        try:
            if not self._prefill():
                self.stop_reason = "interrupted"
                return
            self._prefill_s = time.perf_counter() - started
            if self.request.n_predict == 0:
                self.stop_reason = "length"
                return
            yield from self._decode(started)
        finally:
            del self.logprobs[len(self.tokens) :]  # of tokens that a stop string left out
            self._other_cores = others.cores()
            self._exact_logits.end()
            self._held.keep(self._n_prefilled)

    def _decode(self, started: float) -> Iterator[bytes]:
        """The bytes of each new token, once the prompt is computed."""
        context, vocabulary = self._session.context, self._session.vocabulary
        grammar = self.request.grammar
        settings = asdict(self.request.sampling)
        refused = self._exact_logits.refused
        with context.sampler(**settings, grammar=grammar, on_refusal=refused) as sampler:
            tokens = [self._next(sampler)]
            self._ttft_s = time.perf_counter() - started
            while True:
                for token in tokens:
                    if vocabulary.is_end(token):
                        self.stop_reason = "end"
                        return
                    self.tokens.append(token)
                    yield vocabulary.piece(token)
                    self.stop_reason = self._reason_to_stop()
                    if self.stop_reason:
                        return
                # Timed from here: what the reader did with the text is not the engine's.
                step = time.perf_counter()
                self._exact_logits.before_step()
                tokens = self._steps.take(
                    tokens, len(self.tokens), lambda row: self._next(sampler, row)
                )
                self._decode_s += time.perf_counter() - step
                self._n_steps += len(tokens)

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
        # The last token needs a place to be computed at.
        n_before = len(self.request.prompt) + len(self.tokens) - 1
        return "context" if n_before >= self._session.n_ctx else None

    def _prefill(self) -> bool:
        """Compute the prompt. False when stopped on the way."""
        context, held = self._session.context, self._held
        prompt = self.request.prompt
        self._reused = held.begin(prompt)
        self._n_prefilled = self._reused.total
        progress = Progress.of(self.request, self._session.header, self._n_prefilled)
        for start, end in prefix.batches(self._n_prefilled, len(prompt), context.n_batch):
            chunk = prompt[start:end]
            on_node = progress.begin(len(chunk)) if progress else None
            if self._session.options.stop():
                return False
            if not context.append(chunk, abortable=True, on_node=on_node):
                return False
            held.add(chunk)
            self._n_prefilled = end
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
            n_cached=len(self._held.tokens),
            kv=session.kv,
            kv_type=session.options.kv,
            compute_bytes=session.context.compute_bytes,
            peak_rss_bytes=memory.peak_rss(),
            n_ctx=session.n_ctx,
            threads=session.threads,
            zeros_by_layer=[layer.zeros for layer in session.rows.read()],
            n_reused_memory=self._reused.memory,
            n_reused_disk=self._reused.disk,
            n_drafted=self._steps.pace.n_drafted,
            n_accepted=self._steps.pace.n_accepted,
            saved_s=self._steps.pace.saved_s,
            other_cores=self._other_cores,
        )
