"""What `plm-edge convert --embed` does and shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import calibration

if TYPE_CHECKING:
    from plm_edge.converters.embed.outline import Outline
    from plm_edge.converters.embed.spec import Spec
    from plm_edge.converters.tensors import Floats, Rows
    from plm_edge.quality.embedding import Embedded


def read(chosen: str, calibrate: str | None) -> Spec:
    """Returns what `--embed` asks for.

    Raises:
        PlmEdgeError: it cannot be, or not together with `--calibrate`.
    """
    from plm_edge.converters.embed.spec import RankOne, parse

    spec = parse(chosen)
    if calibrate is not None and isinstance(spec, RankOne):
        raise PlmEdgeError(
            "--embed r1 and --calibrate do not go together",
            "the output matrix would be in two parts, and a coarse form is of one matrix",
            "leave one of them out, or take --embed tt",
            ExitCode.USAGE,
        )
    return spec


def kind(spec: Spec) -> str:
    """Returns tt or r1."""
    from plm_edge.converters.embed.spec import RankOne

    return "r1" if isinstance(spec, RankOne) else "tt"


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
    threads: int | None,
) -> Embedded:
    """Take the embedding of a GGUF apart, say first what comes of it, and how far it is.

    Raises:
        PlmEdgeError: it cannot be made, read or written.
        KeyboardInterrupt: the person said so.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.quality.embedding import Parts, embed

    spec = _measured(model, spec)
    weights = _weights(model, spec, imatrix, threads)
    with console.progress(in_bytes=False) as counts:
        return embed(
            model,
            out,
            Parts(spec, source, weights, threads),
            _tell,
            Bar(counts, "taking embeddings apart"),
            Bar(counts, "writing bytes"),
            lambda error: console.note(f"relative error of the embedding: {error:.3f}"),
        )


def _measured(model: Path, spec: Spec) -> Spec:
    """With a split by a share of a text's tokens where the text puts it."""
    from plm_edge.converters.embed.spec import RankOne
    from plm_edge.quality import embedding, text

    if not isinstance(spec, RankOne) or spec.share is None:
        return spec
    return embedding.measured(model, spec, text.for_calibration())


def _weights(model: Path, spec: Spec, imatrix: Path | None, threads: int | None) -> Floats | None:
    """The importance of the columns of an output matrix that is to be quantised."""
    from plm_edge.cli.bar import Bar
    from plm_edge.converters.embed.outline import EMBEDDING, OUTPUT
    from plm_edge.converters.embed.spec import RankOne
    from plm_edge.converters.plan.imatrix import read_imatrix
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.model import gguf_file
    from plm_edge.quality import embedding, text

    content = gguf_file.read(model)
    embedding.plan(content, spec)  # what cannot be is said before a text is read
    if not isinstance(spec, RankOne) or not embedding.is_tied(content):
        return None
    if imatrix is not None:
        matrix = read_imatrix(imatrix)
        width = next(t.shape[0] for t in content.tensors if t.name == EMBEDDING)
        found = matrix.weights(EMBEDDING, width)
        if found is None:
            found = matrix.weights(OUTPUT, width)
        if found is not None:
            return found
        console.warn(
            f"{imatrix} has no entry for {EMBEDDING} (llama-imatrix leaves it out); collecting one"
        )
    words = text.for_calibration()
    counting = console.progress(in_bytes=False)
    with calibration.goes_on(words), Interrupt() as stop, counting as counts:
        return embedding.importance(
            model,
            words,
            Options(kv="f32", threads=threads, stop=stop),
            Bar(counts, "reading chunks of text"),
        )


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
    if len(made.parts) > 1:
        return f"rank 1 and what it leaves over, apart from token {made.parts[1].tokens.start:,} on"
    return "rank 1 and what it leaves over"


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
    console.note("other programs based on llama.cpp cannot read such a file")


def as_dict(made: Embedded) -> dict[str, Any]:
    """Returns its fields for --json."""
    outline = made.outline
    return {
        "kind": outline.kind,
        "dims": list(outline.train.dims) if outline.train else None,
        "ranks": list(outline.train.ranks) if outline.train else None,
        "types": [part.type.name.lower() for part in outline.parts],
        "element_ratio": outline.ratio,
        "embedding_bytes_before": outline.before,
        "embedding_bytes": outline.size,
        "growth_bytes": outline.growth,
        "error": made.error,
        "size": made.size,
    }
