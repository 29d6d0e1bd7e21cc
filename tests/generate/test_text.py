"""Text is whole characters and ends before a stop string, however its bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm_edge.generate.text import TextDecoder


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in itertools.pairwise(ends)]


def fed(decoder: TextDecoder, parts: list[bytes]) -> list[str]:
    """What comes with each piece, and at the end."""
    return [*(decoder.feed(part) for part in parts), decoder.finish()]


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=8))
def test_cuts_change_nothing(raw: bytes, cuts: list[int]) -> None:
    """Broken UTF-8 as well is replaced as Python does."""
    assert "".join(fed(TextDecoder(), pieces(raw, cuts))) == raw.decode("utf-8", "replace")


@given(
    st.text("ab€", max_size=30),
    st.lists(st.text("ab€", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 90), max_size=12),
)
def test_a_stop_string_ends_the_text(text: str, stop: list[str], cuts: list[int]) -> None:
    decoder = TextDecoder(stop)
    parts = []
    for piece in pieces(text.encode(), cuts):
        parts.append(decoder.feed(piece))
        if decoder.stopped:
            break
    parts.append(decoder.finish())
    made = "".join(parts)
    assert text.startswith(made)
    assert decoder.stopped == any(string in text for string in stop)
    if not decoder.stopped:
        assert made == text
    else:
        assert not any(string in made for string in stop)
        assert any(text.startswith(string, len(made)) for string in stop)


@pytest.mark.parametrize(
    ("stop", "parts", "expected"),
    [
        # what may become a stop string waits, and comes when it does not
        (["END"], [b"a", b"EN", b"x"], ["a", "", "ENx", ""]),
        (["END"], [b"a", b"EN"], ["a", "", "EN"]),
        (["END"], [b"aE", b"N", b"Dz"], ["a", "", "", ""]),
        # the earliest of two counts
        (["b", "ab"], [b"xa", b"b"], ["x", "", ""]),
        ([], [b"\xe2\x82", b"\xac"], ["", "€", ""]),
        (["€"], [b"a\xe2", b"\x82\xac"], ["a", "", ""]),
    ],
)
def test_by_hand(stop: list[str], parts: list[bytes], expected: list[str]) -> None:
    assert fed(TextDecoder(stop), parts) == expected


def test_nothing_comes_after_a_stop() -> None:
    decoder = TextDecoder(["\n"])
    assert [decoder.feed(b"a\nb"), decoder.feed(b"c"), decoder.finish()] == ["a", "", ""]
    assert decoder.stopped
