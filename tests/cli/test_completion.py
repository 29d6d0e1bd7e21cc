"""What the shell offers after Tab: names of devices and models, by the completion that it calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.cli import Cli


def offered(cli: Cli, line: str) -> list[str]:
    """What bash is told for a command line whose last word is unfinished."""
    words = line.split(" ")
    asked = {"_PLM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": line}
    asked["COMP_CWORD"] = str(len(words) - 1)
    return Cli(cli.env | asked, cli.command)().stdout.split()


@pytest.mark.parametrize(
    "line",
    [
        "run --device ", "serve --device my-", "show --device ", "stop --device ",
        "deploy --device ", "devices remove ", "devices show my-", "engine build --device my-",
    ],
)  # fmt: skip
def test_devices(cli: Cli, tmp_path: Path, line: str) -> None:
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    cli("devices", "add", "my-pi", "--profile", "rpi5", "--host", "pi@192.0.2.1")
    assert "my-pi" in offered(cli, f"plm-edge {line}")


def test_profiles_where_they_are_enough(cli: Cli, tmp_path: Path) -> None:
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    assert offered(cli, "plm-edge devices show rpi") == ["rpi4", "rpi5"]
    assert offered(cli, "plm-edge engine build --device rpi5") == ["rpi5"]
    assert offered(cli, "plm-edge run --device rpi") == []


def test_models(cli: Cli, tiny_gguf: Path) -> None:
    cli("add", tiny_gguf, "--alias", "little")
    assert "little" in offered(cli, "plm-edge run li")
