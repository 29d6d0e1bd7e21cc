"""The hub is asked through huggingface_hub, again where a connection broke.

That library is where a person's token (HF_TOKEN), mirror (HF_ENDPOINT), proxy (HTTPS_PROXY) and
wish to stay offline (HF_HUB_OFFLINE) are known.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import is_full
from plm_edge.hub.download import ATTEMPTS, disk_full, pause

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

T = TypeVar("T")


def endpoint() -> str | None:
    """A mirror that the person set; read now, where huggingface_hub reads it once for good."""
    return os.environ.get("HF_ENDPOINT") or None


def offline() -> bool:
    """Says whether the person asked huggingface_hub to stay offline."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def info(repository: str, revision: str | None) -> ModelInfo:
    """Ask what is in a repository: its commit, and name, size and hash of each file.

    revision: a branch, tag or commit; by default the main branch.

    Raises:
        PlmEdgeError: there is none of this name, or the connection failed.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    # What it has to say comes as an error or a bar of ours.
    logging.set_verbosity_error()
    disable_progress_bars()
    api = HfApi(endpoint=endpoint())
    return asked(
        repository, lambda: api.model_info(repository, revision=revision, files_metadata=True)
    )


def address(repository: str, name: str, commit: str) -> tuple[str, Mapping[str, str]]:
    """Ask where the hub keeps a file now, and with which headers it is asked for there.

    Raises:
        PlmEdgeError: the hub does not have it, or the connection failed.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repository, name, revision=commit, endpoint=endpoint())
    location = asked(name, lambda: get_hf_file_metadata(url).location)
    # The token is for the hub, not for the store that it sends us to.
    same = urlsplit(location).netloc == urlsplit(url).netloc
    return location, build_hf_headers() if same else {}


def asked(what: str, ask: Callable[[], T]) -> T:
    """Ask the hub, again where the connection broke; a download goes on where it stopped.

    Raises:
        PlmEdgeError: the hub does not have it, the connection breaks without end, or the person
            asked to stay offline.
    """
    from huggingface_hub import errors

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except errors.OfflineModeIsEnabled as error:
            raise PlmEdgeError(
                f"cannot get {what}",
                "HF_HUB_OFFLINE is set: nothing is asked of the network",
                "unset it, or give a file that is here",
                ExitCode.ENVIRONMENT,
            ) from error
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
                f"cannot get {what}", first_line(error), "check --revision and the connection"
            ) from error
        except errors.HFValidationError as error:
            raise PlmEdgeError(
                f"cannot get {what}", first_line(error), "a name is OWNER/NAME", ExitCode.USAGE
            ) from error
        except OSError as error:  # also what the hub answers, and what the network throws
            if is_full(error):
                raise disk_full(what, first_line(error)) from error
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
            f"the connection failed {ATTEMPTS} times: {first_line(error)}",
            "run the command again: it goes on where it stopped",
        ) from error
    pause(attempt)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def git_hash(path: Path) -> str:
    """What git calls a file's content, which is how the hub names small ones."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
