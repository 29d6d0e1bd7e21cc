"""What quantising by a text (GPTQ) is worth on tiny-plm: the tables of docs/lab/calibration.md.

    python -m benchmarks.calibration [--windows 16] [--only embeddings|mixtures|stock|kinds|bias]

Judged by the KL divergence from the f32 model on files of the standard library that trained nothing
and chose nothing (as in benchmarks/quality.py). Two texts calibrate: the one that comes with
plm-edge, and other such files. Nothing is timed: a busy machine changes no figure.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader

from benchmarks.divergence import CHECKPOINT, detokenised, held_out_windows
from benchmarks.recipes import WINDOWS
from benchmarks.refusal import three_lines
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert, open_embedding
from plm_edge.converters.embed.outline import outline
from plm_edge.converters.embed.spec import parse
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.plan.plm import TensorSpec
from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.quality import calibration_reading, embedding, evaluation, imatrix, text
from plm_edge.quality.activations import Inputs
from plm_edge.quality.embedding import Parts
from plm_edge.quality.figures import Values
from plm_edge.quality.products import InputProducts
from plm_edge.quality.rounding import RoundingByText
from plm_edge.quality.sums import Reading

Q = GGMLQuantizationType
OPTIONS = Options(kv="f32", threads=1)
SETTINGS = evaluation.Settings(512, None, OPTIONS)
CALIBRATING = 12  # windows of Python
ATTENTION = ("attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output")
WITHOUT_EMBEDDING = (*ATTENTION, "ffn_up")
ALL = ("token_embd", *WITHOUT_EMBEDDING, "ffn_down")
BITS = {"3": "q3_k", "4": "q4_k", "5": "q5_k", "6": "q6_k", "8": "q8_0"}
FORMS = (
    *("type=q6_k", "type=q5_k", "type=q4_k", "type=q3_k", "r1,type=q5_k", "r1,type=q4_k"),
    *("split=8192:q6_k/q4_k", "split=8192:q5_k/q4_k", "split=8192:q5_k/q3_k"),
    *("r1,split=8192:q6_k/q4_k", "r1,split=8192:q5_k/q4_k", "r1,split=8192:q5_k/q3_k"),
)
PLAIN = "5465644"  # the edge layout's q4_k: embedding, q, kv_a, kv_b, out, up, down


class Rounding(RoundingByText):
    """Of chosen kinds."""

    def __init__(self, words: str, kinds: Collection[str]) -> None:
        super().__init__(words, OPTIONS)
        self._chosen = kinds

    def takes(self, spec: TensorSpec, type_: GGMLQuantizationType) -> bool:
        """See `converters.convert.Rounding`."""
        return spec.name.split(".")[-2] in self._chosen and type_ in grids.TYPES


class Bench:
    """Makes files of tiny-plm in `folder` and measures them."""

    def __init__(self, folder: Path, windows: int) -> None:
        os.environ["PLM_EDGE_CACHE_DIR"] = str(folder / "cache")
        self._folder, self.f32 = folder, folder / "f32.gguf"
        convert(CHECKPOINT, quant="f32", layout="stock", out=self.f32)
        chosen = held_out_windows(WINDOWS + windows)
        self.texts = {
            "default": text.for_calibration(),
            "python": detokenised(self.f32, chosen[:CALIBRATING]),
        }
        self._judges = detokenised(self.f32, chosen[WINDOWS:])
        self._matrix = folder / "imatrix.gguf"
        found = imatrix.collect(self.f32, self.texts["default"], Reading(options=OPTIONS))
        found.write(self._matrix, "default")

    def kl(
        self,
        types: Mapping[str, str],
        rounded: Collection[str] = (),
        by: str = "default",
        *,
        layout: str = "edge",
        weighted: bool = False,
    ) -> str:
        """The mean KL divergence of a model with these types, all other matrices in f32.

        Args:
            types: by kind.
            rounded: the kinds that are quantised by the text `by`.
            weighted: the others by an importance matrix of the default text.
        """
        recipe, out = self._folder / "recipe.toml", self._folder / "model.gguf"
        lines = [f"'\\b{kind}\\.' = \"{type_}\"" for kind, type_ in types.items()]
        recipe.write_text("\n".join(['base = "f32"', "[types]", *lines]))
        rounding = Rounding(self.texts[by], rounded) if rounded else None
        given = self._matrix if weighted else None
        convert(CHECKPOINT, recipe=recipe, imatrix=given, layout=layout, out=out, rounding=rounding)
        if rounding:
            rounding.forget()
        return self.judged(out)

    def judged(self, model: Path) -> str:
        """The mean KL divergence of a file."""
        tokens: list[Values] = []
        evaluation.evaluate(model, self._judges, self.f32, SETTINGS, tokens=tokens.append)
        kl = tokens[0][:, 2]
        return f"{kl.mean():.5f} ± {kl.std() / len(kl) ** 0.5:.5f}"

    def calibrated(self) -> Path:
        """A calibrated q4_k in the edge layout, but for its embedding."""
        out = self._folder / "calibrated.gguf"
        if not out.exists():
            rounding = Rounding(self.texts["default"], WITHOUT_EMBEDDING)
            convert(CHECKPOINT, quant="q4_k", out=out, rounding=rounding)
            rounding.forget()
        return out

    def embedded(self, form: str, seen: Floats, *, rounded: bool) -> str:
        """The same with its embedding in another form, by importance or rounded by the text."""
        out = self._folder / "embedded.gguf"
        by = {"products": seen} if rounded else {"weights": np.diag(seen).copy()}
        with open_embedding(CHECKPOINT) as source:
            embedding.embed(self.calibrated(), out, Parts(parse(form), source, **by))
        return self.judged(out)


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def heading(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def mixture(digits: str) -> dict[str, str]:
    """Types of all kinds, from a digit each."""
    return dict(zip(ALL, (BITS[digit] for digit in digits), strict=True))


def kinds(bench: Bench) -> None:
    """Each kind alone."""
    heading("quantised alone", "plain", "imatrix", "GPTQ, default text", "GPTQ, Python")
    for kind in ALL:
        for type_ in ("q3_k", "q4_k"):
            # in the stock layout W_down's columns are its inputs
            layout = "stock" if kind == "ffn_down" else "edge"
            types = {kind: type_}
            row(
                f"{kind}, {type_}" + ", stock layout" * (layout == "stock"),
                bench.kl(types, layout=layout),
                bench.kl(types, layout=layout, weighted=True),
                *(bench.kl(types, (kind,), by, layout=layout) for by in bench.texts),
            )


def mixtures(bench: Bench) -> None:
    """Whole models."""
    heading("q / kv_a / kv_b / out", "quantised by the text", "default text", "Python")
    row("4/6/5/6, as without a text", "nothing", bench.kl(mixture(PLAIN)), "")
    cases: Sequence[tuple[str, tuple[str, ...]]] = [
        (PLAIN, ATTENTION),
        (PLAIN, WITHOUT_EMBEDDING),
        ("5354444", ATTENTION),
        ("5354444", WITHOUT_EMBEDDING),
        ("5364444", WITHOUT_EMBEDDING),
        ("5444444", WITHOUT_EMBEDDING),
        ("5344444", WITHOUT_EMBEDDING),
        ("5354344", WITHOUT_EMBEDDING),
        ("5354434", WITHOUT_EMBEDDING),
    ]
    for digits, rounded in cases:
        row(
            "/".join(digits[1:5]) + (f", up {digits[5]}" if digits[5] != "4" else ""),
            " ".join(name.removeprefix("attn_") for name in rounded),
            *(bench.kl(mixture(digits), rounded, by) for by in bench.texts),
        )


def stock(bench: Bench) -> None:
    """Whole models in the stock layout, where the columns of W_down are its inputs."""
    heading("stock layout, quantised by the text", "default text", "Python")
    types = mixture(PLAIN)
    row("nothing", bench.kl(types, layout="stock"), "")
    for rounded in (WITHOUT_EMBEDDING, (*WITHOUT_EMBEDDING, "ffn_down")):
        row(
            " ".join(name.removeprefix("attn_") for name in rounded),
            *(bench.kl(types, rounded, by, layout="stock") for by in bench.texts),
        )


class Moments(InputProducts):
    """And sums of the inputs themselves."""

    def __init__(self, model: Path, weights: Collection[str], place: str) -> None:
        super().__init__(model, weights, place)
        self.totals: dict[str, Floats] = {}
        self.tokens: dict[str, int] = {}

    def take_input(self, weight: str, inputs: Inputs) -> None:
        """See `Activations`."""
        super().take_input(weight, inputs)
        self.totals[weight] = self.totals.get(weight, np.float32(0)) + inputs.sum(0)
        self.tokens[weight] = self.tokens.get(weight, 0) + len(inputs)


def errors(w: Floats, name: str, type_: Q, seen: Sequence[Moments]) -> list[float]:
    """The squared error of a matrix's products on the second text, quantised by the first."""
    first, second = seen
    mean = first.totals[name] / np.float32(first.tokens[name])
    quantizer = Quantizer(library.load().ggml)

    def error(raw: Bytes, biased: bool) -> float:
        into = np.empty(w.size, np.float32)
        off = quantizer.decode(type_, raw.reshape(-1), into).reshape(w.shape) - w
        found = float(((off @ second.sums[name]) * off).sum())
        if biased:
            bias = off @ mean
            found += second.tokens[name] * float(bias @ bias)
            found -= 2 * float(bias @ (off @ second.totals[name]))
        return found

    plain = grids.find(type_, w, None, quantizer).raw
    u = solve.factor(first.sums[name])
    gptq = solve.quantise(w, u, type_, quantizer)
    u = solve.factor(first.sums[name] - first.tokens[name] * np.outer(mean, mean))
    centred = solve.quantise(w, u, type_, quantizer)
    return [
        error(plain, False),
        error(plain, True),
        error(gptq, False),
        error(gptq, True),
        error(centred, True),
    ]


