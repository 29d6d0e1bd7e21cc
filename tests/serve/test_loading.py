"""A server's weights come into memory as a session's do: mapped where the file is in huge pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import page_cache
from testkit.cli import Cli
from tests.engine.test_loading import HUGE, copied
from tests.serve.conftest import started

pytestmark = pytest.mark.slow


def file_bytes(cli: Cli, model: Path) -> int:
    """How much of a server's memory is of files: its programs, and what it has mapped."""
    with started(cli, model, "--ctx", "256") as server:
        status = Path(f"/proc/{server.about['pid']}/status").read_text()
        assert server.http("/completion", {"prompt": "x", "n_predict": 1}).status == 200
    found = re.search(r"RssFile:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def test_mapped_in_huge_pages(chat_gguf: Path, tmp_path: Path, cli: Cli, program: Path) -> None:
    """Of a file system without huge pages only the other half is tested: there it is read."""
    large = copied(chat_gguf, tmp_path / "large.gguf", 2 * HUGE)
    size = chat_gguf.stat().st_size if page_cache.huge_share(large) > 0.9 else 0
    small = copied(chat_gguf, tmp_path / "small.gguf", 1 << 16)
    assert page_cache.huge_share(small) < 0.1
    assert file_bytes(cli, large) - file_bytes(cli, small) == pytest.approx(size, abs=8e6)
