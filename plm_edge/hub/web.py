"""A file at a plain address is looked at before it is downloaded: how large, which version."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.hub.download import ATTEMPTS, TIMEOUT, pause

_NO_HEAD = (403, 404, 405, 501)  # what servers answer that know GET alone


@dataclass(frozen=True)
class WebFile:
    """A file at an address: bytes, and what its version is told by (empty where nothing tells)."""

    url: str
    size: int
    version: str


def look(url: str) -> WebFile:
    """Ask how large the file at an address is.

    Raises:
        PlmEdgeError: it is not there, cannot be reached, or the server does not say how large it
            is.
    """
    problem = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _look(url)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise PlmEdgeError(
                    f"cannot get {url}",
                    f"the server answered {error.code} {error.reason}",
                    "check the address",
                ) from error
            problem = f"the server answered {error.code} {error.reason}"
        except (OSError, HTTPException, ValueError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt < ATTEMPTS:
            pause(attempt)
    raise PlmEdgeError(
        f"cannot get {url}",
        f"the connection failed {ATTEMPTS} times: {problem}",
        "check the address and the connection, and run the command again",
    )


def _look(url: str) -> WebFile:
    try:
        headers, size = _ask(url, "HEAD", {})
    except urllib.error.HTTPError as error:
        if error.code not in _NO_HEAD:
            raise
        headers, size = _ask(url, "GET", {"Range": "bytes=0-0"})
    if size is None:
        raise PlmEdgeError(
            f"cannot get {url}",
            "the server does not say how large the file is, so a broken download would not show",
            "fetch it with another program, then: plm-edge add FILE",
        )
    version = headers.get("ETag") or headers.get("Last-Modified") or ""
    return WebFile(url, size, f"{url} {size} {version}")


def _ask(url: str, method: str, headers: dict[str, str]) -> tuple[Any, int | None]:
    """The headers of an answer, and the size of the whole file."""
    asked = {**headers, "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, method=method, headers=asked)
    with contextlib.closing(urllib.request.urlopen(request, timeout=TIMEOUT)) as answer:
        length = answer.headers.get("Content-Length", "")
        if answer.status == 206:
            length = answer.headers.get("Content-Range", "").rpartition("/")[2]
        return answer.headers, int(length) if length.isdecimal() else None
