"""The base here is stopped, or fails, while it computes a prompt: the next text is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plm_edge.cli.spa.place import Where, open_place
from plm_edge.cli.spa.shared import ModeName
from plm_edge.engine.options import Options
from plm_edge.spa import frame as frames
from plm_edge.spa.chatting import SpaGenerator
from plm_edge.spa.device import Generation
from plm_edge.spa.here import Here
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.standby import Standby
from tests.spa.arithmetic import Arithmetic, here
from tests.spa.links import OWN, alone, made
from tests.spa.serving import Scripted, wait_for

PROMPT = "p" * 150


class Failing(Arithmetic):
    """Is stopped once, in the second part of a prompt."""

    stops = True

    def fill(self, tokens: Sequence[int], position: int, sequence: int) -> None:
        if position and self.stops:
            self.stops = False
            raise KeyboardInterrupt
        super().fill(tokens, position, sequence)


def test_what_was_not_computed_is_not_known() -> None:
    there = here(Failing())
    with pytest.raises(KeyboardInterrupt):
        there.open(PROMPT, ())
    found = Generation(there, Scripted({}), OWN.vocabulary)
    assert made(found, PROMPT) == alone({}, PROMPT)


def test_a_standby_that_was_stopped_begins_anew() -> None:
    base = Failing()
    base.stops = False
    standby = Standby(lambda: here(base))
    standby.begin(list(PROMPT.encode()), (0.0, 0))
    wait_for(lambda: standby.filled == 128)
    base.stops = True
    with pytest.raises(KeyboardInterrupt):
        standby.take()
    frame = standby.take().frame(len(PROMPT))
    expected = here(Arithmetic())
    expected.open(PROMPT, ())
    assert frame.token == expected.frame(len(PROMPT)).token


def test_a_wish_to_stop_is_heard_within_a_prompt(read_texts: Texts, made: Made) -> None:
    wished = False
    options = Options(threads=1, kv="f32", n_ctx=512, stop=lambda: wished)
    there = Here(read_texts.header.path, made.plugin, options, 0.0, 0)
    try:
        wished = True
        with pytest.raises(KeyboardInterrupt):
            there.open(PROMPT, ())
        wished = False
        tokens = there.open(PROMPT, ())
        assert there.frame(len(tokens)).position == len(tokens)
    finally:
        there.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_likeliest_tokens_are_looked_for_once(
    read_texts: Texts, made: Made, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    looked: list[int] = []
    whole = frames.likeliest

    def counted(logits: NDArray[np.float32]) -> frames.Likeliest:
        looked.append(len(logits))
        return whole(logits)

    monkeypatch.setattr(frames, "likeliest", counted)
    options = Options(threads=1, kv="f32", n_ctx=512)
    there = Here(read_texts.header.path, made.plugin, options, temperature, 3)
    try:
        first = len(there.open(PROMPT, ()))
        for position in range(first, first + 4):
            there.frame(position)
    finally:
        there.close()
    assert looked == [1] * 4


def test_a_chat_wishes_so_with_ctrl_c(read_texts: Texts, made: Made, tmp_path: Path) -> None:
    made.plugin.write(tmp_path / "plugin.gguf")
    where = Where(None, None, None, ModeName.local, str(read_texts.header.path), 1, 512)
    with open_place(tmp_path / "plugin.gguf", where, show=False) as place:
        assert isinstance(place.generator, SpaGenerator)
        place.interrupt.pressed = True
        with pytest.raises(KeyboardInterrupt):
            place.generator.source.open(PROMPT, ())
