"""A plugin and a base, on a server or here, as `generate.protocol` has a model: for chats."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.chat.thinking import without_thinking
from plm_edge.generate.prompt import Prompt
from plm_edge.generate.protocol import ChosenLogprob, Message, Request, StopReason, Text
from plm_edge.generate.stats import Stats
from plm_edge.generate.text import TextDecoder
from plm_edge.machine import memory
from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.device import Generation, Mode, public_part
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.source import LinkLost, Source, begun
from plm_edge.spa.standby import Standby
from plm_edge.spa.wire import MESSAGES, RAW, SAID

ENDLESS = 1 << 30


class SpaGenerator:
    """A `generate.protocol.Generator`.

    Of `Request.sampling`, temperature and seed count.

    In mode shadow only what is known to be public goes up: what the person wrote, with the public
    half of {{this|that}}, and what the server made itself. All else is refused here.

    Args:
        source: the base.
        standby: the base here, for when a server is lost; None: there is none.
        stop: is called between tokens; True interrupts.
        after: is told of each text that was made, whatever ended it.
    """

    def __init__(
        self,
        plugin: Plugin,
        source: Source,
        mode: Mode,
        standby: Standby | None,
        stop: Callable[[], bool],
        after: Callable[[Generation], None] = lambda made: None,
    ) -> None:
        self.plugin, self.source, self.mode, self.standby = plugin, source, mode, standby
        self.stop, self._after = stop, after
        # In mode shadow: answers as the person has them, and as the server has; the last one, if
        # it may go on; and what was encoded since.
        self._public: dict[str, str] = {}
        self._unfinished = "", ""
        self._encoded: list[list[int]] = []

    def encode(self, prompt: str | Sequence[Message], *, raw: bool = False) -> Prompt:
        """Returns a prompt's tokens, as the server gets them.

        Raises:
            PlmEdgeError: the template is broken, or there is none for a conversation; the server
                is lost; or, in mode shadow, an answer is of another process, it is not known who
                wrote a text, or as `public_part`: nothing was sent then.
        """
        if isinstance(prompt, str):
            what, text = RAW if raw else SAID, self._public_text(prompt)
        else:
            what, text = MESSAGES, json.dumps([self._public_message(each) for each in prompt])
        found = self._encode(what, text)
        if self.mode == "shadow":
            self._encoded.append(found.tokens)
        return found

    def _encode(self, what: int, text: str) -> Prompt:
        try:
            if self.standby is None:
                return begun(lambda: self.source.encode(what, text))
            return self.source.encode(what, text)
        except LinkLost as error:
            if self.standby is None:
                raise _lost(error) from error
            self.source.close()
            self.source, self.standby = self.standby.take(), None
            return self.source.encode(what, text)

    def _public_text(self, text: str) -> str:
        if self.mode != "shadow":
            return text
        if not isinstance(text, Text):
            raise _not_public("it is not known who wrote a text, and the server would get it")
        return "".join(self._public_message(part)["content"] for part in text.parts)

    def _public_message(self, said: Message) -> Message:
        role, content = said["role"], said["content"]
        if self.mode == "shadow":
            if role in ("system", "user"):
                content = public_part(content)
            elif role == "assistant" and content in self._public:
                content = self._public[content]
            else:
                raise _not_public(
                    "what of its earlier answers was personal is not kept, and the server would "
                    "get it"
                )
        return {"role": role, "content": content}

    def _goes_on(self, tokens: list[int]) -> bool:
        """Whether tokens are a text that was encoded for them and the end of another, with which an
        answer goes on; or such a text alone. All else is refused."""
        if tokens in self._encoded:
            return False
        for begin in self._encoded:
            if tokens[: len(begin)] == begin:
                rest = tokens[len(begin) :]
                if any(other[-len(rest) :] == rest for other in self._encoded):
                    return True
        raise _not_public("a prompt is not of texts that the server may get")

    def generate(self, request: Request) -> SpaGeneration:
        """Start a generation; iterate it for the text.

        Raises:
            PlmEdgeError: as `Request.checked`; or, in mode shadow, the prompt was not encoded here
                since the last generation.
        """
        checked = request.checked(self.source.length, None)
        if self.mode == "shadow":
            if not self._goes_on(checked.prompt):
                self._unfinished = "", ""
            self._encoded.clear()
        return SpaGeneration(self, checked)

    def ended(self, made: Generation, text: str) -> None:
        """A text ended, as far as `text` was shown of it."""
        self.source, self.standby = made.source, made.fallback
        if self.mode == "shadow":
            pieces = map(self.plugin.vocabulary.piece, made.public[made.first :])
            public = b"".join(pieces).decode("utf-8", "replace")
            whole = self._unfinished[0] + text, self._unfinished[1] + public
            self._unfinished = whole if made.full else ("", "")
            for one, other in ((text, public), whole):
                self._public[one] = other
                # A chat leaves thinking out of earlier answers.
                self._public[without_thinking(one)] = without_thinking(other)
        self._after(made)

    def close(self) -> None:
        """End the link, and free what it took."""
        self.source.close()
        if self.standby is not None:
            self.standby.close()


class SpaGeneration:
    """A `generate.protocol.Generation`."""

    def __init__(self, owner: SpaGenerator, request: Request) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self.logprobs: list[ChosenLogprob] = []
        self._owner = owner
        self._times: list[float] = []

    def __iter__(self) -> Iterator[str]:
        owner, request = self._owner, self.request
        sampling = request.sampling
        drawing = sampling.temp, sampling.seed or 0
        owner.source.drawing = drawing
        chooser = PluginChooser(owner.plugin, *drawing)
        made = Generation(owner.source, chooser, owner.plugin.vocabulary, owner.mode, owner.standby)
        decoder, text = TextDecoder(request.stop), ""
        count = ENDLESS if request.n_predict is None else request.n_predict
        self._times = [time.perf_counter()]
        try:
            for step in made.steps(request.prompt, count):
                self._times.append(time.perf_counter())
                self.tokens.append(step.token)
                if part := decoder.feed(step.piece):
                    text += part
                    yield part
                if decoder.stopped or owner.stop():
                    self.stop_reason = "stop" if decoder.stopped else "interrupted"
                    break
            else:
                self.stop_reason = "end" if made.ended else "context" if made.full else "length"
            if part := decoder.finish():
                text += part
                yield part
        finally:
            owner.ended(made, text)

    def whole(self) -> str:
        """Run it to its end and return all of the text.

        Raises:
            PlmEdgeError: the server refuses, or is lost.
        """
        return "".join(self)

    @property
    def stats(self) -> Stats:
        """What it has taken so far. The server's memory is not known here."""
        times = self._times
        ttft = times[1] - times[0] if len(times) > 1 else None
        n_prompt = len(self.request.prompt)
        return Stats.of(
            load_s=0.0,
            ttft_s=ttft,
            n_prompt=n_prompt,
            prefill_s=ttft or 0.0,
            n_generated=len(self.tokens),
            n_steps=max(0, len(self.tokens) - 1),
            decode_s=times[-1] - times[1] if len(times) > 2 else 0.0,
            n_cached=n_prompt + len(self.tokens),
            kv=None,
            kv_type="the base's",
            compute_bytes=0,
            peak_rss_bytes=memory.peak_rss(),
            n_ctx=self._owner.source.length,
            threads=0,
            zeros_by_layer=[],
        )


def _not_public(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "this chat cannot go on in mode shadow",
        why,
        "begin a new chat, or go on with --mode open or --mode local",
        ExitCode.USAGE,
    )


def _lost(error: LinkLost) -> PlmEdgeError:
    return PlmEdgeError(
        "the server was lost",
        str(error),
        "try again, or have the base here too: it goes on without a server",
        ExitCode.DEVICE,
    )
