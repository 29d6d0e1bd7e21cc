"""A text is cut into chunks of equal length, as llama-perplexity cuts it.

Each chunk is begun anew, and the tokens of its second half are judged, so that each of them has at
least half a chunk before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.vocabulary import Vocabulary

BUNDLED = Path(__file__).with_name("text.txt")
_CALIBRATION = Path(__file__).with_name("calibration.txt")
_MODULES, _CHARACTERS = 10, 1200  # of this program's own text, for a calibration


class TooLittleText(PlmEdgeError):
    """A text fills no chunk."""


@dataclass(frozen=True)
class Chunks:
    """The tokens of a text, cut.

    Attributes:
        given: [chunk, n_ctx], int32; what the model is given, the begin token in place of the first
            one where the model wants it.
        right: [chunk, n_ctx], int32; the text's own tokens.
        n_tokens: of the whole text, also those that fill no chunk.
    """

    given: NDArray[np.int32]
    right: NDArray[np.int32]
    n_tokens: int

    def __len__(self) -> int:
        return len(self.given)

    @property
    def n_ctx(self) -> int:
        """Tokens of a chunk."""
        return int(self.given.shape[1])

    @property
    def first(self) -> int:
        """Position in a chunk of the first row of logits that is judged."""
        return self.n_ctx // 2

    @property
    def n_judged(self) -> int:
        """Tokens of a chunk that are judged: those after the positions `first` to the last but
        one."""
        return self.n_ctx - 1 - self.first

    def next_tokens(self, chunk: int) -> NDArray[np.int32]:
        """Returns [n_judged]: what comes after each position that is judged."""
        return self.right[chunk, self.first + 1 :]

    def sha256(self) -> str:
        """Returns a hash of the tokens and of how they are cut."""
        digest = hashlib.sha256(f"{self.given.shape}".encode())
        for tokens in (self.given, self.right):
            digest.update(np.ascontiguousarray(tokens).tobytes())
        return digest.hexdigest()


def read(path: Path) -> str:
    """Read a text; one newline at its end is no part of it (llama-perplexity takes it off too).

    Raises:
        PlmEdgeError: there is no such file, it cannot be read, is empty, or no UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read the text {path}", str(error.strerror), "give the path of a text file"
        ) from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlmEdgeError(
            f"{path} is no text",
            f"byte {error.start} ({raw[error.start]:#04x}) is not UTF-8",
            "give plain text; of another encoding: iconv -f ENCODING -t utf-8",
        ) from error
    if not text.strip():
        raise PlmEdgeError(
            f"{path} has no text",
            "it is empty" if not raw else "it holds only blanks",
            "give a text of some thousand words of the kind that the model is for",
        )
    return text.removesuffix("\n")


def for_calibration() -> str:
    """Returns a text of many kinds, written for it, and after it beginnings of this program's own
    modules: some 6,000 tokens, other than `BUNDLED` in all."""
    package = Path(__file__).parents[1]
    modules = sorted(package.glob("*/*.py"))
    taken = modules[:: max(1, len(modules) // _MODULES)]
    parts = [path.read_text(encoding="utf-8")[:_CHARACTERS] for path in taken]
    return "\n\n".join([read(_CALIBRATION), *parts])


def cut(vocabulary: Vocabulary, text: str, n_ctx: int, most: int | None = None) -> Chunks:
    """Cut a text into whole chunks of `n_ctx` tokens; what is left over at the end is not used.

    Args:
        most: chunks; None takes all.

    Raises:
        TooLittleText: it fills not even one.
    """
    tokens = np.array(vocabulary.tokenize(text, parse_special=False), np.int32)
    count = len(tokens) // n_ctx
    if not count:
        raise TooLittleText(
            "there is too little text",
            f"it has {len(tokens):,} tokens, and a chunk takes {n_ctx:,}",
            "give a longer text, or a smaller --ctx",
        )
    count = min(count, most or count)
    right = tokens[: count * n_ctx].reshape(count, n_ctx)
    given = right.copy()
    if vocabulary.begin is not None:
        given[:, 0] = vocabulary.begin
    return Chunks(given, right, len(tokens))