def bias(bench: Bench) -> None:
    """What (W - Q) x', added to the result, would make of the error of products."""
    tensors = {t.name: t.data for t in GGUFReader(bench.f32).tensors}
    names = [name for name in tensors if name.split(".")[-2] in WITHOUT_EMBEDDING]
    moments = []
    for by in ("default", "python"):
        seen = Moments(bench.f32, names, by)
        calibration_reading.read(bench.f32, bench.texts[by], OPTIONS, seen, NoProgress())
        moments.append(seen)
    heading("error, plain is 1", "and bias", "GPTQ", "and bias", "GPTQ of the covariance, and bias")
    for kind in WITHOUT_EMBEDDING:
        for type_ in (Q.Q3_K, Q.Q4_K):
            found = [
                np.array(made) / made[0]
                for name in names
                if name.split(".")[-2] == kind
                for made in [errors(np.array(tensors[name]), name, type_, moments)]
            ]
            row(f"{kind}, {type_.name.lower()}", *(f"{v:.3f}" for v in np.mean(found, 0)[1:]))


def embeddings(bench: Bench) -> None:
    """The embedding of a calibrated q4_k in other forms; tiny-plm's split is at token 1024."""
    heading("embedding", "MB of PLM-1.8B", "by importance", "rounded by the text")
    row(
        "q5_k, each weight by itself",
        f"{_megabytes('type=q5_k'):.0f}",
        "",
        bench.judged(bench.calibrated()),
    )
    seen = embedding.products(bench.calibrated(), bench.texts["default"], OPTIONS)
    for form in FORMS:
        found = [
            bench.embedded(form.replace("8192", "1024"), seen, rounded=rounded)
            for rounded in (False, True)
        ]
        row(form, f"{_megabytes(form):.0f}", *found)


def _megabytes(form: str) -> float:
    made = outline(parse(form), (151_936, 2048), (Q.Q5_K, 0), True, None)
    return made.size / 1e6


TABLES = {
    "embeddings": embeddings,
    "mixtures": mixtures,
    "stock": stock,
    "kinds": kinds,
    "bias": bias,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=16, help="of 512 tokens that judge")
    parser.add_argument("--only", choices=TABLES, help="one table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.windows)
        for name, table in TABLES.items():
            if given.only in (None, name):
                table(bench)


if __name__ == "__main__":
    with three_lines():
        main()
