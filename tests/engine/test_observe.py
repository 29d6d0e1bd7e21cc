"""An observer sees the graph's nodes with their values, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plm_edge.engine.observe import Node
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit import plm_gguf

Values = NDArray[np.float32]
TOKENS = [*b"some tokens"]


class Watch:
    """Takes the nodes of an operation."""

    def __init__(self, op: str, raises: bool = False) -> None:
        self.op, self.raises = op, raises
        self.seen: dict[str, tuple[Values, Values, Values]] = {}

    def wants(self, node: Node) -> bool:
        return node.op == self.op

    def take(self, node: Node) -> None:
        if self.raises:
            raise ValueError("enough")
        weight, given = node.source(0), node.source(1)
        assert weight is not None
        assert given is not None
        if weight.op == "NONE":
            assert weight.shape[0] == given.shape[0]
            self.seen[weight.name] = weight.values(), given.values(), node.values()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return plm_gguf.write(tmp_path / "model.gguf")


def logits(model: Path, observer: Watch | None) -> Values:
    with Session.open(model, Options(n_ctx=64, threads=1, observer=observer)) as session:
        session.context.append(TOKENS)
        return np.array(session.context.row_logits())


def test_a_product_of_what_it_was_given(model: Path) -> None:
    watch = Watch("MUL_MAT")
    made = logits(model, watch)
    weight, given, product = watch.seen["blk.0.attn_q.weight"]
    assert given.shape == (1, 1, len(TOKENS), plm_gguf.N_EMBD)
    assert product[0, 0] == pytest.approx(given[0, 0] @ weight[0, 0].T, rel=1e-3, abs=1e-3)
    # the last token's logits are those of the output's product
    assert watch.seen["token_embd.weight"][2][0, 0, -1].tolist() == made.tolist()
    assert logits(model, None).tolist() == made.tolist()


def test_what_it_raises_reaches_the_caller(model: Path) -> None:
    with pytest.raises(ValueError, match="enough"):
        logits(model, Watch("MUL_MAT", raises=True))
