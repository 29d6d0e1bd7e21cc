"""llama.cpp's log is one for all threads of this process."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plm_edge.engine.log import EngineLog
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

LINES = 2000


def test_it_is_read_while_others_speak() -> None:
    log, ended, spoke = EngineLog(), threading.Event(), threading.Event()

    def speak() -> None:
        while not ended.is_set():
            log._listen(2, b"x: CPU model buffer size = 1.00 MiB\n", None)
            spoke.set()

    log._lines.extend((2, "y: CPU model buffer size = 1.00 MiB") for _ in range(LINES))
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    other = threading.Thread(target=speak)
    other.start()
    try:
        spoke.wait()
        found = [log.weight_bytes() for _ in range(20)]
    finally:
        ended.set()
        other.join()
        sys.setswitchinterval(often)
    assert found == [{"CPU": LINES << 20}] * 20


def test_models_that_are_loaded_at_once_have_their_own_figures(tiny_gguf: Path) -> None:
    lengths = (256, 512, 1024, 2048)

    def cells(n_ctx: int) -> tuple[int, int]:
        with Session.open(tiny_gguf, Options(n_ctx=n_ctx, threads=1, kv="f16")) as session:
            assert session.kv is not None
            return session.kv.cells, session.kv.n_bytes

    alone = [cells(n_ctx) for n_ctx in lengths]
    with ThreadPoolExecutor(len(lengths)) as pool:
        assert list(pool.map(cells, lengths)) == alone
