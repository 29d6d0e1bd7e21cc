"""A text is read, refused, and cut as llama-perplexity cuts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality import text
from testkit import plm_gguf


@pytest.mark.parametrize(
    ("content", "what", "why"),
    [
        (None, "cannot read the text", "No such file"),
        (b"", "has no text", "it is empty"),
        (b" \n\t\n", "has no text", "only blanks"),
        (b"caf\xe9 au lait", "is no text", "byte 3 (0xe9) is not UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes | None, what: str, why: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlmEdgeError) as caught:
        text.read(path)
    assert what in caught.value.what
    assert why in caught.value.why


def test_one_newline_at_the_end_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("grüße\n\n".encode())
    assert text.read(path) == "grüße\n"


def test_chunks(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    plm_gguf.write(path)
    with Session.open(path, Options(n_ctx=8)) as session:
        chunks = text.cut(session.vocabulary, "abcdefghijk", 4)
        with pytest.raises(PlmEdgeError) as caught:
            text.cut(session.vocabulary, "abc", 4)
    assert (len(chunks), chunks.n_ctx, chunks.n_tokens) == (2, 4, 11)
    assert chunks.right.tolist() == [[*b"abcd"], [*b"efgh"]]
    # of four tokens the last is judged, by the logits at position 2
    assert (chunks.first, chunks.n_judged) == (2, 1)
    assert chunks.next_tokens(1).tolist() == [*b"h"]
    assert caught.value.why == "it has 3 tokens, and a chunk takes 4"
