"""Conversations as they lie on disk, and how their models answer the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from testkit.cli import Cli

GREEDY = ("--temp", "0", "--threads", "1")


def saved(cli: Cli, name: str = "*") -> list[Any]:
    """The conversations on disk."""
    folder = Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chats"
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob(f"{name}.json"))]


def turns(cli: Cli, name: str = "*") -> list[tuple[str, str]]:
    """Questions and answers of the one conversation on disk."""
    (chat,) = saved(cli, name)
    return [(turn["question"], turn["answer"]) for turn in chat["conversation"]["turns"]]
