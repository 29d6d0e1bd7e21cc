"""GGUFs that are wrong on purpose: a small valid one is taken apart, changed, put together again.

Each change is one that a damaged download, a careless tool or an enemy could make. All are drawn
from a seed, so that a mutant is named by the file, the seed and its number.
"""

from __future__ import annotations

import copy
import math
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
SCALARS[12] = "d"
ALIGNMENT = 32

Value = Any  # a number, bytes, or (element code, list of values)


@dataclass
class Tensor:
    """A tensor's entry; `shape` in ggml's order, `offset` from the start of the data."""

    name: bytes
    shape: list[int]
    type: int
    offset: int


@dataclass
class Parts:
    """A GGUF taken apart. `keys` are (name, type code, value), in the file's order."""

    keys: list[tuple[bytes, int, Value]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""

    def index(self, name: str) -> int:
        """Where the key of that name stands."""
        return next(i for i, key in enumerate(self.keys) if key[0] == name.encode())

    def set(self, name: str, code: int, value: Value) -> None:
        """Put a key in the place of that of the same name, or at the end."""
        found = [i for i, key in enumerate(self.keys) if key[0] == name.encode()]
        if found:
            self.keys[found[0]] = (name.encode(), code, value)
        else:
            self.keys.append((name.encode(), code, value))

    def drop(self, name: str) -> None:
        """Take a key away."""
        del self.keys[self.index(name)]

    def array(self, name: str) -> list[Value]:
        """The elements of an array, to be changed in place."""
        elements: list[Value] = self.keys[self.index(name)][2][1]
        return elements

    def tensor(self, name: str) -> Tensor:
        """The entry of a tensor, to be changed in place."""
        return next(tensor for tensor in self.tensors if tensor.name == name.encode())


def parse(data: bytes) -> Parts:
    """Take a valid GGUF apart."""
    at = 8

    def number(code: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def string() -> bytes:
        nonlocal at
        length = number("Q")
        at += length
        return data[at - length : at]

    def value(code: int) -> Value:
        if code == STRING:
            return string()
        if code == ARRAY:
            element, count = number("I"), number("Q")
            return element, [value(element) for _ in range(count)]
        return number(SCALARS[code])

    n_tensors, n_keys = number("Q"), number("Q")
    keys = [
        (name, code, value(code)) for name, code in ((string(), number("I")) for _ in range(n_keys))
    ]
    tensors = []
    for _ in range(n_tensors):
        name, n_dims = string(), number("I")
        shape = [number("Q") for _ in range(n_dims)]
        tensors.append(Tensor(name, shape, number("I"), number("Q")))
    return Parts(keys, tensors, data[-(-at // ALIGNMENT) * ALIGNMENT :])


def build(parts: Parts) -> bytes:
    """Put a GGUF together; numbers that do not fit their type are cut to it."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(parts.tensors), len(parts.keys)))

    def string(text: bytes) -> None:
        out.extend(struct.pack("<Q", len(text)) + text)

    def value(code: int, given: Value) -> None:
        if code == STRING:
            string(given)
        elif code == ARRAY:
            out.extend(struct.pack("<IQ", given[0], len(given[1])))
            for element in given[1]:
                value(given[0], element)
        else:
            out.extend(_packed(SCALARS[code], given))

    for name, code, given in parts.keys:
        string(name)
        out.extend(struct.pack("<I", code))
        value(code, given)
    for tensor in parts.tensors:
        string(tensor.name)
        out.extend(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        out.extend(struct.pack("<IQ", tensor.type, tensor.offset))
    out.extend(bytes(-len(out) % ALIGNMENT))
    return bytes(out) + parts.data


def _packed(code: str, given: Value) -> bytes:
    if code in "fd":
        try:
            return struct.pack("<" + code, float(given))
        except OverflowError:
            return struct.pack("<" + code, math.inf)
    if code == "?":
        return struct.pack("<?", bool(given))
    size = struct.calcsize("<" + code)
    whole = int(given) if math.isfinite(given) else 0
    return (whole % (1 << 8 * size)).to_bytes(size, "little")


# --- changes ------------------------------------------------------------------------------------

NUMBERS = (
    0, 1, 2, 3, 5, 7, 16, 33, 255, 256, 257, 512, 513, 1023, 1025, 4097, 65536, 2**31 - 1, 2**31,
    2**32 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), 0.5, 1e-45, 1e30, -1e30, math.nan, math.inf,
    -math.inf,
)  # fmt: skip
STRINGS = (
    b"", b"\0", b"a\0b", b"\xff\xfe", "é".encode(), b" ", b"a b c", b"x" * 5000, b"<|im_end|>",
    b"none", b"no_vocab", b"llama", b"bert", b"gpt2", b"t5", b"rwkv", b"test", b"plamo2", b"gemma4",
    b"hybriddna", b"whitespace", b"default", b"qwen2", b"gpt-2", b"llama-bpe", b"kimi-k2", b"yarn",
    b"linear", b"longrope", b"plm", b"deepseek2", b"qwen3", b"mamba", b"clip", b"phi3", b"gemma3",
)  # fmt: skip
KEYS = (
    "vocab_size", "block_count", "expert_count", "expert_used_count", "expert_group_count",
    "expert_group_used_count", "nextn_predict_layers", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.freq_base",
    "rope.scaling.attn_factor", "attention.causal", "pooling_type", "attention.sliding_window",
    "attention.head_count_kv", "attention.key_length_swa", "rope.dimension_count_swa",
    "embedding_length_out", "classifier.output_labels", "logit_scale", "full_attention_interval",
    "attention.key_length_mla", "attention.max_alibi_bias", "attention.layer_norm_epsilon",
)  # fmt: skip
GLOBALS = (
    "general.alignment", "general.file_type", "general.quantization_version", "general.name",
    "general.type", "split.count", "split.no", "split.tensors.count", "tokenizer.ggml.scores",
    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.eot_token_id", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.mask_token_id", "tokenizer.chat_template",
    "tokenizer.ggml.token_type_count", "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.suppress_tokens", "plm_edge.layout.version", "plm_edge.synthetic",
    "general.sampling.temp", "general.sampling.top_k", "adapter.type", "tokenizer.ggml.pre",
    "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.normalizer.lowercase",
)  # fmt: skip


def _any_value(rng: random.Random, depth: int = 0) -> tuple[int, Value]:
    """A value of any type, as (code, value)."""
    kind = rng.random()
    if kind < 0.25:
        return STRING, rng.choice(STRINGS)
    if kind < 0.4 and depth == 0:
        code, _ = _any_value(rng, 1)
        make = STRINGS if code == STRING else NUMBERS
        return ARRAY, (code, [rng.choice(make) for _ in range(rng.choice((0, 1, 2, 3, 257, 600)))])
    return rng.choice(tuple(SCALARS)), rng.choice(NUMBERS)


def _key_value(parts: Parts, rng: random.Random) -> str:
    at = rng.randrange(len(parts.keys))
    name, code, value = parts.keys[at]
    if code == STRING:
        value = rng.choice(STRINGS)
    elif code == ARRAY:
        return _array(parts, rng, at)
    else:
        value = rng.choice(NUMBERS)
    parts.keys[at] = (name, code, value)
    return f"{name.decode()} = {value!r:.60}"


def _array(parts: Parts, rng: random.Random, at: int) -> str:
    name, code, (element, given) = parts.keys[at]
    values = list(given)
    how = rng.choice(("cut", "longer", "twice", "element", "empty", "type", "shuffled"))
    if how == "cut":
        values = values[: rng.randrange(len(values) + 1)]
    elif how == "longer":
        values += values[: rng.randrange(1, len(values) + 1)] if values else []
    elif how == "empty":
        values = []
    elif how == "shuffled":
        rng.shuffle(values)
    elif how == "type":
        element = rng.choice((*SCALARS, STRING))
        values = [
            value
            if isinstance(value, bytes) == (element == STRING)
            else b"x"
            if element == STRING
            else 1
            for value in values
        ]
    elif values:
        i, j = rng.randrange(len(values)), rng.randrange(len(values))
        values[i] = (
            values[j] if how == "twice" else rng.choice(STRINGS if element == STRING else NUMBERS)
        )
    parts.keys[at] = (name, code, (element, values))
    return f"{name.decode()}: {how}"


def _key_type(parts: Parts, rng: random.Random) -> str:
    at = rng.randrange(len(parts.keys))
    name = parts.keys[at][0]
    code, value = _any_value(rng)
    parts.keys[at] = (name, code, value)
    return f"{name.decode()} = {value!r:.60} of type {code}"


def _key_gone(parts: Parts, rng: random.Random) -> str:
    name, _, _ = parts.keys.pop(rng.randrange(len(parts.keys)))
    return f"no {name.decode()}"


def _key_new(parts: Parts, rng: random.Random) -> str:
    arch = parts.keys[parts.index("general.architecture")][2].decode()
    name = rng.choice((*(f"{arch}.{key}" for key in KEYS), *GLOBALS))
    code, value = _any_value(rng)
    parts.set(name, code, value)
    return f"{name} = {value!r:.60} of type {code}"


def _tensor(parts: Parts, rng: random.Random) -> str:
    at = rng.randrange(len(parts.tensors))
    tensor = parts.tensors[at]
    how = rng.choice(("gone", "name", "shape", "turned", "type", "offset", "dimensions", "swapped"))
    if how == "gone":
        del parts.tensors[at]
    elif how == "name":
        tensor.name = rng.choice((*STRINGS, b"output.weight", b"blk.9.attn_q.weight"))
    elif how == "shape":
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(
            (0, 1, 2, 32, 33, 64, 288, 2**40)
        )
    elif how == "turned":
        tensor.shape.reverse()
    elif how == "type":
        tensor.type = rng.randrange(0, 43)
    elif how == "offset":
        tensor.offset = rng.choice((0, 1, 32, 2**20, 2**63, 2**64 - 32))
    elif how == "dimensions":
        tensor.shape = [*tensor.shape, 1, 1, 1][: rng.randrange(1, 5)]
    else:
        other = rng.choice(parts.tensors)
        tensor.name, other.name = other.name, tensor.name
    return f"tensor {tensor.name.decode(errors='replace')}: {how}"


CHANGES: tuple[Callable[[Parts, random.Random], str], ...] = (
    _key_value, _key_value, _key_value, _key_type, _key_gone, _key_new, _key_new, _tensor,
)  # fmt: skip


def mutants(source: Path, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` changed copies of a valid GGUF: what was changed, and the file's bytes."""
    whole = source.read_bytes()
    parts = parse(whole)
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        if rng.random() < 0.1:  # bytes of the header, as a bad disk changes them
            end = len(whole) - len(parts.data)
            bent = bytearray(whole)
            where = [rng.randrange(end) for _ in range(rng.randrange(1, 5))]
            for at in where:
                bent[at] = rng.choice((0, 1, 0x20, 0x7F, 0xFF, rng.randrange(256)))
            yield f"{seed}/{number}: bytes {where}", bytes(bent)
            continue
        changed = copy.deepcopy(parts)
        said = [rng.choice(CHANGES)(changed, rng) for _ in range(rng.choice((1, 1, 1, 2)))]
        yield f"{seed}/{number}: {', '.join(said)}", build(changed)
