"""`plm-edge ps` shows the servers that run, here and on devices."""

from __future__ import annotations

import time

from plm_edge.base import console
from plm_edge.cli import options

SCHEMA = "plm-edge/ps/1"


def ps(
    json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """Show the servers that run: model, address, memory, and whether they work or sleep."""
    from plm_edge.cli.serve.here import about
    from plm_edge.serve import running, state, trouble

    for one in running.sweep():
        error = trouble.why_ended(one.name, None, one.log)
        console.warn(f"{error.what} (port {one.port}): {error.why}; see plm-edge logs {one.port}")
    known = running.servers()
    found = [(one, state.of(one)) for one in known]
    if json:
        servers = [about(one) | {"state": how.word, "rss_bytes": how.rss} for one, how in found]
        console.emit_json({"schema": SCHEMA, "servers": servers})
        return
    if not found:
        console.note("no server runs; start one: plm-edge serve")
        return
    table = console.table("model", "address", "where", "since", "memory", "state", right=(4,))
    for one, how in found:
        table.add_row(
            console.cell(one.name),
            console.cell(one.url),
            console.cell(one.device or "here"),
            console.cell(console.duration(time.time() - one.since)),
            console.cell(console.size(how.rss) if how.rss else "-"),
            console.cell(how.word),
        )
    console.out.print(table)
