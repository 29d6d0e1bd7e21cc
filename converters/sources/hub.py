"""A checkpoint can come from the Hugging Face hub: only the files that a conversion reads.

huggingface_hub keeps them in its own cache, and is where a person's token and mirror (HF_ENDPOINT)
are set. Large files are brought to that cache by `download`, which goes on where a broken download
stopped. All files are compared with the hashes that the hub has of them, each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import is_full
from plm_edge.converters.plan.config import read_config
from plm_edge.converters.sources.checkpoint import INDEX, PICKLED_INDEX
from plm_edge.converters.sources.download import (
    ATTEMPTS,
    MORE_ROOM,
    disk_full,
    download,
    not_the_file,
    pause,
)
from plm_edge.converters.sources.source import TEXTS, Snapshot
from plm_edge.converters.write.pipeline import NoProgress, Progress
from plm_edge.converters.write.provenance import file_hash
from plm_edge.converters.write.writer import mebibytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

T = TypeVar("T")
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
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    # What it has to say comes as an error or a bar of ours.
    logging.set_verbosity_error()
    disable_progress_bars()
    api = HfApi(endpoint=_endpoint())
    info = _asked(
        repository, lambda: api.model_info(repository, revision=revision, files_metadata=True)
    )
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


def _endpoint() -> str | None:
    """A mirror that the person set; read now, where huggingface_hub reads it once for good."""
    return os.environ.get("HF_ENDPOINT") or None


class _Taker:
    """Brings one file after the other, with its hash compared."""

    def __init__(self, repository: str, commit: str, progress: Progress) -> None:
        self.repository = repository
        self.commit = commit
        self.progress = progress

    def __call__(self, file: RepoSibling) -> Path:
        from huggingface_hub import hf_hub_download

        path = Path(
            _asked(
                f"{file.rfilename} of {self.repository}",
                lambda: hf_hub_download(
                    self.repository,
                    file.rfilename,
                    revision=self.commit,
                    endpoint=_endpoint(),
                ),
            )
        )
        expected = file.lfs.sha256 if file.lfs else file.blob_id
        found = file_hash(path) if file.lfs else _git_hash(path)
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
            address = partial(self._address, file.rfilename)
            size, sha256 = file.lfs.size, file.lfs.sha256
            download(file.rfilename, address, blob, size, sha256, self.progress)
        return self(file)

    def _address(self, name: str) -> tuple[str, Mapping[str, str]]:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repository, name, revision=self.commit, endpoint=_endpoint())
        location = _asked(name, lambda: get_hf_file_metadata(url).location)
        # The token is for the hub, not for the store that it sends us to.
        same = urlsplit(location).netloc == urlsplit(url).netloc
        return location, build_hf_headers() if same else {}


def _asked(what: str, ask: Callable[[], T]) -> T:
    """Ask the hub, again where the connection broke; a download goes on where it stopped."""
    from huggingface_hub import errors

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
            raise PlmEdgeError(
                f"cannot get {what}",
                "there is no such repository on the hub, and no such folder here, or it asks for "
                "a login",
                "check the name; for a private or gated one: hf auth login",
            ) from error
        except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
            if isinstance(error, errors.LocalEntryNotFoundError) and attempt < ATTEMPTS:
                pause(attempt)
                continue
            raise PlmEdgeError(
                f"cannot get {what}", _first_line(error), "check --revision and the connection"
            ) from error
        except errors.HFValidationError as error:
            raise PlmEdgeError(
                f"cannot get {what}", _first_line(error), "a name is OWNER/NAME", ExitCode.USAGE
            ) from error
        except OSError as error:  # also what the hub answers, and what the network throws
            if is_full(error):
                raise disk_full(what, _first_line(error)) from error
            _give_up_or_pause(what, error, attempt)
        except Exception as error:  # the errors of its HTTP library, which changes between versions
            if not type(error).__module__.startswith(("http", "requests", "urllib3")):
                raise
            _give_up_or_pause(what, error, attempt)
    raise AssertionError("the last attempt returns or raises")


def _give_up_or_pause(what: str, error: Exception, attempt: int) -> None:
    if attempt == ATTEMPTS:
        raise PlmEdgeError(
            f"cannot get {what}",
            f"the connection failed {ATTEMPTS} times: {_first_line(error)}",
            "run the command again: it goes on where it stopped",
        ) from error
    pause(attempt)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _git_hash(path: Path) -> str:
    """What git calls a file's content, which is how the hub names small ones."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _check_space(repository: str, folder: Path, files: list[RepoSibling]) -> None:
    needed = sum(file.size or 0 for file in files if not (folder / file.rfilename).exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PlmEdgeError(
            f"not enough disk space for {repository}",
            f"its weights take {mebibytes(needed)}, and {folder} has {mebibytes(free)} left",
            MORE_ROOM,
            ExitCode.RESOURCES,
        )
