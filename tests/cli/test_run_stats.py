"""What --stats says of a machine that others use, too."""

from __future__ import annotations

import pytest

from plm_edge.cli.run.result import show_stats
from plm_edge.generate.stats import Stats


@pytest.mark.parametrize(("others", "shown"), [(0.7, True), (0.1, False), (None, False)])
def test_other_programs(
    capsys: pytest.CaptureFixture[str], others: float | None, shown: bool
) -> None:
    stats = Stats.of(
        load_s=1, ttft_s=0.1, n_prompt=3, prefill_s=0.1, n_generated=5, n_steps=4, decode_s=1,
        n_cached=8, kv=None, kv_type="f16", compute_bytes=0, peak_rss_bytes=1, n_ctx=64, threads=2,
        zeros_by_layer=[], other_cores=others,
    )  # fmt: skip
    show_stats(stats)
    assert ("0.7 cores  that other programs took" in capsys.readouterr().err) == shown
