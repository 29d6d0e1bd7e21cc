"""Places in the checkout that tests and benchmarks read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY_PLM = ROOT / "examples/tiny-plm/checkpoint"


@dataclass(frozen=True)
class Upstream:
    """llama.cpp as vendored: the tests' oracle."""

    tree: Path  # sources, with convert_hf_to_gguf.py and gguf-py
    bin: Path  # llama-quantize and the other tools
