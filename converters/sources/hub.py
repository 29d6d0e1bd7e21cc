"""A checkpoint can come from the Hugging Face hub: only the files that a conversion reads.

huggingface_hub keeps them in its own cache, and is where a person's token and mirror (HF_ENDPOINT)
are set. Large files are brought to that cache by `download`, which goes on where a broken download
stopped. All files are compared with the hashes that the hub has of them, each time.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge.base.console import size as in_units
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.plan.config import read_config
from plm_edge.converters.sources.checkpoint import INDEX, PICKLED_INDEX
from plm_edge.converters.sources.source import TEXTS, Snapshot
from plm_edge.converters.write.provenance import file_hash
from plm_edge.hub import client
from plm_edge.hub.download import MORE_ROOM, download, not_the_file

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_name(source: Path) -> bool:
    """Says whether `source` names a repository, as it does when no such path exists."""
    return not source.exists() and _NAME.fullmatch(str(source)) is not None


def fetch(
    repository: str, revision: str | None = None, progress: Progress | None = None
) -> Snapshot:
    """Download what a conversion needs of a repository, or find it in the cache.

    revision: a branch, tag or commit; by default the main branch.

    Raises:
        PlmEdgeError: there is none of this name, it is no PLM, the connection or the disk failed,
            or a file is not what the hub says it is.
    """
    info = client.info(repository, revision)
    commit = str(info.sha)
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    if "config.json" not in files:
        raise PlmEdgeError(
            f"{repository} has no config.json",
            f"at {commit} it has {', '.join(sorted(files)[:4]) or 'no files'}",
            "give a repository with the original checkpoint, not one of GGUFs",
        )
    take = _Taker(repository, commit, progress or NoProgress())
    texts = [name for name in TEXTS if name in files]
    folder = take(files["config.json"]).parent
    read_config(folder)  # what is no PLM is told before gigabytes of it are there
    for name in texts:
        take(files[name])
    sound = any(re.fullmatch(r"model.*\.safetensors", name) for name in files)
    index = INDEX if INDEX in files else PICKLED_INDEX
    if index in files and (index == INDEX or not sound):
        take(files[index])
    else:
        index = ""
    weights = _weights(files, folder / index if index else None)
    _check_space(repository, folder, [files[name] for name in weights])
    take.progress.begin(sum(files[name].size or 0 for name in weights))
    for name in weights:
        take.large(files[name], folder)
    return Snapshot(repository, commit, folder)


def _weights(files: dict[str, Any], index: Path | None) -> list[str]:
    """The weight files: those that the index names, else all; safetensors before pickled ones."""
    if index is not None:
        named = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        return sorted({name for name in map(str, named.values()) if name in files})
    for pattern in (r"model.*\.safetensors", r"pytorch_model.*\.bin"):
        if found := sorted(name for name in files if re.fullmatch(pattern, name)):
            return found
    return []


class _Taker:
    """Brings one file after the other, with its hash compared."""

    def __init__(self, repository: str, commit: str, progress: Progress) -> None:
        self.repository = repository
        self.commit = commit
        self.progress = progress

    def __call__(self, file: RepoSibling) -> Path:
        from huggingface_hub import hf_hub_download

        path = Path(
            client.asked(
                f"{file.rfilename} of {self.repository}",
                lambda: hf_hub_download(
                    self.repository,
                    file.rfilename,
                    revision=self.commit,
                    endpoint=client.endpoint(),
                ),
            )
        )
        expected = file.lfs.sha256 if file.lfs else file.blob_id
        found = file_hash(path) if file.lfs else client.git_hash(path)
        if expected is not None and found != expected:
            # It would be found in the cache the next time, and be wrong again.
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise not_the_file(file.rfilename, found, expected)
        return path

    def large(self, file: RepoSibling, snapshot: Path) -> Path:
        """The same for a weight file. huggingface_hub finds its content in the cache, where it
        lies under its hash, and gives it its name."""
        known = (snapshot / file.rfilename).exists()
        if file.lfs is None or known:
            self.progress.advance(file.size or 0)
            return self(file)
        blob = snapshot.parents[1] / "blobs" / file.lfs.sha256
        if blob.exists():
            self.progress.advance(file.size or 0)
        else:
            address = partial(client.address, self.repository, file.rfilename, self.commit)
            size, sha256 = file.lfs.size, file.lfs.sha256
            download(file.rfilename, address, blob, size, sha256, self.progress)
        return self(file)


def _check_space(repository: str, folder: Path, files: list[RepoSibling]) -> None:
    needed = sum(file.size or 0 for file in files if not (folder / file.rfilename).exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PlmEdgeError(
            f"not enough disk space for {repository}",
            f"its weights take {in_units(needed)}, and {folder} has {in_units(free)} left",
            MORE_ROOM,
            ExitCode.RESOURCES,
        )
