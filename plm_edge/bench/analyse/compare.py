"""Two results side by side: ratios, and whether a difference is more than noise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.result.shape import SCHEMA, ComparedPoint, Result, of_json
from plm_edge.bench.statistics import Summary


def compare(ours: Result, other: Result) -> list[ComparedPoint]:
    """The points that both have, in the order of `ours`."""
    theirs = {point.name: point for point in other.points}
    made = []
    for point in ours.points:
        match = theirs.get(point.name)
        a, b = point.known, match.known if match else None
        if a is None or b is None:
            continue
        faster = a.median / b.median
        made.append(
            ComparedPoint(
                name=point.name,
                kind=point.kind,
                ours=a.median,
                other=b.median,
                ratio=1 / faster if point.kind == "load" else faster,
                beyond_noise=beyond_noise(a, b),
            )
        )
    return made


def beyond_noise(a: Summary, b: Summary) -> bool | None:
    """Whether two means differ by more than their confidence intervals explain together."""
    if a.interval is None or b.interval is None:
        return None
    spread = math.hypot(a.mean * a.interval, b.mean * b.interval)
    return abs(a.mean - b.mean) > spread


def differences(ours: Result, other: Result) -> list[str]:
    """What else differs between the two, so that the ratio is not the engine's alone."""
    made = []
    for what, a, b in (
        ("model", ours.model.sha256, other.model.sha256),
        ("CPU", ours.machine.cpu, other.machine.cpu),
        ("threads", ours.settings.threads, other.settings.threads),
        ("KV type", ours.settings.kv, other.settings.kv),
        ("exact", ours.settings.exact, other.settings.exact),
        ("flash attention", ours.settings.flash_attn, other.settings.flash_attn),
        ("engine", ours.engine.name, other.engine.name),
        ("engine's tree", ours.engine.tree, other.engine.tree),
    ):
        if a != b:
            short = 12 if what in ("model", "engine's tree") else 60
            made.append(f"{what}: {str(a)[:short]} here, {str(b)[:short]} there")
    return made


def read(path: Path) -> Result:
    """A result file.

    Raises:
        PlmEdgeError: it is not there, or no result of bench.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = str(error.strerror) if isinstance(error, OSError) else "it is not JSON"
        raise PlmEdgeError(
            f"{path} cannot be compared with", why, "give a file that bench --json wrote"
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise PlmEdgeError(
            f"{path} is no result of plm-edge bench",
            f"its schema is {schema!r}, not {SCHEMA!r}",
            "give a file that bench --json wrote",
        )
    try:
        return of_json(data)
    except msgspec.ValidationError as error:
        raise PlmEdgeError(
            f"{path} is no result of plm-edge bench",
            str(error),
            "give a file that bench --json wrote",
        ) from error
