"""One run of a deployed model: text as it comes from the device, and what it took there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy.api import Broken
from plm_edge.deploy.server import Server
from plm_edge.engine.generation import Stats, StopReason
from plm_edge.engine.log import read_log
from plm_edge.engine.sampling import Sampling


class RemoteGeneration:
    """One run of the model there. Iterating (once) yields text as it comes.

    Attributes:
        tokens: ids of the new tokens, the end token not among them. While text is streamed the
            server names no token whose character is not whole: `whole` finds these out.
        stop_reason: why it stopped, or None while it runs.
    """

    def __init__(
        self,
        server: Server,
        prompt: list[int],
        n_predict: int | None,
        sampling: Sampling,
        stop: Callable[[], bool],
        load_s: float,
    ) -> None:
        n_ctx = server.settings.n_ctx
        if not prompt:
            raise PlmEdgeError(
                "the prompt is empty",
                "it has no tokens",
                "give a text with --prompt",
                ExitCode.USAGE,
            )
        if len(prompt) >= n_ctx:
            raise PlmEdgeError(
                "the prompt does not fit the context",
                f"it has {len(prompt):,} tokens, the context {n_ctx:,}",
                "raise --ctx, or shorten the prompt",
            )
        self.sampling = sampling.checked()
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self._server = server
        self._prompt = prompt
        self._wanted = n_predict
        self._stop = stop
        self._load_s = load_s
        self._ttft_s: float | None = None
        self._timings: dict[str, Any] = {}
        self._n_tokens = 0
        self._peak_rss = 0
        self._unnamed: list[tuple[int, int, str]] = []  # where in `tokens`, how many, their text

    def _body(self) -> dict[str, Any]:
        room = self._server.settings.n_ctx - len(self._prompt) + 1
        sampling = self.sampling
        return {
            "prompt": self._prompt,
            "n_predict": room if self._wanted is None else min(room, self._wanted),
            "temperature": sampling.temp, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "min_p": sampling.min_p, "seed": sampling.seed,
            "samplers": ["top_k", "top_p", "min_p", "temperature"] if sampling.temp else ["top_k"],
            "return_tokens": True, "cache_prompt": False, "timings_per_token": True,
        } | ({} if sampling.temp else {"top_k": 1})  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        started = time.perf_counter()
        ended = False
        try:
            for event in self._server.api.stream(self._body(), self._stop):
                if self._ttft_s is None:
                    self._ttft_s = time.perf_counter() - started
                if event.get("timings"):
                    self._timings = event["timings"]
                self._note(event.get("tokens", []), event.get("content", ""))
                if event.get("content"):
                    yield event["content"]
                if event.get("stop"):
                    self._end(event)
                    ended = True
        except Broken:
            raise self._server.failure() from None
        if not ended:
            self.stop_reason = "interrupted"
            self._n_tokens = int(self._timings.get("predicted_n", 0))

    def whole(self) -> str:
        """Run it to its end, and return all of the text; then `tokens` holds every one.

        Stopped before its end, it lacks those of a character that the server did not name.

        Raises:
            PlmEdgeError: the server failed.
        """
        text = "".join(self)
        try:
            for at, count, part in reversed(self._unnamed):
                ids = self._server.api.tokenize(part, add_special=False)
                if len(ids) == count + 1 and ids[-1] == self.tokens[at]:
                    self.tokens[at:at] = ids[:-1]
            if self.stop_reason != "interrupted" and len(self.tokens) != self._n_tokens:
                # other tokens than that text's own, or none for the beginning of a character: the
                # same run again, with the same random numbers, which as one answer names all
                self.tokens = [
                    int(token) for token in self._server.api.complete(self._body())["tokens"]
                ]
                del self.tokens[self._n_tokens :]
        except Broken:
            raise self._server.failure() from None
        return text

    def _note(self, ids: list[int], text: str) -> None:
        """Take the tokens that an event names, and where others went before them unnamed."""
        made = int(self._timings.get("predicted_n", 0))
        known = len(self.tokens) + sum(count for _, count, _ in self._unnamed)
        unnamed = made - known - len(ids)
        if ids and unnamed > 0:
            self._unnamed.append((len(self.tokens), unnamed, text))
        self.tokens += ids

    def _end(self, event: dict[str, Any]) -> None:
        made = int(event["timings"]["predicted_n"])
        if event["stop_type"] == "eos":
            self.stop_reason = "end"
            self.tokens = self.tokens[:-1]
            made -= 1
        elif self._wanted is not None and made >= self._wanted:
            self.stop_reason = "length"
        else:
            self.stop_reason = "context"
        self._n_tokens = made

    def look(self) -> None:
        """Note what only a server that still runs can tell: its memory."""
        self._peak_rss = _peak_rss(self._server)

    @property
    def stats(self) -> Stats:
        """What it took there. `ttft_s` was measured here, the way there and back included.

        Complete once the server has ended: it tells of zero rows as the last thing.
        """
        settings, timings = self._server.settings, self._timings
        said = read_log(self._server.log)
        kv = said.kv()
        per_token = kv.n_bytes / kv.cells if kv and kv.cells else 0.0
        n_prompt = len(self._prompt)
        steps = max(int(timings.get("predicted_n", 0)) - 1, 0)  # the first is prefill's
        prefill_s = float(timings.get("prompt_ms", 0)) / 1000
        decode_s = float(timings.get("predicted_ms", 0)) / 1000 if steps else 0.0
        return Stats(
            load_s=self._load_s,
            ttft_s=self._ttft_s,
            n_prompt=n_prompt,
            prefill_s=prefill_s,
            prefill_tps=n_prompt / prefill_s if prefill_s else None,
            n_generated=self._n_tokens,
            decode_s=decode_s,
            decode_tps=steps / decode_s if decode_s else None,
            kv_type=settings.kv,
            kv_bytes_used=round(per_token * (n_prompt + steps)) if timings else 0,
            kv_bytes_allocated=kv.n_bytes if kv else 0,
            kv_bytes_per_token=per_token,
            compute_bytes=said.compute_bytes(),
            peak_rss_bytes=self._peak_rss,
            n_ctx=settings.n_ctx,
            threads=settings.threads,
            zeros_by_layer=_zeros(self._server.log),
        )


def _zeros(log: str) -> list[float]:
    """Share of zero rows by layer, as our engine counts and tells it."""
    told = re.findall(r"^plm-edge rows: \d+ (\d+) (\d+)$", log, re.M)
    return [1 - int(read) / int(rows) for rows, read in told]


def _peak_rss(server: Server) -> int:
    """The most memory that the server had resident there, in bytes; 0 where nothing tells."""
    done = server.device.shell(
        f"grep -i VmHWM /proc/{server.pid}/status || ps -o rss= -p {server.pid}", timeout=20
    )
    found = re.search(r"\d+", done.text)
    return int(found[0]) * 1024 if found else 0
