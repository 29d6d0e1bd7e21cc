"""A link is harmed at any place of a text, in the middle of a message as it may be: no token is
lost, none comes twice, with the server taken up again and with the base here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from plm_edge.spa import remote as remotes
from plm_edge.spa.device import Generation
from plm_edge.spa.server import SpaServer
from plm_edge.spa.standby import Standby
from testkit.relay import Harm, How, Relay
from tests.spa.arithmetic import END, Arithmetic, here
from tests.spa.links import COUNT, OWN, alone, made, remote
from tests.spa.serving import Scripted
from tests.spa.test_harm import frame

STALL_S = 0.2
SOME = [0, 1, 16, 30, 59]


def script(seed: int) -> dict[int, int]:
    rng = np.random.default_rng(seed)
    return {place: int(rng.integers(END)) for place in range(COUNT) if rng.random() < 0.2}


def harms(how: How, lasting: bool, places: Sequence[int]) -> list[Harm]:
    """One in each of these frames' lengths of what comes down, at a byte that a seed chooses."""
    rng = np.random.default_rng(len(how) + lasting)
    size = len(frame().pack()) + 4  # with its head
    return [
        Harm(how, int(size * (place + rng.random())), lasting, float(rng.uniform(0, 3 * STALL_S)))
        for place in places
    ]


def harmed(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, harm: Harm, seed: int, *, with_base: bool
) -> Generation:
    """A text that was made over a harmed link: it is as one process makes it.

    Args:
        with_base: the base is here, too.
    """
    monkeypatch.setattr(remotes, "STALL_S", STALL_S)
    if harm.after < 600:  # the link may not be there yet
        monkeypatch.setattr(remotes, "CONNECT_S", 2.0)
    with Relay(server.port) as relay:
        relay.harm = harm
        found = Generation(remote(relay.port), Scripted(script(seed)), OWN.vocabulary)
        if with_base:
            found.fallback = Standby(lambda: here(Arithmetic()))
        assert made(found) == alone(script(seed)), harm
        assert relay.harm is None
    return found


each_place = pytest.mark.parametrize(
    "places", [SOME, pytest.param(range(COUNT), marks=pytest.mark.full)]
)
each_way = pytest.mark.parametrize("how", ["reset", "blackhole", "stall"])


@each_place
@each_way
def test_a_server_that_is_taken_up_again(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, how: How, places: Sequence[int]
) -> None:
    found = [
        harmed(server, monkeypatch, harm, seed, with_base=False)
        for seed, harm in enumerate(harms(how, False, places))
    ]
    assert any(one.resumed for one in found)


@each_place
@each_way
def test_the_base_here(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, how: How, places: Sequence[int]
) -> None:
    found = [
        harmed(server, monkeypatch, harm, seed, with_base=True)
        for seed, harm in enumerate(harms(how, True, places))
    ]
    assert any(one.moved is not None for one in found)
