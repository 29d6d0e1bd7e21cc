"""Whether a file lies in the kernel's page cache, as mincore says."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

LEFT = 0.01  # share of pages that may stay: readahead of others, a page that is written back


def resident(path: Path) -> float | None:
    """Share of the file's pages that are in memory, 0 to 1; None where it cannot be told."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return None
        # Private and writable only because ctypes asks for a buffer that can be written.
        with mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=3) as view:
            pages = -(-size // mmap.PAGESIZE)
            states = np.zeros(pages, np.uint8)
            start = (ctypes.c_char * size).from_buffer(view)
            try:
                mincore = ctypes.CDLL(None, use_errno=True).mincore
                failed = mincore(
                    ctypes.c_void_p(ctypes.addressof(start)),
                    ctypes.c_size_t(size),
                    states.ctypes.data_as(ctypes.c_void_p),
                )
            except AttributeError:
                return None
            finally:
                del start
    return None if failed else float((states & 1).mean())
