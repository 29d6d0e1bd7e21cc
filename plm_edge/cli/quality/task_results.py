"""What `plm-edge eval --tasks` does and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plm_edge.base import console

SCHEMA = "plm-edge/eval-tasks/1"


def run(
    model: str | None,
    names: str,
    *,
    shots: int | None,
    limit: int | None,
    include: Path | None,
    chat: bool,
    run_code: bool,
    kv: str,
    threads: int | None,
    json: bool,
) -> None:
    """Run tasks and show their results; see the command's options."""
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.cli.quality import resumable
    from plm_edge.engine.options import Options
    from plm_edge.quality import tasks
    from plm_edge.store import choice

    tasks.harness()  # its lack is told before a model is loaded
    chosen = choice.choose(model)
    say_which(chosen)
    with (
        resumable.interrupt() as stop,
        tasks.open_for(chosen.path, Options(kv=kv, threads=threads, stop=stop)) as session,
        console.progress(in_bytes=False) as display,
    ):
        found = tasks.run(
            session,
            [name for name in names.split(",") if name],
            shots=shots,
            limit=limit,
            include=include,
            chat=chat,
            run_code=run_code,
            progress=Bar(display, "answering"),
            note=console.note,
        )
    if json:
        given = {"model": str(chosen.path), "shots": shots, "limit": limit}
        console.emit_json({"schema": SCHEMA, **given, "results": plain(found)})
    else:
        _show(found)


def plain(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The harness's results as numbers by task and measure; what is no number is left out.

    Args:
        found: by task; a measure is named MEASURE,FILTER.
    """
    return {
        task: {
            name.removesuffix(",none"): float(value)
            for name, value in measures.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
        }
        for task, measures in found.items()
    }


def _show(found: dict[str, Any]) -> None:
    table = console.table("task", "measure", "value", "±", right=(2, 3))
    for task, measures in plain(found).items():
        shown = task
        for name, value in measures.items():
            measure, _, rest = name.partition(",")
            if measure.endswith("_stderr") or measure == "sample_len":
                continue
            error = measures.get(",".join(filter(None, (f"{measure}_stderr", rest))))
            told = "" if error is None else f"{error:.4f}"
            table.add_row(console.cell(shown), console.cell(name), f"{value:.4f}", told)
            shown = ""
    console.out.print(table)
