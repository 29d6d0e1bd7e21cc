"""This script measures the checkpoint on held-out files, and writes evaluation.json and the card.

    python evaluate.py            # everything; 18 minutes beside other work on two cores

The held-out files are those of the running interpreter: the figures belong to the Python version
and the corpus digest that evaluation.json records.
"""

from __future__ import annotations

import argparse
import lzma
import math
import os
import platform
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from tokenizers import Tokenizer

# isort: split
from card import write_card
from corpus import Source, corpus_digest, read_sources
from functions import Task, find_tasks, function_end, judge
from generate import GREEDY, Sampling, complete
from model import PLM, load_checkpoint, write_json
from tokens import end_id
from train import encode

HERE = Path(__file__).resolve().parent
WINDOW, STRIDE = 1024, 512
PROMPT_TOKENS, BODY_TOKENS, SAMPLE_TOKENS = 512, 256, 80
MODES = {"greedy": GREEDY, "sampled": Sampling(temperature=0.8, top_p=0.95)}
PROMPTS = (
    "def fibonacci(n):\n",
    "import os\n\nclass Foo",
    'def read_lines(path):\n    """Return the lines of a text file."""\n',
    "import unittest\n\nclass QueueTest(unittest.TestCase):\n\n    def test_put",
)


@torch.no_grad()
def perplexity(model: PLM, stream: np.ndarray) -> tuple[dict[str, float], list[float]]:
    """Cross entropy over the whole stream, and the share of zeros after ReLU² of each layer.

    Windows of WINDOW tokens every STRIDE; each token is scored once, all but those of the first
    window with at least WINDOW - STRIDE tokens before them. The zeros are counted over the same
    positions that are scored.
    """
    tokens = torch.from_numpy(stream.astype(np.int64))
    nats, scored = 0.0, 0
    zeros = torch.zeros(model.config.num_hidden_layers, dtype=torch.float64)
    for start in track(range(0, len(tokens) - 1, STRIDE), "perplexity", transient=True):
        window = tokens[start : start + WINDOW + 1]
        skip = 0 if start == 0 else WINDOW - STRIDE
        if len(window) - 1 <= skip:
            break
        hidden, active, _ = model(window[None, :-1])
        logits = model.logits(hidden[0, skip:])
        nats += float(F.cross_entropy(logits, window[1 + skip :], reduction="sum"))
        scored += logits.shape[0]
        zeros += torch.stack([(a[0, skip:] == 0).sum() for a in active]).double()
    loss = nats / scored
    share = (zeros / (scored * model.config.intermediate_size)).tolist()
    return {"tokens": scored, "nats_per_token": loss, "perplexity": math.exp(loss)}, share


@torch.no_grad()
def loss_by_position(model: PLM, stream: np.ndarray, windows: int = 24) -> dict[str, float]:
    """Nats a token at positions of full-context windows, spread evenly over the stream.

    Keys are "first-last" positions. A model that cannot use its context rises along them.
    """
    tokens = torch.from_numpy(stream.astype(np.int64))
    size = min(model.config.max_position_embeddings, len(tokens) - 1)
    starts = np.linspace(0, len(tokens) - 1 - size, windows, dtype=int)
    total = torch.zeros(size)
    for start in track(starts, "positions", transient=True):
        window = tokens[start : start + size + 1]
        hidden, _, _ = model(window[None, :-1])
        total += F.cross_entropy(model.logits(hidden[0]), window[1:], reduction="none")
    edges = [0, 128, 256, 512, 1024, size]
    return {f"{a}-{b - 1}": float(total[a:b].mean() / windows) for a, b in pairwise(edges) if b > a}


