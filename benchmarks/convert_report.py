"""The section of BENCHMARKS.md on conversion, from results/convert.json."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head

NAMES = {
    "upstream": "llama.cpp: convert_hf_to_gguf.py, then llama-quantize",
    "stock": "plm-edge convert --layout stock",
    "edge": "plm-edge convert",
}


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what convert.py wrote."""
    samples = data["samples"]
    walls = {name: [sample["wall_s"] for sample in samples[name]] for name in NAMES}
    upstream = median(walls["upstream"])
    machine = data["machine"]
    kind = "synthetic weights of PLM-1.8B's shapes" if data["synthetic"] else data["checkpoint"]
    rounds = len(walls["upstream"])
    lines = [
        "## Conversion",
        "",
        f"{kind[0].upper()}{kind[1:]} (bf16) to {data['quant']}, {data['threads']} threads, "
        f"{rounds} {'round' if rounds == 1 else 'rounds'} of all three in turns; "
        "medians, and all samples in brackets.",
        "",
        *table_head(
            "", "seconds", "share of llama.cpp's", "peak RSS", "written besides the result"
        ),
    ]
    for name, title in NAMES.items():
        wall = median(walls[name])
        every = ", ".join(f"{value:.1f}" for value in walls[name])
        peak = max(sample["peak_rss_bytes"] for sample in samples[name])
        between = max(sample.get("intermediate_bytes", 0) for sample in samples[name])
        lines.append(
            f"| {title} | {wall:.1f} ({every}) | {wall / upstream:.2f} | {_mib(peak)} | "
            f"{_mib(between) if between else 'nothing'} |"
        )
    lines += [
        "",
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python "
        f"{machine['python']}; {origin.said_engine(data)}. The stock file has the very tensors of "
        "llama.cpp's (`tests/converters/test_upstream.py`). Our times include reading the result "
        "again and SHA-256 of source and result; llama.cpp's are without the start of "
        "transformers, which its converter imports.",
        "",
        "Raw samples: `benchmarks/results/convert.json`; again: "
        "`python -m benchmarks.synthetic`, `python -m benchmarks.convert`.",
    ]
    return "\n".join(lines) + "\n"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
