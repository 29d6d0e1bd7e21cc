"""A reference is what counts as right: a GGUF through the engine, or a checkpoint through torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.sources.source import open_source
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.model.vocabulary import TOKENS
from plm_edge.quality import predictions
from plm_edge.quality.predictions import Rows
from plm_edge.quality.text import Chunks

TYPES = "tokenizer.ggml.token_type"
_UNUSED = 5  # padding, which no text is made of


class Reference(Protocol):
    """Predictions of a model for the judged positions of a text's chunks."""

    path: Path

    def chunk(self, number: int) -> Iterator[Rows]:
        """Yields [some rows, n_vocab]: natural logarithms of probabilities, in order."""
        ...

    def close(self) -> None:
        """Free its memory; it is loaded again when it is asked again. Safe to call twice."""
        ...


class EngineReference:
    """A GGUF, loaded when it is first asked.

    Args:
        options: how it is computed; its cache is in f32 whatever they say.
    """

    def __init__(self, path: Path, chunks: Chunks, n_vocab: int, options: Options) -> None:
        self.path, self._chunks, self._n_vocab = path, chunks, n_vocab
        self._options = replace(options, kv="f32")
        self._session: Session | None = None

    def chunk(self, number: int) -> Iterator[Rows]:
        """See `Reference`.

        Raises:
            PlmEdgeError: it cannot be loaded or computed.
        """
        if self._session is None:
            self._session = predictions.open_for(
                self.path, self._n_vocab, self._chunks.n_ctx, self._options
            )
        yield from predictions.log_probabilities(self._session, self._chunks, number)

    def close(self) -> None:
        """See `Reference`."""
        if self._session is not None:
            self._session.close()
        self._session = None


def hash_of(path: Path) -> str:
    """Returns a SHA-256 that stands for a model's content: of a GGUF (all its files), or of the
    files of a checkpoint.

    Raises:
        PlmEdgeError: it is not there, or no model.
    """
    try:
        if not path.is_dir():
            parts = list(gguf_file.shards(path))
            if len(parts) == 1:
                return files.sha256(path)
        else:
            with open_source(path) as source:
                parts = sorted(source.origin.files)
        return hashlib.sha256("".join(map(files.sha256, parts)).encode()).hexdigest()
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {error.filename or path}", str(error.strerror), "check the path"
        ) from error


def vocabulary_of(path: Path) -> list[bytes | None]:
    """Returns the name of each token of a GGUF or a checkpoint; None for padding that no text has.

    Raises:
        PlmEdgeError: it cannot be read, or has no vocabulary.
    """
    names: list[bytes]
    if path.is_dir():
        with open_source(path) as source:
            found = source.keys[TOKENS].value
            names = [str(name).encode("utf-8", "surrogatepass") for name in found]
            types = list(source.keys[TYPES].value) if TYPES in source.keys else []
    else:
        keys: dict[str, Any] = gguf_file.read(path).keys
        tokens = keys.get(TOKENS)
        if not isinstance(tokens, gguf_file.Array) or tokens.type != "str":
            raise PlmEdgeError(
                f"{path.name} has no vocabulary",
                f"its key {TOKENS} is missing, or no list of strings",
                "use a model that carries its tokenizer",
            )
        names, listed = tokens.raw_strings(), keys.get(TYPES)
        types = listed.values() if isinstance(listed, gguf_file.Array) else []
    if len(types) != len(names):
        return list(names)
    return [None if type_ == _UNUSED else name for name, type_ in zip(names, types, strict=True)]


def check_same_tokens(model: Path, reference: Path) -> None:
    """Refuse two models whose token ids do not mean the same.

    Raises:
        PlmEdgeError: they do not, or one of them cannot be read.
    """
    ours, theirs = vocabulary_of(model), vocabulary_of(reference)
    fix = f"compare files of one model: make the reference from the checkpoint of {model.name}"
    if len(ours) != len(theirs):
        raise PlmEdgeError(
            f"{model.name} cannot be compared with {reference.name}",
            f"their vocabularies differ in size: {len(ours):,} tokens and {len(theirs):,}",
            fix,
        )
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            raise PlmEdgeError(
                f"{model.name} cannot be compared with {reference.name}",
                f"their tokenizers differ: token {number} is {_shown(one)} in one and "
                f"{_shown(other)} in the other",
                fix,
            )


def _shown(name: bytes | None) -> str:
    return "unused" if name is None else repr(name.decode("utf-8", "backslashreplace"))[:40]
