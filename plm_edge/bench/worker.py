"""One point in a process of its own, so that its peak memory is its own: `python -m …worker`.

Reads one JSON request on stdin and writes one JSON event a line on stdout: loaded, sample …,
done; or error, with the lines of a PlmEdgeError.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import page_cache
from plm_edge.bench.samples import Sample, Sampler, repeat
from plm_edge.bench.workload import Point
from plm_edge.engine import library, memory
from plm_edge.engine.log import EngineLog, KVReport, engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import RowCounts, zero_share


def took(log: EngineLog, kv: KVReport | None) -> dict[str, Any]:
    """The `memory` of a point, as far as the engine tells it; bytes."""
    return {
        "weights_bytes": log.weight_bytes(),
        "kv_bytes": kv.n_bytes if kv else 0,
        "kv_cells": kv.cells if kv else 0,
        "kv_bytes_per_token": kv.n_bytes / kv.cells if kv and kv.cells else 0,
        "kv_type": kv.type if kv else "",
        "compute_bytes": log.compute_bytes(),
    }


class Worker:
    """Serves one request; `runner` writes it."""

    def __init__(self, request: dict[str, Any], out: TextIO) -> None:
        self._request = request
        self._out = out
        self._point = Point(**request["point"])
        self._model = Path(request["model"])
        self._engine = (
            library.load_foreign(Path(request["engine"])) if request["engine"] else library.load()
        )

    def run(self) -> None:
        if self._point.kind == "load":
            self._loads()
        else:
            self._tokens()

    def _emit(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def _open(self) -> Session:
        request, point = self._request, self._point
        options = Options(
            n_ctx=point.n_ctx,
            threads=request["threads"],
            kv=request["kv"],
            n_ubatch=request["n_ubatch"],
            flash_attn=request["flash_attn"],
            gpu_layers=request["gpu_layers"],
            max_outputs=point.n_seq,
            n_seq_max=point.n_seq,
            check_memory=request["check_memory"],
        )
        return Session.open(self._model, options, self._engine)

    def _loads(self) -> None:
        self._open().close()  # the libraries and their tables once: they are no part of a load

        def take() -> Sample:
            if self._point.cold:
                page_cache.drop(self._model)
            start, began = time.monotonic(), time.perf_counter()
            session = self._open()
            seconds, end = time.perf_counter() - began, time.monotonic()
            session.close()
            return Sample(seconds, 1, start, end)

        if self._point.cold and not page_cache.drop(self._model):
            self._emit("skipped", why="the file cannot be dropped from the page cache here")
            return
        self._repeat(take)

    def _tokens(self) -> None:
        with self._open() as session:
            self._loaded(session)
            sampler = Sampler(session, self._point, self._text(session))
            counts = RowCounts(self._engine.folder)
            if self._request["warm_up"] or self._point.depth:
                sampler.warm_up()
            counts.reset()
            self._repeat(sampler.sample, counts)

    def _text(self, session: Session) -> list[int] | None:
        text = self._request["text"]
        return session.tokenize(text) if text else None

    def _loaded(self, session: Session) -> None:
        self._emit(
            "loaded",
            threads=session.threads,
            description=session.description,
            memory=took(engine_log, session.kv),
        )

    def _repeat(self, take: Any, counts: RowCounts | None = None) -> None:
        request = self._request
        limits = ("interval", "budget_s", "min_repeats", "max_repeats")
        reached = repeat(
            take,
            lambda sample, interval: self._emit("sample", **vars(sample), interval=interval),
            **{name: request[name] for name in limits},
        )
        rows = counts.read() if counts else []
        self._emit(
            "done",
            reached=reached,
            peak_rss_bytes=memory.peak_rss(),
            zeros=zero_share(rows),
            rows=[vars(layer) for layer in rows],
        )


def main() -> None:
    # What the engine prints by itself must not get between the events.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        Worker(json.load(sys.stdin), out).run()
    except PlmEdgeError as error:
        said = {"what": error.what, "why": error.why, "fix": error.fix, "code": int(error.code)}
        out.write(json.dumps({"event": "error", **said}) + "\n")
        out.flush()
        sys.exit(int(error.code))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
