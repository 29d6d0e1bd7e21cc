"""This module finds the llama.cpp pre-tokenizer that splits text as a tokenizer.json does.

llama.cpp has each split written in code and picks one by name. The name is found from the split
itself, so that it works for a vocabulary of any size; an unknown split is an error, as a wrong one
would make every prompt subtly wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plm_edge.base.errors import PlmEdgeError

# The regular expression of the Split step -> llama.cpp's name.
KNOWN_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}


def find_pretokenizer(tokenizer: Mapping[str, Any]) -> str:
    """Returns llama.cpp's name (tokenizer.ggml.pre) for the tokenizer in tokenizer.json.

    Raises:
        PlmEdgeError: it normalises or splits text in a way that no name is known for.
    """
    normalizer = tokenizer.get("normalizer")
    # llama.cpp does not normalise; NFC leaves nearly all text as it is, others do not.
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _unknown(f"its normalizer is {normalizer.get('type')}, known are NFC and none")
    pre = tokenizer.get("pre_tokenizer") or {}
    steps = (pre.get("pretokenizers") or []) if pre.get("type") == "Sequence" else [pre]
    kinds = [step.get("type") for step in steps]
    if kinds != ["Split", "ByteLevel"]:
        raise _unknown(f"its pre_tokenizer is {kinds}, known is ['Split', 'ByteLevel']")
    split, byte_level = steps
    pattern = (split.get("pattern") or {}).get("Regex")
    if pattern not in KNOWN_SPLITS:
        raise _unknown(f"it splits text by {pattern!r}")
    if split.get("behavior") != "Isolated" or split.get("invert"):
        raise _unknown(f"it splits {split.get('behavior')!r}, inverted: {split.get('invert')!r}")
    if byte_level.get("add_prefix_space") or byte_level.get("use_regex", True):
        raise _unknown("its ByteLevel step adds a space or splits once more")
    return KNOWN_SPLITS[pattern]


def _unknown(why: str) -> PlmEdgeError:
    names = sorted(set(KNOWN_SPLITS.values()))
    return PlmEdgeError(
        "the checkpoint's pre-tokenizer is not known",
        f"tokenizer.json: {why}",
        f"use the tokenizer.json that PLM was published with (known: {', '.join(names)})",
    )
