"""This module turns a checkpoint's tokenizer into GGUF keys.

They hold vocabulary, merges, special tokens and the chat template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import read_json
from plm_edge.converters.keys import Keys, array, boolean, string, u32
from plm_edge.converters.plan.chat_template import template_keys
from plm_edge.converters.plan.pretokenizer import find_pretokenizer

# Special tokens that llama.cpp has a key for: name in Hugging Face's files -> GGUF key.
SPECIAL_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # misspelt in llama.cpp, for good
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}


# Further tokens that end a text, and whose texts llama.cpp does not know.
END_KEYS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
# Those whose texts it knows as ends, whatever the keys say (its llama-vocab.cpp), as far as Qwen2's
# vocabulary may have them.
KNOWN_ENDS = frozenset(
    {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "<end_of_turn>"}
)


@dataclass(frozen=True)
class AddedToken:
    """A token outside the merges, which is matched in the text as it stands.

    Attributes:
        special: it is never shown.
    """

    id: int
    content: str
    special: bool


def tokenizer_keys(folder: Path, vocab_size: int, config: Mapping[str, Any]) -> Keys:
    """Returns the tokenizer.* keys of the checkpoint in `folder`.

    Args:
        vocab_size: rows of the embedding; ids past the last token are filled up.
        config: config.json, which may name special tokens too.

    Raises:
        PlmEdgeError: a file is missing or broken, the tokenizer is not the byte-level BPE that
            llama.cpp implements, its pre-tokenizer is unknown, or ids do not fit.
    """
    try:
        return _keys(folder, vocab_size, config)
    except (AttributeError, KeyError, TypeError) as error:
        # An entry of another type than it should have, somewhere in files of free form.
        raise _unfit(f"it does not have the form of one ({error})") from error


def _keys(folder: Path, vocab_size: int, config: Mapping[str, Any]) -> Keys:
    tokenizer = read_json(folder / "tokenizer.json")
    optional = folder / "tokenizer_config.json"
    settings = read_json(optional) if optional.exists() else {}
    model = _model(tokenizer)
    pre = find_pretokenizer(tokenizer)
    added = _added_tokens(tokenizer, settings)
    tokens, types = _vocabulary(model["vocab"], added, _special_names(settings), vocab_size)
    keys: Keys = {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(pre),
        "tokenizer.ggml.tokens": array(tokens),
        "tokenizer.ggml.token_type": array(types),
    }
    if merges := _merges(model["merges"]):
        keys["tokenizer.ggml.merges"] = array(merges)
    keys |= _special_ids(tokenizer, settings, config, vocab_size)
    keys |= _further_ends(folder, config, tokens, keys)
    keys |= _added_at_ends(tokenizer, settings)
    return keys | template_keys(folder, settings)


def _model(tokenizer: Mapping[str, Any]) -> Mapping[str, Any]:
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise _unfit(f"its model is {model.get('type')}, not BPE")
    for key in ("byte_fallback", "ignore_merges"):
        if model.get(key):
            raise _unfit(f"its model has {key}")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise _unfit(f"its model has {key} {model[key]!r}")
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        raise _unfit("its model has no vocab or no merges")
    return model


def _added_tokens(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[int, AddedToken]:
    """Added tokens by id: tokenizer.json's, then tokenizer_config.json's, whose flags count more,
    as they do in transformers."""
    added: dict[int, AddedToken] = {}
    entries = [(entry.get("id"), entry) for entry in tokenizer.get("added_tokens") or []]
    decoder = settings.get("added_tokens_decoder") or {}
    entries += [(int(key) if key.isdecimal() else key, entry) for key, entry in decoder.items()]
    for token_id, entry in entries:
        content = entry.get("content")
        if type(token_id) is not int or token_id < 0 or not isinstance(content, str):
            raise _unfit(f"the added token {content!r} has the id {token_id!r}")
        if token_id in added and added[token_id].content != content:
            raise _unfit(f"id {token_id} is both {added[token_id].content!r} and {content!r}")
        added[token_id] = AddedToken(token_id, content, bool(entry.get("special")))
    return added


def _special_names(settings: Mapping[str, Any]) -> set[str]:
    """Tokens that tokenizer_config.json names as special, whatever their own flags say."""
    entries = [settings.get(f"{name}_token") for name in (*SPECIAL_KEYS, "cls")]
    entries += settings.get("additional_special_tokens") or []
    return {text for entry in entries if (text := _content(entry)) is not None}


def _content(entry: Any) -> str | None:
    """The text of a token that is written as a string or as an object with `content`."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def _vocabulary(
    vocab: Mapping[str, int], added: Mapping[int, AddedToken], special: set[str], size: int
) -> tuple[list[str], list[int]]:
    """Text and type of each of `size` ids."""
    by_id: dict[int, str] = {}
    for token, token_id in [*vocab.items(), *((t.content, t.id) for t in added.values())]:
        if type(token_id) is not int or not 0 <= token_id < size:
            raise _unfit(f"the token {token!r} has the id {token_id!r}, and vocab_size is {size}")
        if by_id.setdefault(token_id, token) != token:
            raise _unfit(f"id {token_id} is both {by_id[token_id]!r} and {token!r}")
    tokens, types = [], []
    for i in range(size):
        if i not in by_id:
            tokens.append(f"[PAD{i}]")
            types.append(TokenType.UNUSED)
            continue
        token = by_id[i]
        tokens.append(token)
        entry = added.get(i)
        if token in special or (entry and (entry.special or _looks_special(token))):
            types.append(TokenType.CONTROL)
        else:
            types.append(TokenType.USER_DEFINED if entry else TokenType.NORMAL)
    return tokens, [int(kind) for kind in types]


