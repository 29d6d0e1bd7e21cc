"""Where a task of lm-evaluation-harness is defined, found without reading all of its tasks.

The harness parses its 14,000 YAML files before it runs one of them. A task is a file of its own,
with what that includes by path: where a name is plainly a task's, its folder is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# A key with its value: on its line, or as a list on the lines below.
_LABELS = re.compile(rb"^(?:tag|group):[^\n]*(?:\n[ \t]*-[^\n]*)*", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """Where names were found.

    Attributes:
        files: by name, of those that are plainly tasks.
        unknown: names that no file has.
        unclear: the rest: groups, tags, patterns.
    """

    files: dict[str, Path]
    unknown: tuple[str, ...]
    unclear: tuple[str, ...]


def find(root: Path, names: Sequence[str]) -> Found:
    """Search the YAML files of a folder, as text, for the definitions of tasks.

    Args:
        root: the folder; of files that define the same name the first counts, by path, as in the
            harness.
        names: of tasks; a pattern is unclear.
    """
    files: dict[str, Path] = {}
    seen: set[str] = set()
    unclear = {name for name in names if not re.fullmatch(r"[\w.\-]+", name)}
    wanted = {name: _definition(name) for name in names if name not in unclear}
    for path in sorted(root.rglob("*.yaml"), key=Path.as_posix):
        content = path.read_bytes()
        for name, definition in wanted.items():
            if name.encode() not in content:
                continue
            seen.add(name)
            if any(_word(name).search(label[0]) for label in _LABELS.finditer(content)):
                unclear.add(name)
            if definition.search(content):
                files.setdefault(name, path)
    unclear |= seen - files.keys()
    return Found(
        {name: path for name, path in files.items() if name not in unclear},
        tuple(name for name in wanted if name not in seen),
        tuple(name for name in names if name in unclear),
    )


def folders(files: Iterable[Path]) -> list[str]:
    """Returns the folders of some files, none within another."""
    found = {file.parent for file in files}
    return sorted(str(one) for one in found if not found.intersection(one.parents))


def _definition(name: str) -> re.Pattern[bytes]:
    value = re.escape(name).encode()
    return re.compile(
        rb"^[\"']?task[\"']?:[ \t]*[\"']?" + value + rb"[\"']?[ \t]*(?:#.*)?\r?$", re.M
    )


def _word(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![\w.\-])" + re.escape(name).encode() + rb"(?![\w.\-])")
