"""What is served is not removed: rm and uninstall beside a real server.

What rm says of a downloaded model while it is served, tests/store/test_servers.py shows.
"""

from __future__ import annotations

from pathlib import Path

from testkit.cli import Cli
from tests.serve.conftest import Serve, runs


def test_uninstall_waits_for_the_server_and_rm_leaves_a_persons_file(
    serve: Serve, cli: Cli, tiny_gguf: Path, tmp_path: Path
) -> None:
    cli("add", tiny_gguf, "--alias", "tiny")
    server = serve("--ctx", "256")
    port = str(server.about["port"])
    what, why, fix = cli.fails("uninstall", "--yes", code=3)
    assert "server" in what
    assert port in why
    assert "plm-edge stop --all" in fix
    assert port in cli.fails("rm", "tiny", code=3)[1]
    assert "stays" in cli("rm", "tiny", "--force").stderr
    assert runs(server.about["pid"])
    assert server.http("/completion", {"prompt": "x", "n_predict": 1}).status == 200
    cli("stop", port)
    assert server.process.wait(60) == 0  # it is not started again
    cli("uninstall", "--yes")
    assert not (tmp_path / "data").exists()
    assert tiny_gguf.exists()  # the person's own
