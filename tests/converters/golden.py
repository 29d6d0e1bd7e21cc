"""What the GGUFs of tiny-plm hold, key by key and hash by hash.

    python -m tests.converters.golden        rewrites golden.json

Run it when tiny-plm's checkpoint or the format changes on purpose, and read the difference before
you commit it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from plm_edge.converters.convert import convert
from testkit.checkout import ROOT
from tests.converters.gguf_content import Content, read

TINY_PLM = ROOT / "examples/tiny-plm/checkpoint"
FILE = Path(__file__).with_name("golden.json")
CASES = [("q4_k_m", "edge"), ("q4_k_m", "stock"), ("f16", "stock"), ("q8_0", "edge")]
# Says the version of plm-edge, which changes with each release.
VERSION_KEY = "plm_edge.version"


def make() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "m.gguf"
        found = {}
        for quant, layout in CASES:
            convert(TINY_PLM, quant=quant, layout=layout, out=out)
            found[f"{quant} {layout}"] = describe(read(out))
    return found


def describe(content: Content) -> dict[str, Any]:
    """Keys with types and values, long values as hashes; tensors with type, shape and hash."""
    keys = {name: [types, _short(value)] for name, (types, value) in content.keys.items()}
    del keys[VERSION_KEY]
    return {
        "keys": keys,
        "tensors": {name: list(tensor.identity) for name, tensor in content.tensors.items()},
    }


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 100:
        return json.loads(text)
    return f"sha256 of JSON: {hashlib.sha256(text.encode()).hexdigest()}"


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
