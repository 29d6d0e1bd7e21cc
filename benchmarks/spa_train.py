"""Minutes that `plm-edge spa train` takes for 20,000 tokens, as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

TOKENS = 20_000


def train(model: Path, pages: Sequence[str], threads: int) -> dict[str, Any]:
    """Seconds for the codec, for reading and for training, with nothing kept from before.

    Args:
        pages: the personal texts, of which the first TOKENS tokens are taken.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        texts = folder / "texts"
        texts.mkdir()
        for number, words in enumerate(_first(model, pages)):
            (texts / f"{number:03}.md").write_text(words, encoding="utf-8")
        given = ["--base", str(model), "--threads", str(threads), "--json"]
        codec = ["--codec", str(folder / "codec.gguf")]
        made, codec_s = _run(folder, "codec", *given, "--out", codec[1])
        out = str(folder / "plugin.gguf")
        made, all_s = _run(folder, "train", *given, *codec, "--text", str(texts), "--out", out)
        names = ("tokens", "epochs", "read_s", "train_s", "size", "peak_rss_bytes")
        kept = {name: made[name] for name in names}
        return {"name": model.name, "codec_s": codec_s, "all_s": all_s, **kept}


def _first(model: Path, pages: Sequence[str]) -> list[str]:
    found, left = [], TOKENS
    with Session.open(model, Options(n_ctx=64, threads=1)) as session:
        vocabulary = session.vocabulary
        for page in pages:
            tokens = vocabulary.tokenize(page, add_special=False, parse_special=False)[:left]
            found.append(b"".join(map(vocabulary.piece, tokens)).decode("utf-8", "ignore"))
            left -= len(tokens)
            if not left:
                break
    return found


def _run(folder: Path, *words: str) -> tuple[dict[str, Any], float]:
    env = {**os.environ, "PLM_EDGE_CACHE_DIR": str(folder / "cache")}
    started = time.perf_counter()
    command = [sys.executable, "-m", "plm_edge", "spa", *words]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - started
