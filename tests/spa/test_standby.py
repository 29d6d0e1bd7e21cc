"""The base here is loaded and filled beside a server, and is ready where that is lost."""

from __future__ import annotations

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.spa.device import Generation
from plm_edge.spa.here import Here
from plm_edge.spa.server import SpaServer
from plm_edge.spa.standby import Standby
from testkit.relay import Relay
from tests.spa.arithmetic import Arithmetic, here
from tests.spa.links import OWN, PROMPT, alone, made, remote
from tests.spa.serving import Scripted, wait_for
from tests.spa.test_links import Harming

LONG = 150


def test_it_has_most_of_the_text_when_the_server_is_lost(server: SpaServer) -> None:
    """What it computes then is less than a batch; each token is computed once."""
    base, script = Arithmetic(), {3: 7, 70: 8, 100: 9}
    standby = Standby(lambda: here(base))
    before = []

    def lose() -> None:
        wait_for(lambda: standby.filled >= 128)
        before.append(sum(base.filled))
        relay.refuses = True
        relay.cut()

    with Relay(server.port) as relay:
        chooser = Harming(script, {140}, lose)
        found = Generation(remote(relay.port), chooser, OWN.vocabulary, fallback=standby)
        assert made(found, count=LONG) == alone(script, count=LONG)
    assert found.moved is not None
    assert before[0] >= 127
    assert sum(base.filled) == found.moved - 1 < before[0] + 64
    assert max(base.filled) <= 64


def test_in_shadow_it_has_what_the_server_has(server: SpaServer) -> None:
    script = dict.fromkeys(range(0, LONG, 5), 7)
    with Relay(server.port) as relay:
        chooser = Harming(script, {100}, relay.cut)
        found = Generation(
            remote(relay.port), chooser, OWN.vocabulary, "shadow",
            fallback=Standby(lambda: here(Arithmetic())),
        )  # fmt: skip
        shown = made(found, count=LONG)
    assert found.moved is not None
    local = Generation(here(Arithmetic()), Scripted(script), OWN.vocabulary, "shadow")
    assert made(local, count=LONG) == shown


def test_it_is_freed_where_it_is_not_needed(server: SpaServer) -> None:
    freed = []

    class Watched(Arithmetic):
        def close(self) -> None:
            freed.append(True)

    standby = Standby(lambda: here(Watched()))
    found = Generation(remote(server.port), Scripted({}), OWN.vocabulary, fallback=standby)
    assert made(found) == alone({})
    assert freed == [True]
    standby.close()
    assert freed == [True]


def test_one_that_cannot_be_loaded_is_told_when_it_is_needed(server: SpaServer) -> None:
    def fail() -> Here:
        raise PlmEdgeError("the base here cannot be loaded", "no room", "none")

    good = Generation(remote(server.port), Scripted({}), OWN.vocabulary, fallback=Standby(fail))
    assert made(good) == alone({})
    with Relay(server.port) as relay:
        chooser = Harming({}, {5}, relay.cut)
        found = Generation(remote(relay.port), chooser, OWN.vocabulary, fallback=Standby(fail))
        with pytest.raises(PlmEdgeError, match="cannot be loaded"):
            made(found)
    assert found.tokens == alone({})[: len(found.tokens)]
    assert found.made > 5
    assert len(PROMPT) == found.first
