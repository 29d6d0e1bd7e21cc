"""A synthetic full-size PLM-1.8B checkpoint with a chosen share of zeros after ReLU.

    python -m benchmarks.synthetic OUT [--layers N ...] [--seed N] [--vocab GGUF]
    python -m benchmarks.synthetic OUT --measure

For speed and memory, weights need the right shapes, not the right values. What a synthetic model
says is noise, and any figure taken with it carries the word "synthetic".

How the zeros come about: all embeddings share a direction m (a ±1 vector of length d), they are a
thousand times larger than other weights so that the residual stream stays close to the embedding
through all layers, and each row of W_up leans against m by LEAN standard deviations. After the
norm half of the stream's mean square lies along m, so relu(W_up x) is zero with probability
Phi(LEAN / sqrt 2): 0.90 for 1.81. Half of the variance of a row's product comes from m too, which
all tokens share: some neurons fire often and some hardly ever, as in a trained model.
(Large embeddings rather than tiny o_proj and down_proj: those would fall below what the f16 block
scales of K-quants resolve, and at a hundredth the zeros fade to 79 % in the last layer.)

How logits get a realistic spread: column k of the embedding has a variance of its own, falling as
1 / sqrt(rank), with the ranks in random order. Hidden states have it too, so the logits' spectrum
falls as 1 / sqrt(rank), as that of SmolLM2's does. The last norm's weights have random signs, so
that a token does not predict itself, and a size that gives logits a standard deviation of SPREAD
nats over the vocabulary: some tokens are likely, and a tail counts, as in a trained model
(docs/lab/head.md has both measured).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, TokenType
from numpy.typing import NDArray

from benchmarks.refusal import three_lines
from plm_edge.converters.write.provenance import SYNTHETIC_NOTE
from testkit import reference
from testkit.checkout import ROOT
from testkit.checkpoints import (
    PlmShape,
    bpe_json,
    special_ids,
    tokenizer_json,
    write_json,
    write_tokenizer,
)

PLM_1_8B = PlmShape(32, 2048, 16, 128, 64, 128, 512, 8192, 151_936)
LEAN = 1.81
SPREAD = 4.4  # nats
DEVIATION = 0.02  # of an ordinary weight
SHARD_BYTES = 1 << 30
BLOCK_VALUES = 1 << 22  # 16 MiB of float32: one unit of work for a thread
NOTE = f"{SYNTHETIC_NOTE}: random weights with PLM's shapes, for measuring speed and memory only"


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; no NaN or infinity comes in. Overwrites `values`."""
    bits = values.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype(np.uint16)


def noise(key: list[int], out: NDArray[np.float32]) -> None:
    """Fills `out` with normally distributed values, which `key` alone decides."""
    np.random.Generator(np.random.Philox(key)).standard_normal(out=out, dtype=np.float32)


@dataclass(frozen=True)
class Directions:
    """What the weights of a checkpoint share, [hidden] each.

    Attributes:
        common: m, of +1 and -1.
        spread: of each column of the embedding, the standard deviation; its mean square is 1.
        last_norm: the weights of the last norm.
    """

    common: NDArray[np.float32]
    spread: NDArray[np.float32]
    last_norm: NDArray[np.float32]

    @classmethod
    def of(cls, hidden: int, seed: int) -> Directions:
        random = np.random.Generator(np.random.Philox([seed, -1 & 0xFFFF, 0]))
        common = np.where(random.random(hidden) < 0.5, -1.0, 1.0)
        variance = np.sqrt(1 / (1 + random.permutation(hidden)))
        variance *= hidden / variance.sum()
        signs = np.where(random.random(hidden) < 0.5, -1.0, 1.0)
        # a logit is 1000 DEVIATION sum (w + m) norm (w' + m) / sqrt 2: its variance over w
        deviation = 1000 * DEVIATION * math.sqrt((np.square(variance) + variance).sum() / 2)
        last_norm = signs * SPREAD / deviation
        arrays = (common, np.sqrt(variance), last_norm)
        return cls(*(a.astype(np.float32) for a in arrays))


def _block(name: str, shape: tuple[int, ...], shared: Directions, key: list[int]) -> bytes:
    """A block of rows of tensor `name`, bf16. key: seed, tensor and block, which alone decide the
    values, so that threads do not."""
    if "norm" in name:
        one = np.ones(shape, np.float32)
        return to_bf16(shared.last_norm.copy() if name == "model.norm.weight" else one).tobytes()
    w = np.empty(shape, np.float32)
    noise(key, w)
    if "embed_tokens" in name:
        w = (w * shared.spread + shared.common) * np.float32(1000)
    elif "up_proj" in name:
        w -= shared.common * np.float32(LEAN / math.sqrt(shape[1]))
    w *= np.float32(DEVIATION)
    return to_bf16(w).tobytes()


