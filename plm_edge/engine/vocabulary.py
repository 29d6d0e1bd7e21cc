"""A model's vocabulary turns text into token ids and token ids into bytes."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError


class Vocabulary:
    """The vocabulary of a loaded model.

    Args:
        bindings: llama-cpp-python's module.
        handle: a llama_vocab *, valid as long as its model.

    Attributes:
        handle: the llama_vocab *, for engine/ alone.
        n_tokens: number of token ids.
    """

    def __init__(self, bindings: Any, handle: Any) -> None:
        self._lc, self.handle = bindings, handle
        self._buffer = ctypes.create_string_buffer(64)  # nearly every piece is shorter
        self.n_tokens = int(bindings.llama_vocab_n_tokens(handle))

    @functools.cached_property
    def control(self) -> NDArray[np.bool_]:
        """Which tokens are signs to the program and no text, but for those that end it:
        [n_tokens]."""
        lc, handle = self._lc, self.handle
        found = [
            lc.llama_vocab_is_control(handle, token) and not lc.llama_vocab_is_eog(handle, token)
            for token in range(self.n_tokens)
        ]
        return np.array(found, np.bool_)

    @property
    def bos_eos(self) -> tuple[str, str]:
        """Text of the tokens that begin and end a sequence; empty where there is none."""
        ends = self._lc.llama_vocab_bos(self.handle), self._lc.llama_vocab_eos(self.handle)
        bos, eos = (
            self.piece(token, special=True).decode("utf-8", errors="replace") if token >= 0 else ""
            for token in ends
        )
        return bos, eos

    @property
    def begin(self) -> int | None:
        """The token that the model wants before each text, or None where it wants none."""
        if not self._lc.llama_vocab_get_add_bos(self.handle):
            return None
        return int(self._lc.llama_vocab_bos(self.handle))

    @property
    def end(self) -> int:
        """The token that ends a sequence; -1 where there is none."""
        return int(self._lc.llama_vocab_eos(self.handle))

    def tokenize(
        self, text: str | bytes, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Turns `text` into token ids.

        Args:
            text: what is no UTF-8 in bytes, or a lone surrogate in a str, is replaced by U+FFFD, as
                bytes.decode does. (llama.cpp makes ids of its own of it, and of some ends the
                process.)
            add_special: add the sequence's begin token where the model wants one.
            parse_special: names of special tokens in the text become those tokens.

        Raises:
            PlmEdgeError: the engine refuses the text.
        """
        given = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        raw = given.decode("utf-8", "replace").encode("utf-8")
        n_max = len(raw) + 8  # a token covers at least a byte; a few specials besides
        tokens = (ctypes.c_int32 * n_max)()
        count = self._lc.llama_tokenize(
            self.handle, raw, len(raw), tokens, n_max, add_special, parse_special
        )
        if count < 0:
            raise PlmEdgeError(
                "the prompt cannot be tokenised",
                f"the engine wants room for {-count:,} tokens of {len(raw):,} bytes",
                "shorten the prompt",
            )
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Returns a token's bytes; not always whole characters.

        Args:
            special: also the name of a special token, which is empty otherwise.
        """
        while True:
            count: int = self._lc.llama_token_to_piece(
                self.handle, token, self._buffer, len(self._buffer), 0, special
            )
            if count >= 0:
                return self._buffer.raw[:count]
            self._buffer = ctypes.create_string_buffer(-count)

    def is_end(self, token: int) -> bool:
        """Says whether the model ends its text with this token."""
        return bool(self._lc.llama_vocab_is_eog(self.handle, token))
