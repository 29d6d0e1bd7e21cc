"""A model gets a token more: `plm-edge tokens add`.

Models have spare rows, which make the vocabulary a round number and belong to no token. One of them
becomes the new token's: its name, a type by which the tokenizer finds it whole in a text, and its
row of the embedding and of the output matrix, with the bits that a conversion would give it.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValue, GGUFValueType, TokenType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.embed.outline import OUTPUT, TRAINS, U, V
from plm_edge.converters.embed.rank_one import Pair
from plm_edge.converters.embed.spec import FEWEST, MOST, Train
from plm_edge.converters.embed.tensor_train import decompose, rebuild
from plm_edge.converters.embed.whole import Whole
from plm_edge.converters.keys import array
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.sources.gguf_source import GgufTensor
from plm_edge.converters.tensors import Bytes, Floats, Tensor, WithRow
from plm_edge.converters.write import amend
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model.description import EMBED_KEY, describe
from plm_edge.model.gguf_file import Array, GGUFFile

Q = GGMLQuantizationType
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
# what numpy says of a file that is none of its own, or holds other than numbers
_NO_ARRAY = (ValueError, TypeError, EOFError, AttributeError, MemoryError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Added:
    """A token that was added.

    Attributes:
        id: its number.
        spare: rows that are still no token's.
        size: of the file, in bytes.
    """

    word: str
    id: int
    spare: int
    size: int


class _Matrix:
    """Rows of the embedding and of the output matrix, whatever parts they are in."""

    def __init__(
        self, content: GGUFFile, tensors: dict[str, GgufTensor], quantizer: Quantizer
    ) -> None:
        self._tensors, self._quantizer = tensors, quantizer
        self.kind = describe(content).embedding
        whole = Whole.of(tensors)
        if self.kind == "tt":
            if TRAINS not in tensors:
                raise _unfit(content.path, f"it has no {TRAINS}")
            self._train = _train(content, tensors[TRAINS].shape[-1])
            return
        if whole is None or (whole.pair is None and self.kind == "r1"):
            raise _unfit(content.path, "its embedding, or a part of it, is missing")
        self._whole = whole
        self._weights = _importance(content, whole.tables[0].shape[-1])
        if self.kind == "r1":
            self._pair = Pair(self._read(V, 0), self._weights)

    def row(self, token: int) -> Floats:
        """Returns a token's vector at the input, [width]."""
        if self.kind == "tt":
            [vector] = rebuild(self._read(TRAINS, token)[None], self._train)
        else:
            [vector] = self._whole.rows(token, 1, self._quantizer)
        found: Floats = vector
        return found

    def output_row(self, token: int) -> Floats | None:
        """Returns a token's row of an output matrix of its own, [width]; None where there is
        none."""
        return self._read(OUTPUT, token) if OUTPUT in self._tensors else None

    def with_row(self, token: int, vector: Floats, output: Floats | None) -> list[Tensor]:
        """Returns the tensors that change."""
        made: list[Tensor] = []
        if self.kind == "tt":
            [cores] = decompose(vector[None], self._train, self._tensors[TRAINS].shape[-1])
            made.append(self._written(TRAINS, token, cores))
        else:
            table, at = self._whole.place(token)
            if self.kind == "r1":
                u = self._pair.u(vector[None])
                [vector] = self._pair.rest(vector[None], u)
                made.append(self._written(U, token, u))
            made.append(self._written(table.name, at, vector, self._weights))
        if output is not None:
            made.append(self._written(OUTPUT, token, output))
        return made

    def _read(self, name: str, row: int) -> Floats:
        [values] = floats(self._tensors[name], row, 1, self._quantizer)
        found: Floats = values
        return found

    def _written(
        self, name: str, row: int, values: Floats, weights: Floats | None = None
    ) -> WithRow:
        tensor = self._tensors[name]
        data: Bytes = np.empty(tensor.row_bytes, np.uint8)
        whole = np.ascontiguousarray(values, np.float32)
        if not self._quantizer.encode(tensor.type, whole, whole.size, data, weights):
            raise _unfit(tensor.path, "its vector has a value that is infinite or no number")
        return WithRow(tensor, row, data)


def add(
    model: Path,
    word: str,
    out: Path,
    text: str | None = None,
    vectors: Floats | None = None,
    progress: Progress | None = None,
) -> Added:
    """Write a GGUF again, in which a spare row is a token's.

    Args:
        word: as it stands in a text.
        out: the file to write; it may be the model itself.
        text: the token begins as the mean of this text's tokens.
        vectors: or as this: [width], or [2, width] where the output matrix is of its own.
        progress: told of bytes.

    Raises:
        PlmEdgeError: there is no spare row, the word is a token, the model is calibrated, or a file
            cannot be read or written; `out` is then as it was before.
    """
    quantizer = Quantizer(library.load().ggml)
    with gguf_source.open_tensors(model) as (content, tensors):
        names, types = _vocabulary(content)
        token = _spare(content, word, names, types)
        matrix = _Matrix(content, tensors, quantizer)
        ids = None if text is None else _ids(model, text)
        vector, output = _begin(content, matrix, ids, vectors)
        changed = {t.name: t for t in matrix.with_row(token, vector, output)}
        kept = [changed.get(name, tensor) for name, tensor in tensors.items()]
        hashes = gguf_source.hashes(content, [*tensors])
        if hashes is not None:
            places = {name: at for at, name in enumerate(tensors)}
            for name, tensor in changed.items():
                hashes[places[name]] = _hash(content, tensor)
        names[token], types[token] = word, int(TokenType.USER_DEFINED)
        keys = gguf_source.all_keys(content)
        keys[_TOKENS] = GGUFValue(names, GGUFValueType.ARRAY, sub_type=GGUFValueType.STRING)
        keys[_TYPES] = array(types)
        size = amend.amend(
            out, content.architecture, keys, kept, hashes, [], progress or NoProgress()
        )
    return Added(word, token, types.count(int(TokenType.UNUSED)), size)


