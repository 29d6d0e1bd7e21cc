"""The corpus: the sources of the running interpreter's standard library, split by file hash."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Not Python as a person would write it: other people's packages, deliberately broken sources,
# generated tables and prose in a string literal.
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data"}
SKIPPED_PREFIXES = ("lib2to3/tests/data/", "test/bad", "test/encoded_modules/", "config-")
HELD_OUT_ONE_IN = 25
# One very long table of test vectors must not weigh more than hundreds of ordinary modules.
MAX_BYTES = 400_000


@dataclass(frozen=True)
class Source:
    path: PurePosixPath
    text: str
    digest: str

    @property
    def held_out(self) -> bool:
        """True for about one file in HELD_OUT_ONE_IN; depends on the file's bytes alone."""
        return is_held_out(self.digest)


def is_held_out(digest: str) -> bool:
    return int(digest[:8], 16) % HELD_OUT_ONE_IN == 0


def _parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            return False
    return True


def read_sources(root: Path | None = None, *, only_held_out: bool = False) -> list[Source]:
    """Every usable module below `root` (default: the running interpreter's), in order of digest.

    A file counts if it is UTF-8, parses, holds at least 200 bytes and repeats no earlier file.
    The order by digest is a fixed shuffle, the same wherever the files lie. Those that are held out
    are found in a fraction of the time: no other file is parsed.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Source] = {}
    for file in sorted(root.rglob("*.py")):
        path = PurePosixPath(file.relative_to(root).as_posix())
        if SKIPPED_FOLDERS & set(path.parts) or path.as_posix().startswith(SKIPPED_PREFIXES):
            continue
        data = file.read_bytes()
        if not 200 <= len(data) <= MAX_BYTES:
            continue
        try:
            text = data.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
        digest = hashlib.sha256(data).hexdigest()
        if only_held_out and not is_held_out(digest):
            continue
        if digest not in found and _parses(text):
            found[digest] = Source(path, text, digest)
    return [found[digest] for digest in sorted(found)]


def corpus_digest(sources: list[Source]) -> str:
    """sha256 over the files' sha256 sums in order: names the corpus exactly."""
    return hashlib.sha256("\n".join(s.digest for s in sources).encode()).hexdigest()
