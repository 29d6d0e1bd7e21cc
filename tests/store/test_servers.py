"""What the commands about models do while a server runs one of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.serve import running
from plm_edge.store import registry
from testkit.cli import Cli
from tests.store.hub import NAME


@pytest.fixture
def served(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pulled model that a process is noted as the server of, by another name for its folder."""
    cli("pull", NAME)
    path = tmp_path / f"data/models/{NAME}/small-Q4_K_M.gguf"
    (tmp_path / "link").symlink_to(path.parent)
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    process = subprocess.Popen(["sleep", "600"])
    try:
        running.add(
            running.RunningServer(
                pid=process.pid,
                born=running.birth(process.pid),
                port=7560,
                host="127.0.0.1",
                name="m",
                model=str(tmp_path / "link" / path.name),
                n_ctx=512,
                threads=1,
                kv="f16",
                key_file="",
                log_file="",
                since=0,
            )
        )
        yield path
    finally:
        process.kill()
        process.wait()


def test_rm_refuses_its_model(cli: Cli, served: Path) -> None:
    what, why, fix = cli.fails("rm", f"{NAME}:Q4_K_M", "--yes", code=3)
    assert "a server runs" in what
    assert "port 7560, as process " in why
    assert "plm-edge stop 7560" in fix
    assert served.exists()
    cli("pull", f"{NAME}:Q8_0")
    cli("rm", f"{NAME}:Q8_0", "--yes")
    cli("rm", f"{NAME}:Q4_K_M", "--yes", "--force")
    assert not served.exists()


def test_rm_refuses_a_persons_own_file(cli: Cli, served: Path, tmp_path: Path) -> None:
    """It would stay, but its name would be gone, by which the server was asked for."""
    cli("rm", f"{NAME}:Q4_K_M", "--yes", "--force")
    own = tmp_path / f"data/models/{NAME}/small-Q4_K_M.gguf"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(b"GGUF")
    registry.add_model(own, "mine", "q4_k", origin="added")
    assert "a server runs" in cli.fails("rm", "small-Q4_K_M", code=3)[0]
    assert [model.path for model in registry.entries()] == [str(own)]
    assert "stays" in cli("rm", "small-Q4_K_M", "--force").stderr
    assert registry.entries() == []
    assert own.exists()


@pytest.mark.parametrize(
    "words", [("7560", "--all"), ("7560", "--device", "a"), ("--all", "--device", "a")]
)
def test_stop_takes_one_word_for_a_server(cli: Cli, served: Path, words: tuple[str, ...]) -> None:
    assert "said twice" in cli.fails("stop", *words, code=2)[0]
    assert len(running.servers()) == 1


def test_uninstall_refuses(cli: Cli, served: Path) -> None:
    assert "plm-edge stop --all" in cli.fails("uninstall", "--yes", code=3)[2]
    assert served.exists()


def test_alone_names_it(cli: Cli, served: Path) -> None:
    done = cli()
    assert "http://127.0.0.1:7560 (small-Q4_K_M)" in done.stdout
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("plm-edge ")]
    assert steps[1:] == ["chat", "ps", "stop"]


def test_uninstall_removes_the_service(cli: Cli, tmp_path: Path) -> None:
    cli.env["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    cli("service", "install", "--kind", "systemd")
    unit = tmp_path / "xdg/systemd/user/plm-edge.service"
    assert unit.exists()
    assert str(unit) in cli("uninstall", "--dry-run").stderr
    cli("uninstall", "--yes")
    assert not unit.exists()
