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


@pytest.mark.parametrize("places", [SOME, pytest.param(range(COUNT), marks=pytest.mark.full)])
@pytest.mark.parametrize("how", ["reset", "blackhole", "stall"])
def test_a_server_that_is_taken_up_again(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, how: How, places: Sequence[int]
) -> None:
    monkeypatch.setattr(remotes, "STALL_S", STALL_S)
    resumed = 0
    for seed, harm in enumerate(harms(how, False, places)):
        with Relay(server.port) as relay:
            relay.harm = harm
            found = Generation(remote(relay.port), Scripted(script(seed)), OWN.vocabulary)
            if harm.after < 600:  # the text may not be open yet
                found.fallback = Standby(lambda: here(Arithmetic()))
            assert made(found) == alone(script(seed)), harm
            resumed += found.resumed
            assert relay.harm is None
    assert resumed


@pytest.mark.parametrize("places", [SOME, pytest.param(range(COUNT), marks=pytest.mark.full)])
@pytest.mark.parametrize("how", ["reset", "blackhole", "stall"])
def test_the_base_here(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, how: How, places: Sequence[int]
) -> None:
    monkeypatch.setattr(remotes, "STALL_S", STALL_S)
    moved = 0
    for seed, harm in enumerate(harms(how, True, places)):
        with Relay(server.port) as relay:
            relay.harm = harm
            found = Generation(remote(relay.port), Scripted(script(seed)), OWN.vocabulary)
            found.fallback = Standby(lambda: here(Arithmetic()))
            assert made(found) == alone(script(seed)), harm
            moved += found.moved is not None
            assert relay.harm is None
    assert moved
