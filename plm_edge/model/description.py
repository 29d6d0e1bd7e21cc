"""A GGUF's header says what the model is: its architecture, layout, recipe and origin.

The keys are named here once. Converters write them, all other rooms read them as a `Description`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from plm_edge.model.gguf_file import COARSE, Array, GGUFFile

ARCH = "plm"
"""What general.architecture says of a PLM."""

PREFIX = "plm_edge."
"""How our own keys begin. Other programs overlook them."""

VERSION_KEY = PREFIX + "version"
LAYOUT_VERSION_KEY = PREFIX + "layout.version"
PLANES_KEY = PREFIX + "layout.planes"
"""The key of an array of strings: the tensors that are in planes (`converters/planes.py`)."""
EMBED_KEY = PREFIX + "embed."
"""How the keys begin of a token embedding in parts (`converters/embed`)."""
RECIPE_KEY = PREFIX + "recipe"
ROUNDING_KEY = PREFIX + "rounding"
"""The key of how matrices were quantised, where not each weight by itself: gptq."""
SYNTHETIC_KEY = PREFIX + "synthetic"
SOURCE_KEY = PREFIX + "source"
REVISION_KEY = PREFIX + "source.revision"
SOURCE_HASH_KEY = PREFIX + "source.sha256"
HASHES_KEY = PREFIX + "tensors.sha256"
"""The key of an array of strings: the SHA-256 of each tensor's data, in the order of the file."""

Layout = Literal["stock", "edge"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a header says of its model; a value of the wrong type counts as missing.

    Attributes:
        name: general.name; empty where the file names none.
        architecture: general.architecture; empty where it is missing.
        layout: edge where LAYOUT_VERSION_KEY is there, whatever its version.
        layout_version: the version of the edge layout; None for the stock layout.
        planes: the names of the tensors that are in planes.
        two_stages: the output matrix has a coarse form beside it.
        embedding: the form of a token embedding in parts, tt or r1; empty for a plain one.
        recipe: the recipe by which plm-edge quantised it; empty for another program's file.
        rounding: how matrices were quantised; empty where each weight was by itself.
        file_type: general.file_type, llama.cpp's number for a quantisation.
        source: the repository, folder or file that it was converted from; empty where unknown.
        synthetic: its weights are random: good for measuring speed and memory, and nothing else.
        tensor_hashes: HASHES_KEY's array, read from the file when it is asked for its values.
        pretokenizer: tokenizer.ggml.pre, llama.cpp's name for how text is split.
        context_length: the tokens that it was trained for.
        n_layers: the number of layers.
        n_embd: the length of the hidden state, in values.
        types: bytes of weights in this file by ggml type, the largest first.
    """

    name: str
    architecture: str
    layout: Layout
    layout_version: int | None
    planes: frozenset[str]
    two_stages: bool
    embedding: str
    recipe: str
    rounding: str
    file_type: int | None
    source: str
    synthetic: bool
    tensor_hashes: Array | None
    pretokenizer: str
    context_length: int | None
    n_layers: int | None
    n_embd: int | None
    types: dict[str, int]

    @property
    def calibrated(self) -> bool:
        """Whether a text told how it is made."""
        return self.two_stages or bool(self.rounding)

    @property
    def quant(self) -> str:
        """The recipe's name, such as q4_k_m; without one, the type of most of its bytes."""
        return self.recipe or next(iter(self.types), "")


def describe(model: GGUFFile) -> Description:
    """Returns what the header says of its model. It raises nothing: what is wrong is missing."""
    version = model.keys.get(LAYOUT_VERSION_KEY)
    hashes = model.keys.get(HASHES_KEY)
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.type] += tensor.n_bytes
    return Description(
        name=_text(model.keys.get("general.name")),
        architecture=model.architecture,
        layout="stock" if version is None else "edge",
        layout_version=_number(version),
        planes=_texts(model.keys.get(PLANES_KEY), len(model.tensors)),
        two_stages=any(tensor.name.startswith(COARSE) for tensor in model.tensors),
        embedding=_text(model.keys.get(EMBED_KEY + "kind")),
        recipe=_text(model.keys.get(RECIPE_KEY)),
        rounding=_text(model.keys.get(ROUNDING_KEY)),
        file_type=_number(model.keys.get("general.file_type")),
        source=_text(model.keys.get(SOURCE_KEY)),
        synthetic=model.keys.get(SYNTHETIC_KEY) is True,
        tensor_hashes=hashes if isinstance(hashes, Array) else None,
        pretokenizer=_text(model.keys.get("tokenizer.ggml.pre")),
        context_length=_number(model.arch_key("context_length")),
        n_layers=_number(model.arch_key("block_count")),
        n_embd=_number(model.arch_key("embedding_length")),
        types=dict(sizes.most_common()),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any, limit: int) -> frozenset[str]:
    listed = isinstance(value, Array) and value.type == "str"
    return frozenset(value.values(limit)) if listed else frozenset()


def _number(value: Any) -> int | None:
    return value if type(value) is int else None
