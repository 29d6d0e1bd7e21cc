"""Greedy text does not depend on how the prompt was cut into micro-batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.engine import Setting
from tests.parity.subjects import Subject

LONG, COUNT = 520, 64
# By how much the best logit is to lead: some ten times the engine's error in the fused op.
CLEAR = {"four-heads": 0.03, "tiny-plm": 0.01}


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("name", CLEAR)
def test_micro_batches(subject: Callable[[str], Subject], name: str, flash: str) -> None:
    """A prompt past 512 tokens is expanded in large micro-batches and absorbed in small ones, and
    generated tokens are absorbed: the text crosses both forms. The reference writes the same."""
    case = subject(name)
    prompt, expected = case.clear_text(LONG, COUNT, CLEAR[name])
    texts = {}
    for ubatch in (1, 7, 32, 512):
        with case.model.context(Setting(flash, ubatch, context=768)) as context:
            texts[ubatch] = context.generate(prompt, COUNT)
    assert texts[1] == texts[7] == texts[32] == texts[512]
    assert texts[1] == expected
