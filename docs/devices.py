#!/usr/bin/env python3
"""This script writes docs/devices.md from devices/*.toml.

python docs/devices.py           write it
python docs/devices.py --check   say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from plm_edge.devices.profiles import presentation  # noqa: E402
from plm_edge.devices.profiles.profile import Profile, builtin_dir, load  # noqa: E402

TARGET = ROOT / "docs/devices.md"
HEAD = """\
<!-- Written by docs/devices.py from devices/*.toml: change those. -->

# Devices

What plm-edge knows of each device, and where each figure is from. What no source states is left
out. `plm-edge devices` lists them, `plm-edge devices show NAME` explains one. Your own go to the
folder `devices` of plm-edge's configuration; `plm-edge devices detect --host USER@HOST --save`
writes one.
To add one to plm-edge itself: ["Add a device"](../CONTRIBUTING.md#add-a-device).
`plm-edge engine build --device NAME` builds the engine for one; the rows "build" say how;
[deploy.md](deploy.md) shows how a model gets there.
Memory and bandwidth are the GPU's where it has its own.
"""


def render() -> str:
    """The whole page."""
    profiles = [load(path, "built-in") for path in sorted(builtin_dir().glob("*.toml"))]
    parts = [HEAD, _overview(profiles)]
    parts += [_section(found) for found in profiles if not found.detected]
    return "\n".join(parts)


def _overview(profiles: list[Profile]) -> str:
    lines = [
        "| name | device | cores | memory | bandwidth by the sheet | measured | GPU | reached by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in profiles:
        item = presentation.summary(found)
        figures = [item["memory"] or item["ram"], item["bandwidth"], item["reached"]]
        cells = [f"`{found.name}`", found.title, str(item["cores"] or "")]
        cells += [f"{figure['value']:g} {figure['unit']}" if figure else "" for figure in figures]
        cells += [item["backend"] or "", item["transport"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _section(found: Profile) -> str:
    numbers = {source: index for index, source in enumerate(found.sources, 1)}
    lines = [f"## {found.name}: {found.title}", ""]
    if "note" in found.data:
        lines += [found.data["note"][0].upper() + found.data["note"][1:] + ".", ""]
    lines += ["| | | | source |", "|---|---|---|---|"]
    for heading, rows in [*presentation.sections(found).items()][1:]:
        for label, value, source in rows:
            text = str(value).replace("|", "\\|")
            mark = str(numbers[source]) if source in numbers else ""
            lines.append(f"| {heading} | {label} | {text} | {mark} |")
            heading = ""
    lines.append("")
    lines += [f"{number}. {found.sources[source]}" for source, number in numbers.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    page = render()
    if "--check" in sys.argv[1:]:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == page:
            return 0
        print("docs/devices.md is out of date: python docs/devices.py", file=sys.stderr)
        return 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
