"""Where figures come from: command, commit, engine, as results hold them and reports say them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from plm_edge import __version__
from plm_edge.engine.library import read_pin
from testkit.checkout import ROOT


def command(module: str, words: Sequence[str] | None = None) -> str:
    """How a module of benchmarks/ was called. Of paths only the last name is kept: where files lie
    says nothing to anybody else.

    Args:
        words: None takes this process's.
    """
    given = sys.argv[1:] if words is None else words
    return " ".join([f"python -m benchmarks.{module}", *map(_without_folders, given)])


def _without_folders(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals:
        return f"{name}={_without_folders(value)}"
    return Path(word).name if os.sep in word else word


def now() -> str:
    """The date and time of a result."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def revision() -> dict[str, Any]:
    """The checkout's commit, and whether files in git differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD") or "unknown", "changed": bool(changed)}


def taken(module: str) -> dict[str, Any]:
    """`date`, `command` and `source` of a result."""
    return {"date": now(), "command": command(module), "source": revision()}


def engine() -> dict[str, Any]:
    """`plm_edge` and `pin` of a result: this version, and llama.cpp's with its patched tree."""
    pin = read_pin()
    return {
        "plm_edge": __version__,
        "pin": {"package": pin.package, "version": pin.version, "tree": pin.tree},
    }


def said_commit(data: dict[str, Any]) -> str:
    """Words for a report. `data` holds what `taken` or `revision` gave."""
    source = data["source"]
    return f"Commit {source['commit'][:12]}{' with changes' if source['changed'] else ''}"


def said_again(data: dict[str, Any]) -> str:
    """`said_commit`, how busy the machine was, and what measures it again."""
    before = data["load_average"]["before"][0]
    return f"{said_commit(data)}. Load before {before}. Measure it again: `{data['command']}`."


def said_engine(data: dict[str, Any]) -> str:
    """Words for a report. `data` holds what `engine` gave."""
    pin = data["pin"]
    return f"plm-edge {data['plm_edge']}, llama.cpp of {pin['package']} {pin['version']}"