def _vocabulary(content: GGUFFile) -> tuple[list[str], list[int]]:
    names, types = content.keys.get(_TOKENS), content.keys.get(_TYPES)
    if not isinstance(names, Array) or not isinstance(types, Array):
        raise _unfit(content.path, "its vocabulary does not say which tokens are unused")
    if names.length != types.length:
        raise _unfit(content.path, f"its {names.length} tokens have {types.length} types")
    return names.values(), types.values()


def _train(content: GGUFFile, row: int) -> Train:
    """The shape that the keys say, of trains in rows of so many values."""
    dims, ranks = (content.keys.get(EMBED_KEY + name) for name in ("dims", "ranks"))
    if isinstance(dims, Array) and isinstance(ranks, Array) and dims.type == ranks.type == "i32":
        count, bonds = dims.length, ranks.length
        if FEWEST <= count <= MOST and bonds == count - 1:
            said = Train(tuple(dims.values()), tuple(ranks.values()))
            if min(said.dims) > 0 and said.is_possible and said.values <= row:
                return said
    raise _unfit(content.path, "its keys say no shape that its trains could have")


def _importance(content: GGUFFile, width: int) -> Floats | None:
    """The importance of columns by which the embedding was quantised; None where none was used."""
    stored = content.keys.get(EMBED_KEY + "importance")
    if stored is None:
        return None
    if not isinstance(stored, Array) or stored.type != "f32" or stored.length != width:
        raise _unfit(content.path, f"its keys give no importance of {width} columns")
    return np.array(stored.values(), np.float32)


def _spare(content: GGUFFile, word: str, names: list[str], types: list[int]) -> int:
    if describe(content).two_stages:
        raise _unfit(
            content.path,
            "it is calibrated, and a coarse form knows the rows that were there",
            "add tokens to the file as it was before, then: plm-edge convert FILE --calibrate",
        )
    if not word or word in names:
        at = names.index(word) if word else 0
        raise _unfit(
            content.path,
            f"{word!r} is token {at} already" if word else "the word is empty",
            "give another word",
            ExitCode.USAGE,
        )
    unused = int(TokenType.UNUSED)
    if unused not in types:
        raise _unfit(
            content.path,
            f"it has no spare row: all of its {len(names):,} tokens are in use",
            "use a model with spare rows, such as PLM-1.8B",
        )
    return types.index(unused)


def _ids(model: Path, text: str) -> list[int]:
    with Session.open(model, Options(n_ctx=64)) as session:
        ids = session.vocabulary.tokenize(text, parse_special=False)
    if not ids:
        raise _unfit(model, "the text of --from has no tokens", "give a word or a sentence")
    return list(ids)


def _begin(
    content: GGUFFile, matrix: _Matrix, ids: list[int] | None, vectors: Floats | None
) -> tuple[Floats, Floats | None]:
    """The rows of the new token."""
    own = matrix.output_row(0) is not None
    if ids is not None:
        outputs = [row for i in ids if (row := matrix.output_row(i)) is not None]
        return _mean([matrix.row(i) for i in ids]), _mean(outputs) if own else None
    assert vectors is not None
    width = len(matrix.row(0))
    # trains beside a tied matrix: one vector is both
    one = vectors.shape == (width,) and (not own or matrix.kind == "tt")
    if not (one or (own and vectors.shape == (2, width))):
        raise _unfit(
            content.path,
            f"the vector has the shape {list(vectors.shape)}, and the model wants "
            + (f"[2, {width}]: its output matrix is of its own" if own else f"[{width}]"),
            "write it with numpy.save, in the shape that the model wants",
        )
    if one:
        return vectors, vectors if own else None
    return vectors[0], vectors[1]


def _mean(rows: list[Floats]) -> Floats:
    made: Floats = np.stack(rows).mean(0, np.float64).astype(np.float32)
    return made


def _hash(content: GGUFFile, tensor: Tensor) -> str:
    digest = hashlib.sha256()
    left = next(t.n_bytes for t in content.tensors if t.name == tensor.name)
    at = 0
    while at < left:
        block = np.empty(min(4 << 20, left - at), np.uint8)
        tensor.read_bytes(at, block)
        digest.update(block.data)
        at += block.size
    return digest.hexdigest()


def read_vector(path: Path) -> Floats:
    """Read vectors that numpy.save wrote.

    Raises:
        PlmEdgeError: it is no such file, or has other than finite numbers.
    """
    try:
        made = np.load(path, allow_pickle=False)
        values: Floats = made.astype(np.float32)
    except (*_NO_ARRAY, OSError) as error:
        raise PlmEdgeError(
            f"{path} holds no vector", str(error) or "it is empty", "write it with numpy.save"
        ) from error
    if not np.isfinite(values).all():
        raise PlmEdgeError(
            f"{path} holds no vector", "a value is infinite or no number", "give finite numbers"
        )
    return values


def _unfit(
    path: Path, why: str, fix: str = "use another model", code: ExitCode = ExitCode.INPUT
) -> PlmEdgeError:
    return PlmEdgeError(f"no token can be added to {path.name}", why, fix, code)
