"""Embeddings in parts, made and read: what several files of tests need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from plm_edge.converters.embed.spec import parse
from plm_edge.converters.tensors import Floats
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality.embedding import Parts, embed
from plm_edge.quality.figures import Values

TOKENS = [5, 900, 4000, 17, 1, 2047, 2048, 4095, 300, 301, 302, 33, 1023, 1024]


def made(tmp_path: Path, model: Path, form: str, weights: Floats | None = None) -> Path:
    out = tmp_path / "embedded.gguf"
    embed(model, out, Parts(parse(form), weights=weights, workers=2))
    return out


def rows_of(
    path: Path, value: Callable[[Values], Values] = lambda values: values
) -> tuple[Values, Values]:
    """The embedding at the input and in the head, in float64, by the format's description alone.

    Args:
        value: made of what is stored; np.abs gives how large the sums could be.
    """
    reader = gguf.GGUFReader(path)
    stored = {
        t.name: value(gguf.dequantize(t.data, t.tensor_type).astype(np.float64))
        for t in reader.tensors
        if t.name.startswith(("token_embd", "output.weight"))
    }
    if "token_embd.tt.weight" not in stored:
        kinds = (("r1", "low"), ("r1", "high"), ("split", "low"), ("split", "high"))
        names = ("token_embd.weight", *(f"token_embd.{a}.{b}.weight" for a, b in kinds))
        whole = np.concatenate([stored[name] for name in names if name in stored])
        if "token_embd.r1.u" in stored:
            whole += stored["token_embd.r1.u"] * stored["token_embd.r1.v"]
        return whole, whole
    dims, ranks = (reader.fields[f"plm_edge.embed.{name}"].contents() for name in ("dims", "ranks"))
    cores, at = stored["token_embd.tt.weight"], 0
    whole = np.ones((len(cores), 1, 1))
    for before, dim, after in zip([1, *ranks], dims, [*ranks, 1], strict=True):
        core = cores[:, at : at + before * dim * after].reshape(-1, dim, after, before)
        whole = np.einsum("tpa,tiba->tpib", whole, core).reshape(len(cores), -1, after)
        at += before * dim * after
    return whole[:, :, 0], stored["output.weight"]


def logits_of(path: Path, options: Options) -> Floats:
    """Of some tokens, one by one."""
    with Session.open(path, replace(options, n_ctx=64)) as session:
        rows = []
        for token in TOKENS:
            session.context.append([token])
            rows.append(np.array(session.context.logits())[-1])
        return np.stack(rows)
