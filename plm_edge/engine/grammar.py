"""A grammar in GBNF says which tokens may come next: llama.cpp's own parser and matcher.

What it is written in: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import library
from plm_edge.engine.log import engine_log
from plm_edge.engine.vocabulary import Vocabulary

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
Candidates = NDArray[np.void]  # of CANDIDATE: llama_token_data
_ROOT = b"root"
_NEEDS_VOCABULARY = "no vocab to parse token"
_stderr = threading.Lock()


class Grammar:
    """A grammar and how far a text has come in it.

    Args:
        bindings: llama-cpp-python's module.
        vocabulary: of the model; must outlive the grammar.
        text: GBNF, from a rule called root.

    Raises:
        PlmEdgeError: it is broken (code USAGE); the error names line and column.
    """

    def __init__(self, bindings: Any, vocabulary: Vocabulary, text: str) -> None:
        self._lc, self._vocabulary = bindings, vocabulary
        self._sampler = _parse(bindings, vocabulary.handle, text)
        self._one = np.zeros(1, CANDIDATE)

    @property
    def control(self) -> NDArray[np.bool_]:
        """Which tokens no grammar allows: see `Vocabulary.control`."""
        return self._vocabulary.control

    def allows(self, token: int) -> bool:
        """Says whether `token` may come next."""
        if self._vocabulary.control[token]:
            return False
        self._one[0] = (token, 1.0, 0.0)
        self._apply(self._one)
        return bool(np.isfinite(self._one["logit"][0]))

    def allowed(self, candidates: Candidates) -> Candidates:
        """Returns those of `candidates` that may come next, in their order."""
        self._apply(candidates)
        kept = np.isfinite(candidates["logit"]) & ~self._vocabulary.control[candidates["id"]]
        found: Candidates = candidates[kept]
        return found

    def accept(self, token: int) -> None:
        """Go on by `token`, which must be allowed: the engine ends the process otherwise."""
        self._lc.llama_sampler_accept(self._sampler, token)

    def _apply(self, candidates: Candidates) -> None:
        self._lc.llama_sampler_apply(self._sampler, ctypes.byref(view(self._lc, candidates)))

    def close(self) -> None:
        """Free it. Safe to call twice."""
        if self._sampler:
            self._lc.llama_sampler_free(self._sampler)
        self._sampler = None


def view(bindings: Any, candidates: Candidates) -> Any:
    """Returns a llama_token_data_array over `candidates`, which it changes and must not outlive."""
    pointer = ctypes.cast(candidates.ctypes.data, bindings.llama_token_data_p)
    return bindings.llama_token_data_array(pointer, len(candidates), -1, False)


def check(text: str) -> None:
    """Parse a grammar without a model, as far as that goes: names of tokens need one.

    Raises:
        PlmEdgeError: it is broken (code USAGE), or there is no engine.
    """
    bindings = library.load().bindings
    engine_log.install(bindings)
    sampler = _parse(bindings, None, text, excused=_NEEDS_VOCABULARY)
    if sampler:
        bindings.llama_sampler_free(sampler)


def _parse(bindings: Any, vocabulary: Any, text: str, excused: str | None = None) -> Any:
    """A llama_sampler of a grammar; None where it is broken for the reason that is `excused`."""
    raw = text.encode("utf-8", "surrogatepass")
    if not raw.strip() or b"\0" in raw:
        raise _broken("it is empty" if not raw.strip() else "it holds a zero byte")
    engine_log.forget_errors()
    sampler, said = _heard(
        lambda: bindings.llama_sampler_init_grammar(vocabulary, raw, _ROOT), text
    )
    if sampler:
        return sampler
    if excused and excused in said:
        return None
    raise _broken(_where(said, text) or engine_log.reason() or "the engine gives no reason")


def _heard(call: Callable[[], Any], text: str) -> tuple[Any, str]:
    """The result of a call, and what the engine wrote to stderr, for its parser does not log."""
    with _stderr, tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            result = call()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        said = file.read().decode("utf-8", "replace")
    found = re.search(r"error parsing grammar: (.*)", said, re.DOTALL)
    # It repeats the whole grammar behind the reason.
    return result, (found[1] if found else said).removesuffix("\n").removesuffix(f"\n\n{text}")


def _where(said: str, text: str) -> str:
    """What the parser says, with line and column instead of all the rest of the text."""
    reason, at, rest = said.strip("\n").partition(" at ")
    if undefined := re.match(r"Undefined rule identifier '([^']+)'", reason):
        name = re.search(rf"(?<![\w-]){re.escape(undefined[1])}(?![\w-])", text)
        line = text.count("\n", 0, name.start()) + 1 if name else 0
        return f"line {line}: there is no rule {undefined[1]}"
    if reason.startswith("unexpected end"):
        return f"line {text.rstrip().count(chr(10)) + 1}: it ends within a text or a range"
    if not at:
        return reason.strip()
    if not text.endswith(rest):
        return said.strip().splitlines()[0]
    before = text[: len(text) - len(rest)]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1].strip()
    return f"line {line}, column {column}: {reason} in {shown[:120]!r}"


def _broken(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "the grammar cannot be used",
        why,
        'write GBNF with a rule root, such as: root ::= "yes" | "no"',
        ExitCode.USAGE,
    )
