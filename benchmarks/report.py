"""BENCHMARKS.md, made from the raw results: one section for each file of benchmarks/results.

    python -m benchmarks.report            write it
    python -m benchmarks.report --check    end with 1 when it is not what the results give

results/NAME.json, or NAME-VARIANT.json, is rendered by `section(data) -> str` of
benchmarks/NAME_report.py, between `<!-- NAME -->` and `<!-- /NAME -->`. Nothing else is in the
page, and nobody edits it by hand.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plm_edge.base import files
from testkit.checkout import ROOT

RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "BENCHMARKS.md"
HEAD = """# Benchmarks

Made by `benchmarks/report.py` from `benchmarks/results/*.json`, which hold the raw samples; not
edited by hand. Each section names the command that measures it again.
"""


def sections() -> dict[str, Callable[[dict[str, Any]], str]]:
    """What renders a result, by its file's name."""
    names = [path.name.removesuffix("_report.py") for path in ROOT.glob("benchmarks/*_report.py")]
    return {
        name: importlib.import_module(f"benchmarks.{name}_report").section for name in sorted(names)
    }


def recorded(name: str) -> dict[str, Any]:
    """A result of the tree's, by its file's name without the ending."""
    return read(RESULTS / f"{name}.json")


def read(path: Path) -> dict[str, Any]:
    """A result."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page(results: Path = RESULTS) -> str:
    """The text of BENCHMARKS.md.

    Raises:
        KeyError: a result that no `NAME_report.py` renders.
    """
    parts = [HEAD]
    known = sections()
    for path in sorted(results.glob("*.json")):
        text = known[path.stem.partition("-")[0]](read(path)).strip()
        parts.append(f"<!-- {path.stem} -->\n{text}\n<!-- /{path.stem} -->\n")
    return "\n".join(parts)


def write() -> None:
    """Writes BENCHMARKS.md; removes it where there is no result."""
    if not any(RESULTS.glob("*.json")):
        PAGE.unlink(missing_ok=True)
        return
    files.write_text(PAGE, page())


def keep(out: Path, result: dict[str, Any]) -> None:
    """Writes a result, and BENCHMARKS.md where the result is one of the tree's."""
    files.write_text(out, json.dumps(result, indent=1) + "\n")
    if out.resolve().parent == RESULTS:
        write()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare only")
    if not parser.parse_args().check:
        write()
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(
            "error: BENCHMARKS.md is not what the results give\n"
            "  why: it or benchmarks/results was edited\n"
            "  fix: python -m benchmarks.report"
        )


if __name__ == "__main__":
    main()
