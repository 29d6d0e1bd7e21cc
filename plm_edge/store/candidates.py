"""A repository on the hub offers candidates: one model in several quantisations, or several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plm_edge.base.console import size
from plm_edge.base.errors import PlmEdgeError
from plm_edge.store import names
from plm_edge.store.reference import HubReference

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

PREFERRED = (
    "Q4_K_M", "Q4_K", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "Q5_K_M", "Q5_K", "Q5_K_S",
    "Q3_K_M", "Q6_K", "Q8_0",
)  # fmt: skip
"""Which quantisation is taken where nobody says: the first of these, else the smallest file."""

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)  # projectors of images; statistics
SHOWN = 12  # candidates in an error


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository: its path there, bytes, and SHA-256 (empty where the hub has none)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Candidate:
    """A GGUF in a repository; in several files if it is split, the first part first."""

    files: tuple[RemoteFile, ...]
    quant: str

    @property
    def path(self) -> str:
        """The path of the first file in the repository."""
        return self.files[0].path

    @property
    def n_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        """What a person calls it within its repository: the quantisation, or the file."""
        return self.quant or self.path


def of(siblings: Iterable[RepoSibling]) -> list[Candidate]:
    """Returns what a repository offers, the smallest first; split files that lack a part are not
    among it."""
    whole: list[Candidate] = []
    parts: dict[tuple[str, int], dict[int, RemoteFile]] = {}
    for sibling in siblings:
        path = sibling.rfilename
        if not path.lower().endswith(".gguf") or _NO_MODEL.search(path) or not _safe(path):
            continue
        lfs = sibling.lfs
        file = RemoteFile(path, (lfs.size if lfs else sibling.size) or 0, lfs.sha256 if lfs else "")
        if part := _PART.fullmatch(path):
            parts.setdefault((part[1], int(part[3])), {})[int(part[2])] = file
        else:
            whole.append(Candidate((file,), _quant(path)))
    for (stem, count), found in parts.items():
        if sorted(found) == list(range(1, count + 1)):
            whole.append(Candidate(tuple(found[i] for i in sorted(found)), _quant(stem + ".gguf")))
    return sorted(whole, key=lambda candidate: (candidate.n_bytes, candidate.path))


def wanted(reference: HubReference, offered: Sequence[Candidate]) -> list[Candidate]:
    """Returns those of a repository's candidates that a reference can mean.

    Raises:
        PlmEdgeError: there is none.
    """
    if reference.file:
        found = [c for c in offered if any(file.path == reference.file for file in c.files)]
        what = f"{reference.repository} has no file {reference.file}"
    elif reference.quant:
        quant = reference.quant.casefold()
        found = [c for c in offered if c.quant.casefold() == quant]
        what = f"{reference.repository} has no GGUF in {reference.quant}"
    else:
        return list(offered)
    if not found:
        raise PlmEdgeError(what, f"it has {listed(offered)}", "name one of these")
    return found


def preferred(offered: Sequence[Candidate]) -> Candidate:
    """Returns the one to take where nobody says: by PREFERRED, else the smallest."""
    rank = {quant.casefold(): place for place, quant in enumerate(PREFERRED)}
    return min(offered, key=lambda c: (rank.get(c.quant.casefold(), len(rank)), c.n_bytes))


def listed(offered: Sequence[Candidate]) -> str:
    """Names candidates with their sizes, for a line."""
    shown = [f"{c.label} ({size(c.n_bytes)})" for c in offered[:SHOWN]]
    more = len(offered) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _quant(path: str) -> str:
    """The quantisation that a file's name says, else its folder's."""
    folder, _, file = path.rpartition("/")
    quant = names.split_stem(file[: -len(".gguf")])[1]
    return quant or names.split_stem(folder.rpartition("/")[2])[1]


def _safe(path: str) -> bool:
    """Whether a path that a server names stays in the folder that it is put in."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(p in ("", ".", "..") for p in parts)
