"""What `plm-edge convert --embed` does and shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge.base import console
from plm_edge.cli import calibration

if TYPE_CHECKING:
    from plm_edge.converters.embed.outline import Outline
    from plm_edge.converters.embed.spec import Spec
    from plm_edge.converters.tensors import Floats, Rows
    from plm_edge.model.gguf_file import GGUFFile
    from plm_edge.quality.embedding import Embedded, Parts


def read(chosen: str) -> Spec:
    """Returns what `--embed` asks for.

    Raises:
        PlmEdgeError: it cannot be.
    """
    from plm_edge.converters.embed.spec import parse

    return parse(chosen)


def kind(spec: Spec) -> str:
    """Returns tt, r1, split or type."""
    from plm_edge.converters.embed.spec import Quantised

    return spec.kind if isinstance(spec, Quantised) else "tt"


@contextmanager
def rows(checkpoint: Path, revision: str | None, spec: Spec | None) -> Iterator[Rows | None]:
    """Gives the embedding of a checkpoint, as finely as it has it; None for a GGUF, or where none
    is asked for.

    Raises:
        PlmEdgeError: it has none that could be taken apart so.
    """
    from plm_edge.converters.convert import open_embedding
    from plm_edge.converters.embed import outline
    from plm_edge.converters.sources.source import is_gguf

    if spec is None or is_gguf(checkpoint):
        yield None
        return
    with open_embedding(checkpoint, revision) as found:
        tokens, width = found.shape
        outline.outline(spec, (tokens, width), (found.type, 0), tied=True, weights=None)
        yield found


def run(
    model: Path,
    spec: Spec,
    out: Path,
    source: Rows | None,
    imatrix: Path | None,
    words: str | None,
    threads: int | None,
) -> Embedded:
    """Take the embedding of a GGUF apart, say first what comes of it, and how far it is.

    Args:
        words: the text that rows are rounded by; None: a text of ours says which columns count.

    Raises:
        PlmEdgeError: it cannot be made, read or written.
        KeyboardInterrupt: the person said so.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.quality.embedding import embed

    parts = replace(_seen(model, _measured(model, spec), imatrix, words, threads), source=source)
    with console.progress(in_bytes=False) as counts:
        return embed(
            model,
            out,
            parts,
            _tell,
            Bar(counts, "taking embeddings apart"),
            Bar(counts, "writing bytes"),
            lambda error: console.note(f"relative error of the embedding: {error:.3f}"),
        )


def _measured(model: Path, spec: Spec) -> Spec:
    """With a split by a share of a text's tokens where the text puts it."""
    from plm_edge.converters.embed.spec import Quantised
    from plm_edge.quality import embedding, text

    if not isinstance(spec, Quantised) or spec.share is None:
        return spec
    return embedding.measured(model, spec, text.for_calibration())


def _seen(
    model: Path, spec: Spec, imatrix: Path | None, words: str | None, threads: int | None
) -> Parts:
    """With what counts in an output matrix that is to be quantised."""
    from plm_edge.cli.bar import Bar
    from plm_edge.converters.embed.spec import Quantised
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.model import gguf_file
    from plm_edge.quality import embedding, text

    content = gguf_file.read(model)
    parts = embedding.Parts(spec, workers=threads)
    embedding.plan(content, parts)  # what cannot be is said before a text is read
    if not isinstance(spec, Quantised) or not embedding.is_tied(content):
        return parts
    if words is None and imatrix is not None:
        found = _in(imatrix, content)
        if found is not None:
            return replace(parts, weights=found)
    chosen = text.for_calibration() if words is None else words
    counting = console.progress(in_bytes=False)
    with calibration.goes_on(chosen), Interrupt() as stop, counting as counts:
        bar = Bar(counts, "reading chunks of text")
        options = Options(kv="f32", threads=threads, stop=stop)
        if words is None:
            return replace(parts, weights=embedding.importance(model, chosen, options, bar))
        return replace(parts, products=embedding.products(model, chosen, options, bar))


def _in(imatrix: Path, content: GGUFFile) -> Floats | None:
    """The importance of the columns of a tied embedding in a matrix that a person gave."""
    from plm_edge.converters.embed.outline import EMBEDDING, OUTPUT
    from plm_edge.converters.plan.imatrix import read_imatrix

    matrix = read_imatrix(imatrix)
    width = next(t.shape[0] for t in content.tensors if t.name == EMBEDDING)
    found = matrix.weights(EMBEDDING, width)
    if found is None:
        found = matrix.weights(OUTPUT, width)
    if found is None:
        console.warn(
            f"{imatrix} has no entry for {EMBEDDING} (llama-imatrix leaves it out); collecting one"
        )
    return found


def _tell(made: Outline) -> None:
    console.note(describe(made))
    parts = ", ".join(part.type.name.lower() for part in made.parts)
    console.note(
        f"{made.ratio:.2f} values of the embedding for each that is stored; "
        f"{console.size(made.size)} in {parts} instead of {console.size(made.before)}"
    )
    if made.growth > 0:
        console.note(
            f"this file grows by {console.size(made.growth)}"
            + (": the embedding stays as the output matrix" if made.keeps else "")
        )
    else:
        console.note(f"this file shrinks by {console.size(-made.growth)}")
    for wanted, got in made.swapped:
        console.warn(
            f"rows of {made.width} values are no whole blocks of {wanted.name.lower()}; "
            f"they take {got.name.lower()}"
        )


def describe(made: Outline) -> str:
    """Returns the form in words."""
    if made.train:
        dims, ranks = ("x".join(map(str, n)) for n in (made.train.dims, made.train.ranks))
        return f"tensor trains of {dims} values with ranks {ranks}"
    at = f", apart from token {made.parts[-1].tokens.start:,} on" if len(made.parts) > 1 else ""
    rounded = ", rounded by the text" if any(part.rounded for part in made.parts) else ""
    return ("rank 1 and what it leaves over" if made.kind == "r1" else "rows") + at + rounded


def show(made: Embedded) -> None:
    """Print what was made."""
    console.show_facts(
        {
            "embedding": f"{describe(made.outline)}: {console.size(made.outline.size)}, "
            f"error {made.error:.3f}",
            "file": f"{made.out}, {console.size(made.size)}",
        }
    )
    console.note(f"what it changes: plm-edge eval {made.out} --reference MODEL")
    if made.outline.kind != "type":
        console.note("other programs based on llama.cpp cannot read such a file")


def as_dict(made: Embedded) -> dict[str, Any]:
    """Returns its fields for --json."""
    outline = made.outline
    return {
        "kind": outline.kind,
        "dims": list(outline.train.dims) if outline.train else None,
        "ranks": list(outline.train.ranks) if outline.train else None,
        "types": [part.type.name.lower() for part in outline.parts],
        "rounded": any(part.rounded for part in outline.parts),
        "element_ratio": outline.ratio,
        "embedding_bytes_before": outline.before,
        "embedding_bytes": outline.size,
        "growth_bytes": outline.growth,
        "error": made.error,
        "size": made.size,
    }
