"""Hundreds of files that are wrong somewhere: none ends the process that loads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file, loadable
from testkit import plm_gguf
from testkit.checkout import ROOT
from tests.model import mutations

pytestmark = pytest.mark.slow
COUNT = 200


@pytest.mark.parametrize(("arch", "seed"), [("plm", 1), ("plm", 2), ("llama", 3)])
def test_no_file_ends_the_process(tmp_path: Path, arch: str, seed: int) -> None:
    valid = plm_gguf.write(tmp_path / "valid.gguf", arch=arch)
    accepted: dict[str, str] = {}
    refused = []
    for number, (what, data) in enumerate(mutations.mutants(valid, seed, COUNT)):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(data)
        try:
            loadable.check(gguf_file.read(path))
            accepted[str(path)] = what
        except PlmEdgeError as error:
            refused.append(str(error))
            path.unlink()
    assert all(text.count("\n") == 2 for text in refused)
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.loading", valid, *accepted],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["end"] == "answered"
    assert [end["file"] for end in ends] == list(accepted)
    bad = {
        accepted[end["file"]]: end["end"]
        for end in ends
        if end["end"] != "answered" and end["end"].count("\n") != 2
    }
    assert not bad
    # the changes are neither all harmless nor all deadly
    answered = sum(end["end"] == "answered" for end in ends)
    assert refused
    assert answered > COUNT // 20
    assert len(ends) - answered > COUNT // 20
