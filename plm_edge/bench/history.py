"""Results of this person's machines, kept in SQLite, so that a regression is seen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.analyse.compare import compare
from plm_edge.bench.result.shape import ComparedPoint, Result, as_json, of_text

# A machine's own drift from day to day is of this size: smaller losses are not called one.
SLOWER = 0.95

_TABLES = """
create table if not exists runs (
    id integer primary key, created text not null, setting text not null, model text not null,
    quant text not null, device text not null, engine text not null, tree text not null,
    result text not null
);
create table if not exists points (
    run integer not null references runs (id), name text not null, kind text not null,
    median real not null, interval real
);
create index if not exists by_setting on runs (setting, id);
"""


def path() -> Path:
    """Where the history is kept; PLM_EDGE_DATA_DIR overrides the user's data folder."""
    return folders.data() / "bench.sqlite"


def setting_of(result: Result) -> str:
    """What must be the same for two runs to be compared: model, device, engine's kind, settings."""
    how = result.settings
    return json.dumps(
        [
            result.model.sha256, result.machine.device, result.machine.cpu, result.engine.name,
            how.threads, how.kv, how.flash_attn, how.n_ubatch, how.tokens,
            *(["exact"] if how.exact else []),  # as it was before there was such a setting
            *(["gpu", how.gpu_layers] if how.gpu_layers else []),
        ]
    )  # fmt: skip


def add(result: Result) -> int:
    """Remember a result; its number.

    Raises:
        PlmEdgeError: the history cannot be written (code ENVIRONMENT).
    """
    with _open() as base:
        run = base.execute(
            "insert into runs (created, setting, model, quant, device, engine, tree, result)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                result.created, setting_of(result), _model(result), result.model.quant,
                _device(result), result.engine.name, result.engine.tree,
                json.dumps(as_json(result)),
            ),
        ).lastrowid  # fmt: skip
        assert run is not None
        for point in result.points:
            known = point.known
            if known:
                base.execute(
                    "insert into points values (?, ?, ?, ?, ?)",
                    (run, point.name, point.kind, known.median, known.interval),
                )
    return run


def last(result: Result) -> Result | None:
    """The newest remembered result of the same model, device and settings; None where there is
    none that this version can read."""
    with _open() as base:
        row = base.execute(
            "select result from runs where setting = ? order by id desc limit 1",
            (setting_of(result),),
        ).fetchone()
    return _remembered(row[0]) if row else None


def regressions(result: Result, before: Result) -> list[ComparedPoint]:
    """Points that are slower than before by more than noise and `SLOWER`; see `compare`."""
    return [
        point
        for point in compare(result, before)
        if point.beyond_noise and point.ratio < SLOWER and point.kind != "load"
    ]


def slower(run: int, before: int) -> list[str]:
    """What was slower in one remembered run than in another, in words, the worst first: see
    `regressions`."""
    with _open() as base:
        found = [
            _remembered(base.execute("select result from runs where id = ?", (one,)).fetchone()[0])
            for one in (run, before)
        ]
    after, earlier = found
    if after is None or earlier is None:
        return []
    return [
        f"{point.name} slower: {point.ours:,.1f} t/s, before {point.other:,.1f}"
        for point in sorted(regressions(after, earlier), key=lambda point: point.ratio)
    ]


def _remembered(text: str) -> Result | None:
    """A result as an earlier run stored it; None where it lacks what this version wants."""
    try:
        return of_text(text)
    except msgspec.ValidationError:
        return None


class Run(msgspec.Struct, kw_only=True):
    """A remembered run, as `bench history --json` shows it.

    Attributes:
        setting: what must be the same for runs to be compared; see `setting_of`.
        points: median tokens a second by the point's name; loads are left out.
        slower: points that were slower than in the run of the same setting before it, in words.
    """

    id: int
    created: str
    setting: str
    model: str
    quant: str
    device: str
    engine: str
    tree: str
    points: dict[str, float]
    slower: list[str] = []

    def rate(self, start: str) -> float | None:
        """Tokens a second of the first point whose name begins so, such as tg; None without one."""
        return next((rate for name, rate in self.points.items() if name.startswith(start)), None)


def runs(limit: int = 20) -> list[Run]:
    """The newest runs, the newest first, each with what became slower in it.

    Raises:
        PlmEdgeError: the history cannot be read (code ENVIRONMENT).
    """
    found = _stored(limit)
    for at, run in enumerate(found):
        before = next((one for one in found[at + 1 :] if one.setting == run.setting), None)
        run.slower = slower(run.id, before.id) if before else []
    return found


def _stored(limit: int) -> list[Run]:
    with _open() as base:
        found = base.execute(
            "select id, created, setting, model, quant, device, engine, tree from runs"
            " order by id desc limit ?",
            (limit,),
        ).fetchall()
        made = []
        for row in found:
            names = "id", "created", "setting", "model", "quant", "device", "engine", "tree"
            points = base.execute(
                "select name, median from points where run = ? and kind != 'load'", (row[0],)
            )
            made.append(Run(**dict(zip(names, row, strict=True)), points=dict(points.fetchall())))
    return made


def _model(result: Result) -> str:
    synthetic = " (synthetic weights)" if result.model.synthetic else ""
    return f"{result.model.name}{synthetic}"


def _device(result: Result) -> str:
    machine = result.machine
    return machine.cpu if machine.device == "local" else machine.device


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    place = path()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(place, timeout=10)
        try:
            base.executescript(_TABLES)
            with base:
                yield base
        finally:
            base.close()
    except (OSError, sqlite3.Error) as error:
        raise PlmEdgeError(
            "the history of results cannot be used",
            f"{place}: {error}",
            "move it away, or set PLM_EDGE_DATA_DIR, or leave it out with --no-history",
            ExitCode.ENVIRONMENT,
        ) from error