def _looks_special(token: str) -> bool:
    """Control tokens that their authors forgot to mark; upstream's converter has the same rule."""
    return token.startswith("<|") and token.endswith("|>")


def _merges(merges: list[Any]) -> list[str]:
    """Each merge as "left right", from either form in which tokenizer.json may have it."""
    texts = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    for text in texts:
        # A byte-level vocabulary writes the space as Ġ, so a third part is a damaged file.
        if text.count(" ") != 1:
            raise _unfit(f"the merge {text!r} does not have two parts")
    return texts


def _special_ids(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any], size: int
) -> Keys:
    """Ids of bos, eos and so on: by name from tokenizer_config.json, else from config.json."""
    ids = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens") or []}
    keys: Keys = {}
    for name, key in SPECIAL_KEYS.items():
        token_id = ids.get(_content(settings.get(f"{name}_token")) or "")
        if token_id is None:
            token_id = config.get(f"{name}_token_id")
        if type(token_id) is not int:
            continue
        if not 0 <= token_id < size:
            raise _unfit(f"{name}_token_id is {token_id}, and vocab_size is {size}")
        keys[key] = u32(token_id)
    return keys


def _further_ends(folder: Path, config: Mapping[str, Any], tokens: list[str], keys: Keys) -> Keys:
    """Keys for the tokens that end a text by generation_config.json or config.json alone. An
    instruct model ends its turn with one of them; upstream's converter reads tokenizer_config.json
    first, and a list in config.json not at all."""
    generation = folder / "generation_config.json"
    settings = read_json(generation) if generation.exists() else {}
    eos = keys.get(SPECIAL_KEYS["eos"])
    found: list[int] = []
    for ends in (settings.get("eos_token_id"), config.get("eos_token_id")):
        for token_id in ends if isinstance(ends, list) else [ends]:
            if token_id is None or token_id in found:
                continue
            if type(token_id) is not int or not 0 <= token_id < len(tokens):
                raise _unfit(f"eos_token_id is {token_id!r}, and vocab_size is {len(tokens)}")
            if (eos is None or token_id != eos.value) and tokens[token_id] not in KNOWN_ENDS:
                found.append(token_id)
    if len(found) > len(END_KEYS):
        raise _unfit(f"{len(found)} tokens end a text besides eos, and a GGUF has room for two")
    return {key: u32(token_id) for key, token_id in zip(END_KEYS, found, strict=False)}


def _added_at_ends(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> Keys:
    """Whether bos and eos are put around a text. A byte-level post-processor adds nothing."""
    flags: dict[str, bool] = {}
    post = tokenizer.get("post_processor")
    for step in (post.get("processors") or [post]) if post else []:
        if step.get("type") != "ByteLevel":
            raise _unfit(f"its post_processor is {step.get('type')}, known is ByteLevel")
        flags |= {"bos": False, "eos": False}
    for name in ("bos", "eos", "sep"):
        entry = settings.get(f"add_{name}_token")
        if isinstance(entry, bool):
            flags.setdefault(name, entry)
    return {f"tokenizer.ggml.add_{name}_token": boolean(flag) for name, flag in flags.items()}


def _unfit(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "the checkpoint's tokenizer cannot be converted",
        f"tokenizer.json: {why}",
        "use the tokenizer files that the checkpoint was published with, Qwen2's byte-level BPE",
    )
