"""What reading a prompt from disk takes, against computing it.

    python -m benchmarks.prompt_cache MODEL [--kv f16] [--threads N] [--rounds 3] [--json FILE]

For each length, in turns: a prefill with nothing kept; the same prompt read back (from the page
cache: what a slow disk adds, its data sheet says); and what writing it takes, in bytes and seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand
from benchmarks.refusal import three_lines
from plm_edge.engine import prompt_files
from plm_edge.engine.options import Options
from plm_edge.engine.prompt_cache import PromptCache, PromptFolder
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling

LENGTHS = (64, 128, 256, 512, 1024, 2000)


def measure(session: Session, prompt: list[int], rounds: int) -> dict[str, Any]:
    """Returns medians, in seconds, of computing and of reading a prompt, and what it takes."""
    from plm_edge.engine import library

    def prefill() -> float:
        request = Request(prompt, 0, Sampling(temp=0))
        generation = LocalGenerator(session).generate(request)
        generation.whole()
        return generation.stats.prefill_s

    computed, read, written, n_bytes = [], [], [], 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            computed.append(prefill())
            cache = PromptCache(
                library.load().llama,
                session.context.handle,
                session.header.path,
                PromptFolder(Path(folder), 8 << 30),
            )
            started = time.perf_counter()
            cache.store(prompt)
            cache.close()
            written.append(time.perf_counter() - started)
            n_bytes = sum(kept.n_bytes for kept in prompt_files.kept(Path(folder)))
            session.prompts = PromptCache(
                library.load().llama,
                session.context.handle,
                session.header.path,
                PromptFolder(Path(folder), 8 << 30),
            )
            read.append(prefill())
            session.prompts.close()
            session.prompts = None
    return {
        "tokens": len(prompt),
        "computed_s": statistics.median(computed),
        "read_s": statistics.median(read),
        "written_s": statistics.median(written),
        "bytes": n_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.json:
        beforehand.out(arguments.json)
    options = Options(n_ctx=2048, threads=arguments.threads, kv=arguments.kv)
    with Session.open(arguments.model, options) as session:
        text = session.tokenize(Path(__file__).read_text() * 8)
        rows = [measure(session, text[:length], arguments.rounds) for length in LENGTHS]
    for row in rows:
        print(
            f"{row['tokens']:5} tokens: computed in {row['computed_s']:.3f} s, read in "
            f"{row['read_s']:.3f} s (with the last token computed), written in "
            f"{row['written_s']:.3f} s, {row['bytes'] / row['tokens'] / 1024:.1f} KiB a token"
        )
    if arguments.json:
        result = {"model": arguments.model.name, "kv": arguments.kv, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    with three_lines():
        main()
