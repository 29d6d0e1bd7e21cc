"""A server generates: text as it comes from there, and what it took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from plm_edge.engine.log import read_log
from plm_edge.generate import prompt as prompts
from plm_edge.generate.logprobs import TokenLogprob
from plm_edge.generate.prompt import Prompt
from plm_edge.generate.protocol import ChosenLogprob, Message, Request, StopReason
from plm_edge.generate.remote.api import BrokenAnswer
from plm_edge.generate.remote.server import ServedModel, ServerConnection
from plm_edge.generate.stats import Stats


class RemoteGenerator:
    """A served model that generates: a `generate.protocol.Generator`.

    It is a context manager, entered after the server: at its end it asks the server for the memory
    that it took, while the server still runs.

    Args:
        server: runs the model.
        model: what is known of the model.
        stop: is called often; True interrupts a generation.
        load_s: seconds until the server answered.
    """

    def __init__(
        self, server: ServerConnection, model: ServedModel, stop: Callable[[], bool], load_s: float
    ) -> None:
        self._server, self._model, self._stop, self._load_s = server, model, stop, load_s
        self._last: RemoteGeneration | None = None

    def encode(self, prompt: str | Sequence[Message], *, raw: bool = False) -> Prompt:
        """Token ids of a prompt, in the model's chat template if it has one.

        Args:
            prompt: what the person says, or a conversation that is to be answered.
            raw: leave the template out.

        Raises:
            PlmEdgeError: the template is broken, there are messages but no template, or the server
                failed.
        """
        model = self._model
        template = None if raw else model.chat_template
        try:
            return prompts.encode(
                prompt, self._server.api.tokenize, template, bos=model.bos, eos=model.eos
            )
        except BrokenAnswer:
            raise self._server.failure() from None

    def generate(self, request: Request) -> RemoteGeneration:
        """Start a generation; iterate it for the text.

        Raises:
            PlmEdgeError: as `Request.checked`.
        """
        checked = request.checked(self._server.n_ctx, self._model.n_ctx_train)
        self._last = RemoteGeneration(self._server, checked, self._stop, self._load_s)
        return self._last

    def __enter__(self) -> RemoteGenerator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._last is not None:
            self._last.read_memory()


class RemoteGeneration:
    """One run of the model there: a `generate.protocol.Generation`.

    While it streams, the server names no token that ends within a character; `whole` finds out
    which tokens these were.
    """

    def __init__(
        self, server: ServerConnection, request: Request, stop: Callable[[], bool], load_s: float
    ) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self.logprobs: list[ChosenLogprob] = []
        self._server = server
        self._stop = stop
        self._load_s = load_s
        self._ttft_s: float | None = None
        self._timings: dict[str, Any] = {}
        self._n_tokens = 0
        self._peak_rss = 0
        self._unnamed: list[tuple[int, int, str]] = []  # index in `tokens`, number, text

    def _body(self) -> dict[str, Any]:
        request, sampling = self.request, self.request.sampling
        room = self._server.n_ctx - len(request.prompt) + 1
        return {
            "prompt": request.prompt,
            "n_predict": room if request.n_predict is None else min(room, request.n_predict),
            "temperature": sampling.temp, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "min_p": sampling.min_p, "seed": sampling.seed, "stop": list(request.stop),
            "samplers": ["top_k", "top_p", "min_p", "temperature"] if sampling.temp else ["top_k"],
            "return_tokens": True, "cache_prompt": self._server.reuse, "timings_per_token": True,
            "grammar": request.grammar, "n_probs": request.logprobs,
            "return_progress": request.on_prefill is not None,
        } | ({} if sampling.temp else {"top_k": 1})  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        started = time.perf_counter()
        ended = False
        try:
            for event in self._server.api.stream(self._body(), self._stop):
                if "prompt_progress" in event:  # it has no text, and token 0 as if there were one
                    self._tell(event["prompt_progress"])
                    continue
                if self._ttft_s is None:
                    self._ttft_s = time.perf_counter() - started
                if event.get("timings"):
                    self._timings = event["timings"]
                self._note(event.get("tokens", []), event.get("content", ""))
                if not event.get("stop"):
                    self.logprobs += read_logprobs(event)
                if event.get("content"):
                    yield event["content"]
                if event.get("stop"):
                    self._end(event)
                    ended = True
        except BrokenAnswer:
            raise self._server.failure() from None
        if not ended:
            self.stop_reason = "interrupted"
            self._n_tokens = int(self._timings.get("predicted_n", 0))

    def _tell(self, progress: dict[str, Any]) -> None:
        if self.request.on_prefill is not None:
            self.request.on_prefill(int(progress["processed"]), int(progress["total"]))

    def whole(self) -> str:
        """Run it to its end and return all of the text; then `tokens` holds every token.

        If it is interrupted, `tokens` may lack those of a character that was not whole.

        Raises:
            PlmEdgeError: the server failed.
        """
        text = "".join(self)
        try:
            for at, count, part in reversed(self._unnamed):
                ids = self._server.api.tokenize(part, add_special=False)
                if len(ids) == count + 1 and ids[-1] == self.tokens[at]:
                    self.tokens[at:at] = ids[:-1]
            if self._lacks_some():
                # The text was made of other tokens than the tokenizer takes, or ends within a
                # character. So run it again with the same random numbers: an answer that is not
                # streamed names all tokens.
                answer = self._server.api.complete(self._body())
                self.tokens = [int(token) for token in answer["tokens"]]
                del self.tokens[self._n_tokens :]
                self.logprobs = read_logprobs(answer)[: self._n_tokens]
        except BrokenAnswer:
            raise self._server.failure() from None
        return text

    def _lacks_some(self) -> bool:
        """Says whether the stream has named fewer tokens, or log probabilities, than an answer that
        is not streamed does."""
        if self.stop_reason == "interrupted":
            return False
        # What may become a stop string is held back, and comes with the last token's alone.
        held_back = bool(self.request.logprobs and self.request.stop)
        known = [chosen.token for chosen in self.logprobs]
        return len(self.tokens) != self._n_tokens or (held_back and known != self.tokens)

    def _note(self, ids: list[int], text: str) -> None:
        """Keep the tokens that an event names, and where unnamed ones stand before them."""
        n_generated = int(self._timings.get("predicted_n", 0))
        known = len(self.tokens) + sum(count for _, count, _ in self._unnamed)
        unnamed = n_generated - known - len(ids)
        if ids and unnamed > 0:
            self._unnamed.append((len(self.tokens), unnamed, text))
        self.tokens += ids

    def _end(self, event: dict[str, Any]) -> None:
        n_generated = int(event["timings"]["predicted_n"])
        if event["stop_type"] == "eos":
            self.stop_reason = "end"
            end = self.tokens.pop()
            if self.logprobs and self.logprobs[-1].token == end:
                self.logprobs.pop()
            n_generated -= 1
        elif event["stop_type"] == "word":
            self.stop_reason = "stop"
        elif self.request.n_predict is not None and n_generated >= self.request.n_predict:
            self.stop_reason = "length"
        else:
            self.stop_reason = "context"
        self._n_tokens = n_generated

    def read_memory(self) -> None:
        """Read how much memory the server took; only a running server can say it."""
        self._peak_rss = self._server.peak_rss()

    @property
    def stats(self) -> Stats:
        """What it took there. `ttft_s` was measured here, the network included.

        A server on a device tells the layers apart when it ends (`zeros_by_layer`).
        """
        server, timings = self._server, self._timings
        report = read_log(server.log)
        n_prompt = len(self.request.prompt)
        steps = max(int(timings.get("predicted_n", 0)) - 1, 0)  # the first is prefill's
        return Stats.of(
            load_s=self._load_s,
            ttft_s=self._ttft_s,
            n_prompt=n_prompt,
            prefill_s=float(timings.get("prompt_ms", 0)) / 1000,
            n_generated=self._n_tokens,
            n_steps=steps,
            decode_s=float(timings.get("predicted_ms", 0)) / 1000 if steps else 0.0,
            n_cached=n_prompt + steps if timings else 0,
            kv=server.kv_report(),
            kv_type=server.kv,
            compute_bytes=report.compute_bytes(),
            peak_rss_bytes=self._peak_rss,
            n_ctx=server.n_ctx,
            threads=server.threads,
            zeros_by_layer=_zeros(server.log),
            zero_rows=timings.get("plm_zero_rows"),
            n_reused_memory=int(timings.get("cache_n", 0)),
            n_drafted=int(timings.get("draft_n", 0)),
            n_accepted=int(timings.get("draft_n_accepted", 0)),
        )


def read_logprobs(event: dict[str, Any]) -> list[ChosenLogprob]:
    """Log probabilities in the server's answer or in one of its events.

    It tells none of a token that ends within a character.
    """
    found = []
    for chosen in event.get("completion_probabilities", []):
        top = tuple(_logprob(other) for other in chosen["top_logprobs"])
        # Of the token itself the server tells the characters that were whole with it.
        own = next((other for other in top if other.token == chosen["id"]), _logprob(chosen))
        found.append(ChosenLogprob(own.token, own.piece, own.logprob, top))
    return found


def _logprob(found: dict[str, Any]) -> TokenLogprob:
    return TokenLogprob(int(found["id"]), bytes(found["bytes"]), float(found["logprob"]))


def _zeros(log: str) -> list[float]:
    """The share of zero rows in each layer, as our engine logs it (0 to 1)."""
    rows_by_layer = re.findall(r"^plm-edge rows: \d+ (\d+) (\d+)$", log, re.M)
    return [1 - int(read) / int(rows) for rows, read in rows_by_layer]
