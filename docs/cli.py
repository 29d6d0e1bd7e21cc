#!/usr/bin/env python3
"""This script writes docs/cli.md from the commands themselves.

python docs/cli.py           write it
python docs/cli.py --check   say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TARGET = ROOT / "docs/cli.md"
HEAD = """\
<!-- Written by docs/cli.py from the commands themselves: change those. -->

"""


def render() -> str:
    """The whole page: what `plm-edge --help` and the help of every command say."""
    import typer
    from typer.cli import get_docs_for_click

    from plm_edge.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="plm-edge")
    text = get_docs_for_click(obj=command, ctx=context, name="plm-edge", title="Commands")
    return HEAD + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def main() -> int:
    text = render()
    if "--check" in sys.argv[1:]:
        current = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        if not current:
            print("docs/cli.md is out of date: run python docs/cli.py", file=sys.stderr)
        return 0 if current else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
