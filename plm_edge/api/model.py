"""A model is loaded once, and generates, counts and scores as long as it is open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from plm_edge.api import scoring, state
from plm_edge.api.answer import Answer, Stream
from plm_edge.api.options import options
from plm_edge.api.settings import Settings
from plm_edge.api.settings import request as request_of
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import gpu_engine
from plm_edge.engine.options import AUTO
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.logprobs import TokenLogprob
from plm_edge.generate.protocol import Message
from plm_edge.generate.stats import Stats
from plm_edge.store import choice


class Model:
    """A loaded model. Use `with`, or `close` it.

        with Model.load("tiny-plm") as model:
            print(model.generate("def add(a, b):", n_predict=32))

    Several threads may use one model: they take turns, each call as a whole. A stream is no such
    whole: another generation, or another use of the context, ends it with an error. So give each
    thread that streams a model of its own.

    Ctrl-C raises KeyboardInterrupt, in a prefill too, and leaves a model that can be used.

    Args:
        name_or_path: a GGUF, or the name of a model that `plm-edge list` shows. None takes what
            PLM_EDGE_MODEL names, else the newest, else the bundled tiny-plm.
        ctx: tokens of context; None: the model's, at most 4096, and fewer where memory is short.
        threads: most that compute, fewer while that is faster; None: one a big core.
        kv: type of the KV cache: "f16", "q8_0" or "q4_0"; "auto": f16, a smaller one where memory
            is short. `notes` say what was given up.
        gpu_layers: layers on a GPU, counted from the end: the output first. None: as many as fit
            its free memory, if the engine has one.
        rpc: other machines that compute layers, "HOST:PORT" each, as a list or with
            commas between them (docs/machines.md).
        mlock: keep the weights in memory, never swapped out.
        exact: approximate nothing (docs/run.md), for the whole process while the model is open.
        check_memory: refuse a model that does not fit into what is free.
        prompt_cache: most disk for prompts that are kept over restarts, such as "500M"
            (docs/prompt-cache.md); None keeps none: a library writes what it is asked to write.
        on_load: called with the share that is loaded, 0 to 1.

    Raises:
        PlmEdgeError: there is no such model, it cannot be loaded, memory is short, or an argument
            is out of its range.
    """

    def __init__(
        self,
        name_or_path: str | Path | None = None,
        *,
        ctx: int | None = None,
        threads: int | None = None,
        kv: str = AUTO,
        gpu_layers: int | None = None,
        rpc: str | Sequence[str] = (),
        mlock: bool = False,
        exact: bool = False,
        check_memory: bool = True,
        prompt_cache: str | None = None,
        on_load: Callable[[float], None] | None = None,
    ) -> None:
        wanted = options(
            ctx=ctx,
            threads=threads,
            kv=kv,
            gpu_layers=gpu_layers,
            rpc=rpc,
            mlock=mlock,
            exact=exact,
            check_memory=check_memory,
            prompt_cache=prompt_cache,
            on_load=on_load,
        )
        self._path = choice.choose(name_or_path).path
        if gpu_layers:
            gpu_engine.use()
        self._session = Session.open(
            self._path,
            wanted,
        )
        self._generator = LocalGenerator(self._session)
        self._is_instruct = self._session.model.chat_template is not None
        self._turn = threading.RLock()
        self._n_uses = 0  # of the context; a stream ends when another use comes between
        self._last: Stats | None = None
        self._open = True

    @classmethod
    def load(
        cls,
        name_or_path: str | Path | None = None,
        *,
        ctx: int | None = None,
        threads: int | None = None,
        kv: str = AUTO,
        gpu_layers: int | None = None,
        rpc: str | Sequence[str] = (),
        mlock: bool = False,
        exact: bool = False,
        check_memory: bool = True,
        prompt_cache: str | None = None,
        on_load: Callable[[float], None] | None = None,
    ) -> Model:
        """Returns a loaded model: the same as calling the class."""
        return cls(
            name_or_path,
            ctx=ctx,
            threads=threads,
            kv=kv,
            gpu_layers=gpu_layers,
            rpc=rpc,
            mlock=mlock,
            exact=exact,
            check_memory=check_memory,
            prompt_cache=prompt_cache,
            on_load=on_load,
        )

    # What it is

    @property
    def notes(self) -> list[str]:
        """Sentences that say what was chosen for want of memory, and what is computed where."""
        return self._session.notes

    @property
    def path(self) -> Path:
        """The GGUF."""
        return self._path

    @property
    def n_ctx(self) -> int:
        """Tokens of context."""
        return self._session.n_ctx

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._session.context.n_vocab

    @property
    def is_instruct(self) -> bool:
        """Whether it has a chat template. A model without one continues texts."""
        return self._is_instruct

    @property
    def stats(self) -> Stats | None:
        """What the last generation took; None before the first one ended."""
        return self._last

    # Generating

    def generate(self, prompt: str | Sequence[Message], **settings: Unpack[Settings]) -> Answer:
        """Returns the answer to a prompt.

        Args:
            prompt: a text, or a conversation that is to be answered.
            settings: see `Settings`.

        Raises:
            PlmEdgeError: as `stream`.
        """
        with self._turn:
            answer = self.stream(prompt, **settings).answer
            self._last = answer.stats
            return answer

    def chat(self, messages: str | Sequence[Message], **settings: Unpack[Settings]) -> Answer:
        """Returns the answer of an instruct model to what the user says, or to a conversation.

        Args:
            messages: a text by the user, or messages with "role" and "content".
            settings: see `Settings`.

        Raises:
            PlmEdgeError: it is a base model, without a chat template; or as `stream`.
        """
        said: list[Message]
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]
        return self.generate(said, **settings)

    def stream(self, prompt: str | Sequence[Message], **settings: Unpack[Settings]) -> Stream:
        """Returns the answer to a prompt as it is made; iterate it for the text.

        Args:
            prompt: a text, or a conversation that is to be answered. An instruct model gets a text
                within its chat template, a base model as it is.
            settings: see `Settings`.

        Raises:
            PlmEdgeError: the prompt does not fit, a setting is out of its range, the schema or the
                grammar is broken, or there are messages and no chat template.
        """
        with self._used() as use:
            encoded = self._generator.encode(prompt, raw=settings.get("raw", False))
            request, schema = request_of(encoded.tokens, settings)
            generation = self._generator.generate(request)

        def step(pieces: Iterator[str]) -> str | None:
            with self._turn:
                self._check(use)
                piece = next(pieces, None)
                if piece is None:
                    self._last = generation.stats
                return piece

        return Stream(generation, schema, step)

    # Tokens and their probabilities

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """Returns the token ids of a text; names of special tokens in it become those tokens.

        Args:
            add_special: add the token that begins a sequence where the model wants one.
        """
        with self._turn:
            self._check()
            return self._session.tokenize(text, add_special=add_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Returns the text of token ids; half a character becomes U+FFFD.

        Args:
            special: also name special tokens, which have no text otherwise.
        """
        with self._turn:
            self._check()
            piece, n_vocab = self._session.vocabulary.piece, self.n_vocab
            if wrong := [token for token in tokens if not 0 <= token < n_vocab]:
                raise ValueError(f"{wrong[0]} is no token: there are {n_vocab:,}")
            text = b"".join(piece(token, special=special) for token in tokens)
        return text.decode("utf-8", "replace")

    def logits(self, text: str | Sequence[int]) -> NDArray[np.float32]:
        """Returns [tokens, n_vocab]: row i is about what comes after token i.

        Args:
            text: a text, or token ids.

        Raises:
            PlmEdgeError: it is empty or does not fit the context.
        """
        with self._used():
            self._generator.hold([])
            return scoring.logits(self._session, self._tokens(text))

    def logprobs(self, text: str | Sequence[int]) -> list[TokenLogprob]:
        """Returns the natural log probability of each token but the first, given those before it.

        Args:
            text: a text, or token ids.

        Raises:
            PlmEdgeError: it is empty or does not fit the context.
        """
        with self._used():
            self._generator.hold([])
            return scoring.logprobs(self._session, self._tokens(text))

    def _tokens(self, text: str | Sequence[int]) -> list[int]:
        if isinstance(text, str):
            return self._session.tokenize(text)
        n_vocab = self.n_vocab
        if wrong := [token for token in text if not 0 <= token < n_vocab]:
            raise ValueError(f"{wrong[0]} is no token: there are {n_vocab:,}")
        return [int(token) for token in text]

    # What the context holds

    def save_state(self, path: str | Path) -> int:
        """Write what the context holds of the last prompt and its answer; returns its tokens.

        A file beside `path` takes its place when it is whole.

        Raises:
            OSError: it cannot be written.
        """
        with self._turn:
            self._check()
            context, tokens = self._session.context, self._generator.held
            # Ctrl-C can fall between a computation and its account.
            n_held = min(len(tokens), context.length())
            context.remove(0, n_held)
            tokens = tokens[:n_held]
            state.write(Path(path), self._session, tokens)
            return len(tokens)

    def restore_state(self, path: str | Path) -> int:
        """Put back what `save_state` wrote; returns its tokens.

        The next prompt that begins with them computes only the rest.

        Raises:
            ValueError: the file is damaged, or of another model, cache type or engine; it is a
                PlmEdgeError as well. The model stays as it was.
            OSError: it cannot be read.
        """
        with self._turn:
            self._check()
            found = state.read(Path(path), self._session)
            with self._used():
                self._session.context.clear()
                self._session.context.restore(found.data)
                self._generator.hold(found.tokens)
            return len(found.tokens)

    # Its life

    def close(self) -> None:
        """Free the memory. Safe to call twice."""
        with self._turn:
            self._open = False
            self._n_uses += 1
            self._session.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state_ = self._session.description if self._open else "closed"
        return f"<Model {self._path.name}: {state_}>"

    @contextmanager
    def _used(self) -> Iterator[int]:
        """The context is used, by this thread alone. Yields a number for `_check`."""
        with self._turn:
            self._check()
            self._n_uses += 1
            yield self._n_uses

    def _check(self, use: int | None = None) -> None:
        """Raises an error when the model is closed, or was used otherwise since `use`."""
        if not self._open:
            raise PlmEdgeError(
                "the model is closed",
                "close was called, or its with block has ended",
                "load it again",
                ExitCode.USAGE,
            )
        if use is not None and use != self._n_uses:
            raise PlmEdgeError(
                "the stream was broken off",
                "the model has computed something else since: there is one context",
                "take all of a stream first, or load a second model",
                ExitCode.USAGE,
            )
