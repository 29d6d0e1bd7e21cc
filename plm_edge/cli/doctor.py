"""`plm-edge doctor` says what this machine has, what is missing, and the remedy."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from plm_edge.base import console
from plm_edge.base.errors import ExitCode
from plm_edge.cli import options

_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "bold red")}


def doctor(
    json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """Say what this machine has and what is wrong. Exit code 4 when something needed is missing."""
    from plm_edge.doctor import examine

    report = examine()
    if json:
        console.emit_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(ExitCode.ENVIRONMENT)


def _show(report: dict[str, Any]) -> None:
    table = console.table("", "", "")
    for check in report["checks"]:
        mark, style = _MARKS[check["status"]]
        table.add_row(Text(mark, style=style), Text(check["name"]), console.cell(check["value"]))
        for label, key in (("why", "why"), ("fix", "fix")):
            if check[key]:
                line = Text(f"{label}  ", style="dim").append_text(console.cell(check[key]))
                table.add_row("", "", line)
    console.out.print(table)
    missing = [check["name"] for check in report["checks"] if check["status"] == "missing"]
    console.out.print()
    if missing:
        console.out.print(Text(f"Missing: {', '.join(missing)}.", style="bold red"))
    else:
        console.out.print(Text("All that is needed is here.", style="green"))
