"""What a smaller cache costs: NMSE of the logits with f32 weights, against the exact reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from plm_edge.engine.log import engine_log
from tests.parity.engine import NoContextError, Setting
from tests.parity.subjects import ALL, QUANTISABLE, Subject, error_of

# By what a stored value may be off, relative to the latent's values of about 1 (rms), squared:
# f32   only the arithmetic is left: f16 products in the expanded form.
# f16   11 bits, 2^-12 at most.
# bf16  8 bits, 2^-9 at most: (2^-9)² / 3 = 1e-6, times what attention and layers make of it.
# q8_0  blocks of 32 share a step of max/127, about 2.5/127: step² / 12 = 3e-5. Queries are
#       rounded to q8_0 as well where the product is of integers.
# q4_0  a step of max/8, about 2.5/8: step² / 12 = 8e-3, a tenth of the amplitude. A score is off
#       by some tenths, and peaked attention picks other tokens: usable text, not parity. The bound
#       tells a working q4_0 cache from a broken one (which gives about 1 to 2).
BOUNDS = {"f32": 1e-4, "bf16": 2e-4, "q8_0": 1e-3, "q4_0": 0.1}


@pytest.mark.parametrize("ubatch", [7, 512])
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize(
    ("name", "cache"),
    [(n, c) for c in BOUNDS for n in (QUANTISABLE if c.startswith("q") else ALL)],
)
def test_cache_type(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    cache: str,
    flash: str,
    ubatch: int,
) -> None:
    setting = Setting(flash, ubatch, sequences=3, cache=cache, context=768)
    within(error_of(subject(name), (120, 12, 90), setting), BOUNDS[cache])


@pytest.mark.parametrize("flash", ["on", "off", "auto"])
@pytest.mark.parametrize("cache", ["q8_0", "q4_0"])
def test_no_whole_blocks(subject: Callable[[str], Subject], cache: str, flash: str) -> None:
    """A latent that blocks of 32 do not divide is refused with a reason; nothing aborts."""
    model = subject("odd").model
    engine_log.clear()
    with (
        pytest.raises(NoContextError, match="block size"),
        model.context(Setting(flash, cache=cache, context=256)),
    ):
        pass
