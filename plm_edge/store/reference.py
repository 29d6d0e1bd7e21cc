"""A reference is what a person gives to `pull`: a name on the hub, a file there, or an address."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.store import names

_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_OWNER_AND_NAME = r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_ON_HUB = re.compile(rf"{_OWNER_AND_NAME}(?:/(?:(?:resolve|blob|raw)/([^/]+)/)(.+)|/tree/([^/]+))?")
_FILE = re.compile(rf"{_OWNER_AND_NAME}/(.+\.gguf)", re.IGNORECASE)


@dataclass(frozen=True)
class HubReference:
    """A model on the hub.

    Attributes:
        repository: USER/REPO.
        quant: the quantisation that is wanted; empty where any is.
        file: the path of one GGUF in the repository; empty where none was named.
        revision: a branch, tag or commit; None is the main branch.
    """

    repository: str
    quant: str = ""
    file: str = ""
    revision: str | None = None


@dataclass(frozen=True)
class WebReference:
    """A file at an address that is not the hub's."""

    url: str

    @property
    def file(self) -> str:
        """The last part of the address."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


def parse(given: str, revision: str | None = None) -> HubReference | WebReference:
    """Understand USER/REPO, USER/REPO:QUANT, USER/REPO/FILE.gguf, or the address of a GGUF.

    Addresses of the hub's pages, and names that begin with hf.co/, are understood as the hub's.

    Raises:
        PlmEdgeError: it is none of these (code USAGE), or a file that is here.
    """
    if given.lower().endswith(".gguf") and Path(given).expanduser().is_file():
        raise PlmEdgeError(
            f"{given} is here already",
            "pull fetches what is elsewhere",
            f"make it known where it is: plm-edge add {given}",
            ExitCode.USAGE,
        )
    scheme, _, rest = given.rpartition("://")
    host, _, path = rest.partition("/")
    if scheme.lower() == "hf":
        return _on_hub(given, rest, revision)
    if scheme.lower() in ("http", "https"):
        path = unquote(urlsplit(given).path).strip("/")
        page = _ON_HUB.fullmatch(path)
        if host.lower() in (*_HUB_HOSTS, _mirror()) and page and not page[1].endswith(".gguf"):
            return _on_hub(given, path, revision)
        return _web(given)
    if scheme:
        raise _not_understood(given, f"addresses that begin with {scheme}:// are not fetched")
    if host.lower() in _HUB_HOSTS:
        return _on_hub(given, path, revision)
    return _on_hub(given, given, revision)


def check_sha256(given: str) -> None:
    """Refuse what no file can have as its SHA-256, before it is fetched. Empty: none is wanted.

    Raises:
        PlmEdgeError: it is not 64 hexadecimal digits (code USAGE).
    """
    if given and not re.fullmatch(r"[0-9A-Fa-f]{64}", given):
        raise PlmEdgeError(
            f"{given!r:.80} is no SHA-256",
            "one has 64 hexadecimal digits",
            "copy it from where the file is offered, or leave --sha256 out",
            ExitCode.USAGE,
        )


def _mirror() -> str:
    return urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc.lower()


def _on_hub(given: str, path: str, revision: str | None) -> HubReference:
    if (page := _ON_HUB.fullmatch(path)) and (page[2] or page[4]):
        return HubReference(page[1], file=page[3] or "", revision=revision or page[2] or page[4])
    if file := _FILE.fullmatch(path):
        return HubReference(file[1], file=file[2], revision=revision)
    if name := names.split_hub(path):
        return HubReference(name[0], quant=name[1], revision=revision)
    raise _not_understood(given, "it has not the form of a name on the Hugging Face hub")


def _web(url: str) -> WebReference:
    reference = WebReference(url)
    if not reference.file.lower().endswith(".gguf"):
        raise _not_understood(url, f"the address ends in {reference.file!r}, not in .gguf")
    return reference


def _not_understood(given: str, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{given} cannot be pulled",
        why,
        "give USER/REPO, USER/REPO:QUANT, USER/REPO/FILE.gguf or the address of a .gguf file",
        ExitCode.USAGE,
    )
