"""`plm-edge spa train`, stopped by a person, and run again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from plm_edge.spa import making
from testkit.checkout import ROOT
from testkit.cli import Cli, finish
from tests.spa.conftest import WORDS

pytestmark = pytest.mark.full


@pytest.mark.parametrize("after", ["readings", "training"])
def test_it_goes_on_and_makes_the_same(
    after: str, read_texts: making.Texts, tmp_path: Path
) -> None:
    texts, base = tmp_path / "texts", read_texts.header.path
    texts.mkdir()
    for number, words in enumerate(WORDS):
        (texts / f"{number}.txt").write_text(words, encoding="utf-8")
    made = []
    for name in ("whole", "parts"):
        cache, out = tmp_path / name, tmp_path / f"{name}.gguf"
        cli = Cli({**os.environ, "PYTHONPATH": str(ROOT), "PLM_EDGE_CACHE_DIR": str(cache)})
        command = ("spa", "train", "--base", base, "--text", texts, "--out", out, "--epochs", "9",
                   "--threads", "1")  # fmt: skip
        if name == "parts":
            process = cli.start(*command)
            until = time.monotonic() + 300
            while not any((cache / "spa" / after).glob("*.npz")):
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = finish(process)
            assert process.returncode == 130
            assert b"the same command goes on where it was" in said
            assert not out.exists()
            begun = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
            assert begun
        cli(*command)
        made.append(out.read_bytes())
        if name == "parts" and after == "training":  # what was read is not read again
            assert all(
                path.stat().st_mtime_ns == when
                for path, when in begun.items()
                if path.parent.name == "readings"
            )
    assert made[0] == made[1]
