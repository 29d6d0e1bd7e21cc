"""Our changes of upstream's tree: patches read, applied without fuzz and exported; the overlay."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from plm_edge.base.errors import PlmEdgeError
from plm_edge.upstream import sdist
from plm_edge.upstream.pin import Pin

HEADERS = ("Subject", "Reason", "Forwarded", "Drop-when")
_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True)
class Hunk:
    """One hunk of a unified diff; `lines` keep their leading ' ', '-' or '+'."""

    start: int  # first line it replaces, counted from 0
    lines: list[str]


@dataclass(frozen=True)
class Patch:
    """One file of patches/: a header, and hunks by file."""

    name: str
    header: str
    files: dict[str, list[Hunk]]

    @staticmethod
    def read(path: Path) -> Patch:
        """Reads a patch file.

        Raises:
            PlmEdgeError: it is no unified diff.
        """
        header: list[str] = []
        files: dict[str, list[Hunk]] = {}
        hunks: list[Hunk] | None = None
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            following = lines[number] if number < len(lines) else ""
            if line.startswith("--- a/") and following.startswith("+++ b/"):
                hunks = files.setdefault(line[6:].rstrip("\n"), [])
            elif line.startswith("+++ b/") and hunks == []:
                continue
            elif hunks is not None and (match := _HUNK.match(line)):
                count = int(match[2] or 1)
                hunks.append(Hunk(int(match[1]) - (1 if count else 0), []))
            elif hunks is None:
                header.append(line)
            elif hunks and line[:1] in (" ", "-", "+"):
                hunks[-1].lines.append(line)
            else:
                raise PlmEdgeError(
                    f"{path.name} is malformed", f"line {number}: {line!r}", "export it again"
                )
        return Patch(path.name, "".join(header), files)

    def apply(self, texts: dict[str, str]) -> None:
        """Applies to `texts` (path to content) in place; each line must fit where it says.

        Raises:
            PlmEdgeError: a file is missing, or one line differs.
        """
        for name, hunks in self.files.items():
            if name not in texts:
                self._refuse(name, "the file is not in the tree")
            old, new, at = texts[name].splitlines(keepends=True), [], 0
            for hunk in hunks:
                new += old[at : hunk.start]
                at = hunk.start
                for line in hunk.lines:
                    kind, body = line[0], line[1:]
                    if kind == "+":
                        new.append(body)
                        continue
                    if at >= len(old) or old[at] != body:
                        found = old[at].rstrip("\n") if at < len(old) else "the end of the file"
                        self._refuse(
                            name, f"line {at + 1} should be {body.rstrip()!r}, is {found!r}"
                        )
                    if kind == " ":
                        new.append(body)
                    at += 1
            texts[name] = "".join(new + old[at:])

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise PlmEdgeError(
            f"{self.name} does not apply to {name}", why, "adapt the patch to this upstream version"
        )


def export(header: str, before: dict[str, str], after: dict[str, str]) -> str:
    """The text of a patch file: `header`, then the diff of each file, in order of path."""
    parts = [header]
    for name in sorted(after):
        if before.get(name) != after[name]:
            old = before[name].splitlines(keepends=True)
            new = after[name].splitlines(keepends=True)
            parts += difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=3)
    return "".join(parts)


def series(folder: Path) -> list[Patch]:
    """The patches in the order in which they apply."""
    lines = (folder / "series").read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [Patch.read(folder / "patches" / name) for name in names]


def overlay(folder: Path) -> dict[str, str]:
    """The texts of our own files by their path in the tree."""
    root = folder / "overlay"
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in files}


def inputs_hash(folder: Path, pin: Pin) -> str:
    """A hash that changes whenever the pinned file, a patch, the series or an overlay file does."""
    digest = hashlib.sha256(f"{pin.sha256} {pin.subtree}\n".encode())
    for path in [folder / "series", *sorted((folder / "patches").glob("*.patch"))]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    for name, text in overlay(folder).items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def changed_files(
    folder: Path, pin: Pin, file: Path, also: set[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """(upstream's, ours) texts of all files that overlay or patches touch, and those of `also`."""
    patches, ours = series(folder), overlay(folder)
    wanted = set(ours) | {name for patch in patches for name in patch.files} | also
    before = sdist.pristine(file, pin.subtree, wanted)
    after = before | ours
    for patch in patches:
        patch.apply(after)
    return before, after
