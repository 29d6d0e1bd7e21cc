"""A prompt cache gives a context back what was computed of a prompt before, by whichever program.

The files are the engine's own (vendor/llama.cpp/overlay/include/plm-prompt-cache.h), so that
llama-server and this package read what the other wrote.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import folders, sizes
from plm_edge.base.errors import ExitCode, PlmEdgeError

VARIABLE = "PLM_EDGE_PROMPT_CACHE"
# prompts of fewer tokens are not kept: computing so few takes no longer than finding them
LEAST = 64


@dataclass(frozen=True)
class PromptFolder:
    """Where prompts are kept.

    Attributes:
        path: a folder, made for its owner alone when it is first used.
        limit: most bytes in it; 0: 2 GiB, and at most 5 % of what is free on the disk.
    """

    path: Path
    limit: int = 0

    def environment(self) -> dict[str, str]:
        """Returns the variables by which llama-server is told (overlay/tools/server)."""
        return {f"{VARIABLE}_DIR": str(self.path), f"{VARIABLE}_SIZE": str(self.limit)}


def default_path() -> Path:
    """Returns the folder that run, chat and serve share."""
    return folders.cache() / "prompts"


def wanted(size: str | None = None) -> PromptFolder | None:
    """Returns where a person's prompts are kept; None where none shall be.

    Args:
        size: a size such as 500M or 2G, or off; None: what PLM_EDGE_PROMPT_CACHE says, else the
            default.

    Raises:
        PlmEdgeError: it is no size (code USAGE).
    """
    given = os.environ.get(VARIABLE, "") if size is None else size
    if not given:
        return PromptFolder(default_path())
    if given.lower() in ("off", "0"):
        return None
    limit = sizes.parse(given)
    if not limit:
        raise PlmEdgeError(
            f"{given!r} is no size for the prompt cache",
            f"--prompt-cache and {VARIABLE} take a size, or off",
            "give one such as 500M or 2G",
            ExitCode.USAGE,
        )
    return PromptFolder(default_path(), limit)


class PromptCache:
    """The kept prompts of one context. Use `close` before the context's own.

    Args:
        library: libllama.
        context: a llama_context *, fresh or used.
        model: the file that its model was loaded from.
        folder: where the prompts are.

    Attributes:
        reason: why there is no such cache for this context; empty where there is one.
    """

    def __init__(
        self, library: ctypes.CDLL, context: Any, model: Path, folder: PromptFolder
    ) -> None:
        self._lib = library
        library.plm_prompt_cache_open.restype = ctypes.c_void_p
        library.plm_prompt_cache_reason.restype = ctypes.c_char_p
        handle = library.plm_prompt_cache_open(
            ctypes.c_void_p(context),
            os.fsencode(model),
            os.fsencode(folder.path),
            ctypes.c_uint64(folder.limit),
        )
        self._handle = ctypes.c_void_p(handle)
        self.reason: str = (
            "" if handle else library.plm_prompt_cache_reason().decode("utf-8", "replace")
        )

    def restore(self, tokens: Sequence[int], have: int, sequence: int = 0) -> int:
        """Make a sequence hold more of `tokens` than the first `have`, if the files do.

        Returns:
            How many of the tokens it holds now: `have` where it was left alone; 0, and nothing
            else, where there was no room.
        """
        if not self._handle:
            return have
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        restore = self._lib.plm_prompt_cache_restore
        return int(restore(self._handle, sequence, array, len(tokens), have))

    def store(self, tokens: Sequence[int], sequence: int = 0) -> int:
        """Keep the first positions of a sequence, which hold `tokens`. A thread writes the files.

        Returns:
            Of how many tokens they are new.
        """
        if not self._handle:
            return 0
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        return int(self._lib.plm_prompt_cache_store(self._handle, sequence, array, len(tokens)))

    def close(self) -> None:
        """Wait until all is written, and end. Safe to call twice."""
        if self._handle:
            self._lib.plm_prompt_cache_close(self._handle)
        self._handle = ctypes.c_void_p()
