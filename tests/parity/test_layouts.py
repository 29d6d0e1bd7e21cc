"""The stock layout, as published, and the edge layout are the same model.

All other tests of this folder run the edge layout.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from plm_edge.converters.convert import convert
from tests.parity.engine import Engine, Model, Setting
from tests.parity.subjects import Subject, error_of

BOUND = 1e-4
COUNT = 256


@pytest.fixture(scope="module")
def stock(
    engine: Engine,
    subject: Callable[[str], Subject],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Model]:
    """A subject's stock-layout twin by name."""
    folder: Path = tmp_path_factory.mktemp("stock")

    def get(name: str) -> Model:
        file = folder / f"{name}.gguf"
        if not file.exists():
            convert(subject(name).folder, quant="f32", layout="stock", out=file)
        return engine.load(file)

    return get


@pytest.mark.parametrize("ubatch", [1, 7, 512])
@pytest.mark.parametrize("flash", ["on", "off", "auto"])
@pytest.mark.parametrize("name", ["odd", "plm-attention", "zeros", "tiny-plm"])
def test_stock_layout(
    stock: Callable[[str], Model],
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    ubatch: int,
) -> None:
    setting = Setting(flash, ubatch, sequences=3, context=768)
    within(error_of(subject(name), (120, 12, 90), setting, stock(name)), BOUND)


def test_greedy_text_of_both_layouts(
    stock: Callable[[str], Model], subject: Callable[[str], Subject]
) -> None:
    """The sparse product and the dense one lead to the same text, at f32."""
    case = subject("tiny-plm")
    prompt = case.text[:40]
    texts = []
    for model in (case.model, stock("tiny-plm")):
        with model.context(Setting("on", context=512, cache="f32")) as context:
            texts.append(context.generate(prompt, COUNT))
    assert texts[0] == texts[1]
