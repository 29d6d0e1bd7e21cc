"""This module refuses a GGUF over whose vocabulary the engine would end the process.

The engine answers most mistakes of a file with an error, but some with an assertion that fails or
an exception that nobody catches, and these end the program that loaded it. They are found here
instead. Reading all names of PLM's 151,936 tokens takes longer than the header does. Our own engine
says itself that two tokens have one name, so that whoever loads with it leaves the names out.
"""

from __future__ import annotations

from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model.gguf_file import Array, GGUFFile

TOKENS = "tokenizer.ggml.tokens"
# tokenizer.ggml.model: which begin and end token the engine assumes where the file names none
_ENDS = {
    "gpt2": (11, 11), "hybriddna": (11, 11), "whitespace": (11, 11), "llama": (1, 2),
    "bert": (101, None), "t5": (None, 1), "plamo2": (1, 2),
}  # fmt: skip


def check(model: GGUFFile, *, names: bool = True) -> None:
    """Refuse a vocabulary that would end the process that loads or uses it.

    Args:
        names: look at each token's name. Without it only SentencePiece's are looked at.

    Raises:
        PlmEdgeError: there is none, a token is named twice, or one that each text needs is missing.
    """
    tokenizer = model.keys.get("tokenizer.ggml.model")
    if tokenizer in ("none", "no_vocab"):
        raise _refused(model, f"tokenizer.ggml.model is {tokenizer!r}: it has no vocabulary")
    tokens = model.keys.get(TOKENS)
    if not isinstance(tokens, Array) or tokens.type != "str":
        return  # the engine says so itself
    _require_ends(model, str(tokenizer), tokens.length)
    if names or tokenizer == "llama":
        found = tokens.raw_strings()
        _require_distinct(model, found)
        if tokenizer == "llama":
            _require_bytes(model, set(found))


def _require_distinct(model: GGUFFile, names: list[bytes]) -> None:
    distinct = set(names)
    if b"" in distinct or any(b"\0" in name for name in names):
        # The engine reads a name up to its first zero byte, and gives one that is empty a name.
        names = [
            name.split(b"\0", 1)[0] or b"[EMPTY_%d]" % number for number, name in enumerate(names)
        ]
        distinct = set(names)
    if len(distinct) == len(names):
        return
    first: dict[bytes, int] = {}
    for number, name in enumerate(names):
        if name in first:
            shown = name.decode("utf-8", errors="backslashreplace")
            raise _refused(
                model, f"its tokens {first[name]} and {number} have the same name, {shown!r:.60}"
            )
        first[name] = number


def _require_ends(model: GGUFFile, tokenizer: str, count: int) -> None:
    """Whoever adds a begin or end token must have one."""
    for which, assumed in zip(("bos", "eos"), _ENDS.get(tokenizer, (None, None)), strict=True):
        if model.keys.get(f"tokenizer.ggml.add_{which}_token") is not True:
            continue
        number: Any = model.keys.get(f"tokenizer.ggml.{which}_token_id")
        if type(number) is not int or not 0 <= number < count:
            number = assumed
        if number is None or number >= count:
            raise _refused(
                model,
                f"tokenizer.ggml.add_{which}_token is true, and tokenizer.ggml.{which}_token_id "
                f"names none of its {count:,} tokens",
            )


def _require_bytes(model: GGUFFile, names: set[bytes]) -> None:
    """SentencePiece writes what is no token byte by byte, and ends the process where it cannot."""
    for byte in range(256):
        if b"<0x%02X>" % byte not in names and bytes([byte]) not in names:
            raise _refused(model, f"its vocabulary has no token <0x{byte:02X}> for that byte")


def _refused(model: GGUFFile, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{model.path} cannot be used: its vocabulary is damaged",
        why,
        "get the file again, or convert the checkpoint again",
    )
