"""A file's place in the page cache: whether it is there, and in pages of which size."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plm_edge.bench.worker import process

HUGE = 2 << 20
_HUGEPAGE, _POPULATE_READ = 14, 22  # Linux's advice to madvise


def drop(path: Path) -> bool:
    """Takes a file out of the page cache; False where (nearly all of) it stays."""
    (answer,) = process.ask([{"do": "drops", "file": str(path)}])
    return bool(answer["gone"])


def read(path: Path, threads: int = 4) -> None:
    """Reads a file as most programs do, which leaves it in small pages where it was not there."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size, piece = os.fstat(fd).st_size, 8 << 20

        def one(start: int) -> None:
            buffer = bytearray(1 << 20)
            for at in range(start, min(start + piece, size), len(buffer)):
                os.preadv(fd, [buffer], at)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(0, size, piece)))
    finally:
        os.close(fd)


def read_in_huge_pages(path: Path) -> None:
    """Reads a file so that it lies in huge pages, where the file system has them and it was not in
    the page cache before."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        mapped.madvise(_HUGEPAGE)
        mapped.madvise(_POPULATE_READ)


def huge_share(path: Path) -> float:
    """Of a file that is in the page cache, the share that a mapping has in huge pages."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        mapped.madvise(_POPULATE_READ)
        kib, here = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                here = words[-1] == str(path.resolve())
            elif here and words[0] in ("FilePmdMapped:", "ShmemPmdMapped:"):
                kib += int(words[1])
        return 1024 * kib / len(mapped)


def file_system(path: Path) -> str:
    """The name of the file system that holds a path, as mount names it; "unknown" elsewhere."""
    import psutil

    place = str(path.resolve())
    found = [
        (len(one.mountpoint), one.fstype)
        for one in psutil.disk_partitions(all=True)
        if place.startswith(one.mountpoint)
    ]
    return max(found)[1] if found else "unknown"
