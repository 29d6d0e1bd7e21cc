"""This program runs upstream's convert_hf_to_gguf.py over several checkpoints in one process.

    python convert.py TREE CHECKPOINT:TYPE:OUTFILE ...

TYPE is what --outtype takes. Its one change: every pre-tokenizer is taken for qwen2. Upstream knows
pre-tokenizers by the ids that one text gets, so it knows no vocabulary but the published ones.
"""

from __future__ import annotations

import runpy
import sys


def main(tree: str, jobs: list[str]) -> None:
    sys.path[:0] = [tree, f"{tree}/gguf-py"]
    from conversion.base import TextModel  # type: ignore[import-not-found]

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    for job in jobs:
        checkpoint, outtype, outfile = job.split(":")
        sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outtype", outtype, "--outfile", outfile]
        runpy.run_path(f"{tree}/convert_hf_to_gguf.py", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
