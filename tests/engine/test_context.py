"""The context layer: batches of several sequences, their logits, and what the cache keeps."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.context import ALL, Context, Logits
from plm_edge.engine.greedy import greedy
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit import plm_gguf

FIRST, SECOND = [7, 80, 200, 31, 5], [9, 9, 40]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    model = plm_gguf.write(tmp_path_factory.mktemp("context") / "random.gguf")
    options = Options(threads=1, n_ctx=512, n_ubatch=64, n_seq_max=3, max_outputs=64, kv="f32")
    with Session.open(model, options) as opened:
        yield opened


@pytest.fixture
def context(session: Session) -> Context:
    session.context.clear()
    return session.context


def rows(context: Context, tokens: list[int], sequence: int = 0, position: int = 0) -> Logits:
    """[token, vocabulary] of a run of tokens; a copy."""
    batch = context.batch()
    batch.extend(tokens, position, sequence, wanted="all")
    assert context.decode(batch)
    return np.array(context.logits())


def near(got: Logits, expected: Logits) -> bool:
    return bool(np.allclose(got, expected, atol=1e-4, rtol=1e-4))


def test_sequences_of_a_batch_do_not_see_each_other(context: Context) -> None:
    alone = rows(context, FIRST), rows(context, SECOND, 1)
    context.clear()
    batch = context.batch()
    for i in range(max(len(FIRST), len(SECOND))):  # dealt in turn
        for sequence, tokens in enumerate((FIRST, SECOND)):
            if i < len(tokens):
                batch.add(tokens[i], i, sequence)
    assert context.decode(batch)
    logits = context.logits()
    assert logits.shape == (len(FIRST) + len(SECOND), context.n_vocab)
    assert logits.dtype == np.float32
    assert near(logits[[0, 2, 4, 6, 7]], alone[0])
    assert near(logits[[1, 3, 5]], alone[1])
    assert not near(alone[0][:3], alone[1])
    assert (context.length(0), context.length(1), context.length(2)) == (5, 3, 0)


def test_only_wanted_rows_have_logits(context: Context) -> None:
    expected = rows(context, FIRST)
    context.clear()
    batch = context.batch(8)
    for i, token in enumerate(FIRST):
        batch.add(token, i, wanted=i in (1, 3))
    assert (len(batch), batch.n_wanted, batch.capacity) == (5, 2, 8)
    context.decode(batch)
    assert near(context.logits(), expected[[1, 3]])
    assert near(context.row_logits(1), expected[1])
    assert near(context.row_logits(), expected[3])
    with pytest.raises(IndexError, match="row 2 has no logits"):
        context.row_logits(2)


def test_appending_is_decoding_at_the_next_position(context: Context) -> None:
    expected = rows(context, FIRST)
    context.clear()
    assert context.append(FIRST[:3])
    assert near(context.logits(), expected[2:3])
    for token, row in zip(FIRST[3:], expected[3:], strict=True):
        assert context.append([token])
        assert near(context.row_logits(), row)
    assert context.length() == len(FIRST)


def test_what_was_appended_can_be_computed_again(context: Context) -> None:
    """Its tokens are still there, whatever took memory of their size since."""
    tokens = FIRST * 5
    assert context.append(tokens)
    expected = context.row_logits().copy()
    others = [(ctypes.c_int32 * len(tokens))(*SECOND) for _ in range(64)]
    context.again_in_full()
    assert len(others) == 64
    assert near(context.row_logits(), expected)
    assert context.length() == len(tokens)


def test_logits_are_a_view_that_a_sampler_reads(context: Context) -> None:
    context.append(FIRST)
    with context.sampler() as sampler:
        likeliest = sampler.next()
        assert likeliest == int(context.row_logits().argmax())
        context.row_logits()[likeliest] = -np.inf
        assert sampler.next() == int(context.row_logits().argmax()) != likeliest


def test_removing_and_copying(context: Context) -> None:
    expected = rows(context, FIRST)
    context.copy(0, 2)
    context.remove(0, 3)
    assert (context.length(0), context.length(2)) == (3, 5)
    assert near(rows(context, FIRST[3:], position=3), expected[3:])
    after = rows(context, [1], position=5)
    assert near(rows(context, [1], sequence=2, position=5), after)
    context.remove(ALL, 2)
    assert (context.length(0), context.length(2)) == (2, 2)
    context.remove(0)
    assert (context.length(0), context.length(2)) == (0, 2)


def test_a_saved_sequence_goes_on_in_another(context: Context) -> None:
    rows(context, FIRST)
    state = context.save()
    expected = rows(context, SECOND, position=5)
    context.clear()
    context.restore(state, 1)
    assert (context.length(0), context.length(1)) == (0, 5)
    assert near(rows(context, SECOND, 1, 5), expected)
    for damaged in (state[:-9], b"", b"\0" * len(state)):
        with pytest.raises(ValueError, match="does not fit"):
            context.restore(damaged)


def test_a_batch_is_refilled(context: Context) -> None:
    expected = rows(context, SECOND)
    batch = context.batch(4)
    batch.extend([1, 2, 3, 4], 0)
    with pytest.raises(IndexError):
        batch.add(5, 4)
    with pytest.raises(IndexError, match="5 rows in a batch of 4"):
        batch.extend([5], 4)
    batch.clear()
    context.clear()
    batch.extend(SECOND, 0, wanted="none")
    assert batch.n_wanted == 0
    batch.clear()
    batch.extend(SECOND, 0)
    assert batch.n_wanted == 1
    context.decode(batch)
    assert near(context.logits(), expected[-1:])


def test_a_full_cache_is_an_error_with_a_remedy(context: Context) -> None:
    def fill(start: int) -> None:
        batch = context.batch()
        batch.extend([1] * 64, start)
        context.decode(batch)

    with pytest.raises(PlmEdgeError) as caught:  # noqa: PT012 -- how much fits is the engine's
        for start in range(0, 1024, 64):
            fill(start)
    assert caught.value.what == "the engine could not compute the next tokens"
    assert caught.value.code is ExitCode.RESOURCES
    assert "larger context" in caught.value.fix
    assert 0 < context.length() <= 512


def test_greedy_steps_say_how_clear_they_are(session: Session) -> None:
    steps = greedy(session, FIRST, 4)
    session.context.clear()
    logits = rows(session.context, [*FIRST, *(step.token for step in steps[:-1])])[-4:]
    assert [step.token for step in steps] == [int(row.argmax()) for row in logits]
    best = np.sort(logits)[:, -2:]
    assert [step.margin for step in steps] == pytest.approx(best[:, 1] - best[:, 0], abs=1e-3)
