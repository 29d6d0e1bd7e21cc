"""What is served is not removed: rm and uninstall beside a real server."""

from __future__ import annotations

from pathlib import Path

from testkit.cli import Cli
from tests.serve.conftest import Serve, runs


def test_rm_and_uninstall_wait_for_the_server(
    serve: Serve, cli: Cli, tiny_gguf: Path, tmp_path: Path
) -> None:
    cli("add", tiny_gguf, "--alias", "tiny")
    server = serve("--ctx", "256")
    port = str(server.about["port"])
    what, why, fix = cli.fails("rm", "tiny", "--yes", code=3)
    assert "a server runs" in what
    assert f"port {port}, as process {server.about['pid']}" in why
    assert f"plm-edge stop {port}" in fix
    assert "plm-edge stop --all" in cli.fails("uninstall", "--yes", code=3)[2]
    assert runs(server.about["pid"])
    assert server.http("/completion", {"prompt": "x", "n_predict": 1}).status == 200
    cli("stop", port)
    server.process.wait(30)
    cli("rm", "tiny", "--yes")
    cli("uninstall", "--yes")
    assert not (tmp_path / "data").exists()
    assert tiny_gguf.exists()  # the person's own
