"""What tests of links share: a plugin for the base of arithmetic, and its texts."""

from __future__ import annotations

from plm_edge.spa.device import Generation
from plm_edge.spa.remote import Remote
from tests.spa.arithmetic import Arithmetic, here, plugin
from tests.spa.serving import KEY, Scripted, written

PROMPT = "a prompt"
COUNT = 60
OWN = plugin()


def remote(port: int) -> Remote:
    return Remote(f"ws://127.0.0.1:{port}", KEY, None, OWN, window=16)


def made(generation: Generation, prompt: str = PROMPT, count: int = COUNT) -> list[int]:
    """The tokens, and the generation is closed."""
    return written(generation, prompt, count)


def alone(overrides: dict[int, int], prompt: str = PROMPT, count: int = COUNT) -> list[int]:
    """The tokens that one process makes, with these overrides."""
    return made(Generation(here(Arithmetic()), Scripted(overrides), OWN.vocabulary), prompt, count)
