"""`plm-edge bench history`: what was measured before, and how it went."""

from __future__ import annotations

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.bench import options as ours

SHOWN, PLOTTED = 20, 500  # runs in the table, and on the page


def history(
    html: ours.Html = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the newest runs: how decode went from run to run of a setting, what became slower."""
    import msgspec

    from plm_edge.bench import history as remembered
    from plm_edge.bench.render import runs as drawn
    from plm_edge.cli.bench.request import check_html

    check_html(html)
    runs = remembered.runs(SHOWN if html is None else PLOTTED)
    if html is not None:
        drawn.write(html, runs)
        console.note(f"report: {html}")
    if json:
        shown = msgspec.to_builtins(runs)
        console.emit_json({"schema": "plm-edge/bench-history/1", "runs": shown})
        return
    if not runs:
        console.note(f"nothing was measured yet ({remembered.path()})")
        return
    console.out.print(drawn.table(runs, SHOWN))
