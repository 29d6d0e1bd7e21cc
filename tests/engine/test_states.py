"""A model's states are those of the reference, for each row of a batch, and change no logit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.states import States
from testkit import plm_gguf
from testkit.checkout import TINY_PLM
from testkit.reference import Plm

Values = NDArray[np.float32]
OPTIONS = Options(n_ctx=128, threads=1, kv="f32", max_outputs=24, n_seq_max=2)
TEXTS = ("def mean(values):\n    return", "for key in sorted(")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("states") / "tiny.gguf"
    convert(TINY_PLM, quant="f32", out=out)
    return out


def error(found: Values, expected: Values) -> float:
    """The normalised mean square error."""
    return float(np.square(found - expected).sum() / np.square(expected).sum())


def test_rows_of_two_texts_in_turn(model: Path) -> None:
    reference = Plm(TINY_PLM)
    layers = [0, 1, len(reference.layers) - 1]
    with Session.open(model, OPTIONS) as session:
        texts = [session.tokenize(text) for text in TEXTS]
        batch, rows = session.context.batch(), []
        for place in range(max(map(len, texts))):
            for sequence, tokens in enumerate(texts):
                if place < len(tokens):
                    rows.append((sequence, place))
                    batch.add(tokens[place], place, sequence)
        states = States(session, layers)
        with states.kept():
            session.context.decode(batch)
            found, logits = states.read(len(batch)), session.context.logits().copy()
        # Without the final state, and with logits of the last row alone.
        session.context.clear()
        batch.clear()
        batch.extend(texts[0], 0)
        session.context.decode(batch)
        without = states.read(len(batch))
    for sequence, tokens in enumerate(texts):
        known = reference.forward(tokens)
        mine = [index for index, row in enumerate(rows) if row[0] == sequence]
        for index, layer in enumerate(layers):
            assert error(found[mine, index], known.inputs[layer].numpy()) < 1e-5
        assert error(found[mine, len(layers)], known.hidden.numpy()) < 1e-5
        assert error(logits[mine], known.logits.numpy()) < 1e-5
    assert without.shape == (len(texts[0]), len(layers), states.n_embd)
    for index, layer in enumerate(layers):
        assert error(without[:, index], reference.forward(texts[0]).inputs[layer].numpy()) < 1e-5


@pytest.mark.parametrize("quant", ["f32", "q4_k_m"])
def test_logits_are_the_same_to_the_bit(model: Path, quant: str, tmp_path: Path) -> None:
    """Of a prompt and of tokens after it: without states, with those of layers, with the final one
    as well, and without again."""
    if quant != "f32":
        model = tmp_path / "tiny.gguf"
        convert(TINY_PLM, quant=quant, out=model)
    made: dict[str, list[Values]] = {}
    for how in ("without", "layers", "final", "again"):
        with Session.open(model, OPTIONS) as session:
            tokens = session.tokenize(TEXTS[0])
            context, made[how] = session.context, []
            states = States(session, [1, 2]) if how != "without" else None
            if states and how == "again":
                with states.kept():
                    context.append(tokens[:1])
                context.clear()
            context.append(tokens[:-3])
            made[how].append(context.row_logits().copy())
            for token in tokens[-3:]:
                with states.kept() if states and how == "final" else nullcontext():
                    context.append([token])
                    made[how].append(context.row_logits().copy())
    for how in ("layers", "final", "again"):
        assert np.array_equal(made[how], made["without"]), how


def test_a_layer_that_is_not_there(model: Path) -> None:
    with Session.open(model, OPTIONS) as session, pytest.raises(PlmEdgeError, match="no layer 99"):
        States(session, [99])


def test_a_graph_that_names_none(tmp_path: Path) -> None:
    other = plm_gguf.write(tmp_path / "model.gguf", arch="llama")
    with Session.open(other, OPTIONS) as session:
        session.header.keys["general.architecture"] = "gemma"
        with pytest.raises(PlmEdgeError, match="does not show its states"):
            States(session, [0])