def written_functions(
    model: PLM, tokenizer: Tokenizer, held_out: list[Source], count: int, seed: int
) -> dict[str, object]:
    """Bodies for `count` held-out functions, greedy and sampled: how many end, how many parse."""
    end = end_id(tokenizer)
    tasks = find_tasks(held_out, count, seed)
    result: dict[str, object] = {
        "functions": count,
        "prompt_tokens": PROMPT_TOKENS,
        "body_tokens": BODY_TOKENS,
        "seed": seed,
        # The judge's own ceiling: what it says to the bodies that the files have.
        "true_bodies_parse": sum(judge(t, t.after, True).parses for t in tasks) / count,
    }
    for mode, sampling in MODES.items():
        verdicts = []
        for number, task in enumerate(track(tasks, f"functions, {mode}", transient=True)):
            prompt = [end, *tokenizer.encode(task.before + task.header).ids][-PROMPT_TOKENS:]
            body = complete(
                model,
                prompt,
                BODY_TOKENS,
                end,
                sampling,
                seed=seed + number,
                done=partial(has_ended, tokenizer, task),
            )
            # The loop also stops at a function's end; judge finds that by itself.
            verdicts.append(judge(task, tokenizer.decode(body), len(body) < BODY_TOKENS))
        result[mode] = {
            **asdict(sampling),
            "parse": sum(v.parses for v in verdicts) / count,
            "ended_within_limit": sum(v.ended for v in verdicts) / count,
            "ended_and_parse": sum(v.ended and v.parses for v in verdicts) / count,
        }
    return result


def has_ended(tokenizer: Tokenizer, task: Task, body: list[int]) -> bool:
    return function_end(task, tokenizer.decode(body)) is not None


def samples(model: PLM, tokenizer: Tokenizer, seed: int) -> list[dict[str, str]]:
    """What the model writes after PROMPTS: the first try of each, not a choice among several."""
    end, out = end_id(tokenizer), []
    for prompt in PROMPTS:
        ids = [end, *tokenizer.encode(prompt).ids]
        texts = {
            mode: tokenizer.decode(complete(model, ids, SAMPLE_TOKENS, end, sampling, seed))
            for mode, sampling in MODES.items()
        }
        out.append({"prompt": prompt, **texts})
    return out


def part_facts(sources: list[Source], tokens: int) -> dict[str, int]:
    size = sum(len(s.text.encode()) for s in sources)
    return {"files": len(sources), "bytes": size, "tokens": tokens}


def evaluate(args: argparse.Namespace) -> dict[str, object]:
    sources = read_sources()
    held_out = [s for s in sources if s.held_out]
    tokenizer = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json"))
    model = load_checkpoint(args.checkpoint)
    stream = encode(tokenizer, held_out)
    scores, zeros = perplexity(model, stream)
    text = "".join(s.text for s in held_out).encode()
    bits = scores["nats_per_token"] * scores["tokens"] / math.log(2)
    return {
        "schema": 1,
        "environment": {"python": platform.python_version(), "torch": torch.__version__},
        "corpus": {"sha256": corpus_digest(sources), "held_out": part_facts(held_out, len(stream))},
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out": {
            **scores,
            "bits_per_byte": bits / len(text),
            "xz_bits_per_byte": 8 * len(lzma.compress(text, preset=9)) / len(text),
            "window": WINDOW,
            "stride": STRIDE,
        },
        "nats_by_position": loss_by_position(model, stream),
        "zeros_after_relu2": {"per_layer": zeros, "mean": sum(zeros) / len(zeros)},
        "functions": written_functions(model, tokenizer, held_out, args.functions, args.seed),
        "samples": samples(model, tokenizer, args.seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=HERE / "checkpoint")
    parser.add_argument("--functions", type=int, default=100, help="held-out functions to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "evaluation.json")
    parser.add_argument("--card", type=Path, default=HERE / "README.md", help="card to bring up")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = evaluate(args)
    write_json(args.out, result)
    write_card(args.card, args.checkpoint, result)
    Console().print_json(data={k: v for k, v in result.items() if k != "samples"})


if __name__ == "__main__":
    main()
