"""`plm-edge serve --rpc`: a server whose layers other machines compute."""

from __future__ import annotations

from pathlib import Path

import psutil

from plm_edge.base.errors import ExitCode
from testkit import ports, rpc
from testkit.cli import Cli
from tests.serve.conftest import Serve
from tests.serve.test_serve import BODY


def test_the_same_text(serve: Serve) -> None:
    alone = serve().http("/completion", BODY).json["content"]
    with rpc.two() as servers:
        server = serve("--rpc", rpc.endpoints(servers), "--gpu", "all")
        assert server.http("/completion", BODY).json["content"] == alone
        there = psutil.Process(server.about["pid"]).net_connections()
        ports = {one.raddr.port for one in there if one.raddr}
        assert ports >= {one.port for one in servers}


def test_a_server_that_is_not_there(cli: Cli, tiny_gguf: Path) -> None:
    there = f"127.0.0.1:{ports.free()}"
    what = cli.fails("serve", tiny_gguf, "--port", "0", "--rpc", there, code=ExitCode.DEVICE)[0]
    assert f"{there} cannot be reached" in what