def _blocks(
    names: list[str], shape: PlmShape, seed: int, shared: Directions
) -> Iterator[tuple[str, tuple[int, ...], Directions, list[int]]]:
    """The arguments of `_block` for each block of the tensors, in the order of the file."""
    order = {name: i for i, name in enumerate(shape.tensors())}
    for name in names:
        size = shape.tensors()[name]
        step = max(1, BLOCK_VALUES // math.prod(size[1:]))
        for start in range(0, size[0], step):
            rows = min(step, size[0] - start)
            yield name, (rows, *size[1:]), shared, [seed, order[name], start]


def _shards(shape: PlmShape) -> list[list[str]]:
    """Tensor names, grouped so that a file holds about SHARD_BYTES."""
    groups: list[list[str]] = []
    room = 0
    for name, size in shape.tensors().items():
        length = 2 * math.prod(size)
        if length > room:
            groups.append([])
            room = SHARD_BYTES
        groups[-1].append(name)
        room -= length
    return groups


def _header(names: list[str], shape: PlmShape) -> bytes:
    """The head of a safetensors file: length, then JSON padded to 8 bytes."""
    head: dict[str, object] = {"__metadata__": {"format": "pt", "note": NOTE}}
    at = 0
    for name in names:
        size = shape.tensors()[name]
        end = at + 2 * math.prod(size)
        head[name] = {"dtype": "BF16", "shape": size, "data_offsets": [at, end]}
        at = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_weights(folder: Path, shape: PlmShape, seed: int) -> None:
    """All shards and their index. Memory stays at a few blocks, whatever the size."""
    shared = Directions.of(shape.hidden, seed)
    groups = _shards(shape)
    weight_map: dict[str, str] = {}
    with ThreadPoolExecutor(2) as pool:
        for i, names in enumerate(groups):
            file = folder / f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
            partial = file.with_suffix(".partial")
            work = _blocks(names, shape, seed, shared)
            with partial.open("wb") as out:
                out.write(_header(names, shape))
                while batch := list(islice(work, 4)):
                    out.writelines(pool.map(lambda args: _block(*args), batch))
            partial.rename(file)
            weight_map |= dict.fromkeys(names, file.name)
    total = sum(2 * math.prod(size) for size in shape.tensors().values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def real_tokenizer(vocab: Path) -> tuple[dict[str, object], dict[str, int]]:
    """tokenizer.json and special tokens from upstream's vocabulary-only GGUF."""
    reader = GGUFReader(vocab)
    texts = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    kinds = dict(enumerate(types))
    tokens = [text for i, text in enumerate(texts) if kinds[i] == TokenType.NORMAL]
    special = {text: i for i, text in enumerate(texts) if kinds[i] == TokenType.CONTROL}
    # Ordinary tokens come first, then the special ones, then padding that is not written.
    if any(kinds[i] != TokenType.NORMAL for i in range(len(tokens))):
        raise ValueError(f"{vocab}: ordinary tokens do not come first")
    return bpe_json(tokens, merges, special), special


def write(folder: Path, shape: PlmShape, seed: int, vocab: Path | None) -> None:
    """The whole checkpoint. vocab: the GGUF of the real vocabulary; None makes a small one."""
    folder.mkdir(parents=True, exist_ok=True)
    if vocab:
        tokenizer, ids = real_tokenizer(vocab)
    else:
        tokenizer, ids = tokenizer_json(shape.vocab), special_ids(shape.vocab)
    write_tokenizer(folder, tokenizer, ids, shape.max_positions)
    write_weights(folder, shape, seed)
    config = shape.config("bf16", eos=ids["<|endoftext|>"])
    write_json(folder / "config.json", config | {"_note": NOTE})
    (folder / "README.md").write_text(f"# {NOTE}\n\n{__doc__}\nSeed: {seed}.\n", encoding="utf-8")


def vendored_vocabulary() -> Path:
    """Qwen2's, from the tree that vendor/llama.cpp/sync.py brings (and fetches when missing)."""
    sync = ROOT / "vendor" / "llama.cpp" / "sync.py"
    done = subprocess.run([sys.executable, sync], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1]) / "models" / "ggml-vocab-qwen2.gguf"


@torch.inference_mode()
def measure(folder: Path, tokens: int, seed: int) -> dict[str, object]:
    """The share of zeros after ReLU in each layer, over `tokens` random tokens, by the torch
    reference, one layer in memory at a time."""
    stored = reference.Checkpoint(folder)
    config = stored.config
    ids = np.random.default_rng(seed).integers(0, config.vocab_size, tokens).tolist()
    x = stored.rows("model.embed_tokens.weight", ids)
    positions, nothing = torch.arange(tokens), torch.empty(0, dtype=torch.long)
    shares = []
    for i in range(config.num_hidden_layers):
        x, _, zeros = reference.layer(config, stored.layer(i), x, positions, None, nothing)
        shares.append(round(zeros, 4))
    mean = round(sum(shares) / len(shares), 4)
    return {"checkpoint": str(folder), "tokens": tokens, "zeros_mean": mean, "zeros": shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=NOTE)
    parser.add_argument("out", type=Path)
    parser.add_argument("--measure", action="store_true", help="measure OUT; write nothing")
    parser.add_argument("--tokens", type=int, default=256, help="with --measure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--vocab",
        type=Path,
        help="the real vocabulary's GGUF (default: ggml-vocab-qwen2.gguf of the pinned tree)",
    )
    for field in fields(PlmShape):
        option = "--vocab-size" if field.name == "vocab" else f"--{field.name.replace('_', '-')}"
        default = getattr(PLM_1_8B, field.name)
        parser.add_argument(option, dest=f"shape_{field.name}", type=type(default), default=default)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.out, args.tokens, args.seed)))
        return
    shape = PlmShape(
        **{field.name: getattr(args, f"shape_{field.name}") for field in fields(PlmShape)}
    )
    real = shape.vocab == PLM_1_8B.vocab
    write(args.out, shape, args.seed, (args.vocab or vendored_vocabulary()) if real else None)


if __name__ == "__main__":
    with three_lines():
        main()
