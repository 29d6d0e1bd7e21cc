"""The entry point: versions, --help, JSON, errors that are bugs."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text

import plm_edge
from plm_edge import cli as command
from plm_edge.base import console
from testkit.cli import Cli


def test_version(cli: Cli) -> None:
    lines = cli("--version").stdout.splitlines()
    assert lines[0] == f"plm-edge {plm_edge.__version__}"
    assert [line.split()[0] for line in lines] == ["plm-edge", "engine", "tree"]


def test_help_names_every_command(cli: Cli) -> None:
    text = cli("--help").stdout
    for name in ("convert", "run", "inspect", "doctor"):
        assert f"│ {name} " in text
        assert "--json" in cli(name, "--help").stdout


def test_a_group_without_a_command_shows_its_help(cli: Cli) -> None:
    done = cli("engine", code=2)
    assert "Usage: plm-edge" in done.stdout
    assert done.stderr == ""


def commands() -> list[Any]:
    """All of them, groups too."""
    found = [typer.main.get_command(command.app)]
    for one in found:  # which grows meanwhile
        found += getattr(one, "commands", {}).values()
    return found


def test_no_help_text_is_taken_for_markup() -> None:
    """Rich drops what it takes for a style: "[default: one a CPU]" would not be shown."""
    for one in commands():
        for text in (one.help or "", *(getattr(p, "help", None) or "" for p in one.params)):
            shown = Text.from_markup(text).plain
            assert shown == text.replace("\\[", "[")


def test_every_command_that_a_text_names_is_there() -> None:
    """The fix of an error is typed as it stands: its command must exist, and take its options."""
    root = commands()[0]
    for path in Path(command.__file__).parents[1].rglob("*.py"):
        source = re.sub(r'"\s*f?"', "", path.read_text(encoding="utf-8"))
        for said in re.findall(r"(?<=plm-edge )[a-z]+ [^`\"';,():]*", source):
            words, found = said.split(), root
            while words and words[0] in getattr(found, "commands", {}):
                found = found.commands[words.pop(0)]
            if found is root or (found.name == "engine" and words[0] in ("is", "does", "was")):
                continue  # prose about plm-edge, or its engine
            unknown = words and hasattr(found, "commands") and re.match("[a-z]", words[0])
            assert not unknown, said
            options = {option for p in found.params for option in (*p.opts, *p.secondary_opts)}
            asked = {word for word in words if word.startswith("-")}
            assert asked <= options | {"--help"}, f"{path.name}: plm-edge {said}"


def test_help_imports_nothing_heavy(cli: Cli) -> None:
    program = (
        "import sys; from plm_edge.cli import main; assert main(['--help']) == 0; "
        "heavy = {'numpy', 'plm_edge.bindings', 'gguf', 'jinja2', 'torch', 'safetensors'}; "
        "heavy |= {'capstone'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=cli.env
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bug_is_said_in_three_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(_: Path) -> None:
        raise RuntimeError("this is a bug")

    monkeypatch.setattr("plm_edge.store.inspection.inspect", broken)
    assert command.main(["inspect", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: this is a bug" in err
    assert "--debug" in err
    assert "Traceback" not in err


def test_an_error_has_three_lines_whatever_a_file_is_called(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["show", "new\nline.gguf"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "there is no file new\\nline.gguf"
    assert [line[:7] for line in lines[1:]] == ["  why  ", "  fix  "]


def test_a_prompt_without_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs take it so, and people type it."""
    assert command.main(["run", "tiny-plm", "why is the sky blue?"]) == 2
    assert '-p "…"' in capsys.readouterr().err.splitlines()[2]


def test_kept_prompts_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A run by sudo leaves a folder that its user may not read."""

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path))
    (tmp_path / "prompts").mkdir()
    monkeypatch.setattr(Path, "iterdir", refused)
    assert command.main(["cache"]) == 4
    assert f"{tmp_path / 'prompts'}: Permission denied" in capsys.readouterr().err


def test_json_needs_a_versioned_schema(capsys: pytest.CaptureFixture[str]) -> None:
    for schema in (None, "run", "plm-edge/run", "other/run/1"):
        with pytest.raises(ValueError, match="schema"):
            console.emit_json({"schema": schema})
    with pytest.raises(ValueError, match="JSON"):
        console.emit_json({"schema": "plm-edge/x/1", "value": float("nan")})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain größe 😀\n\t", "plain größe 😀\n\t"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\x9b31m", "a\\x9b31m"),
        ("\r", "\\r"),
        ("\udcff.gguf", "\\xff.gguf"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert console.printable(text) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (144 * 2**20, "144.0 MiB"),
        (2**41, "2.0 TiB"),
    ],
)
def test_size(value: int, text: str) -> None:
    assert console.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0021, "2.1 ms"), (0.34, "340 ms"), (12.34, "12.3 s"), (245, "4 min 05 s")],
)
def test_duration(value: float, text: str) -> None:
    assert console.duration(value) == text
