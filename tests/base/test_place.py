"""Where the package and its files are, in a checkout and in a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from plm_edge.base import place


def test_in_this_checkout() -> None:
    assert place.checkout() == Path(__file__).parents[2]
    assert [path.name for path in place.shipped("devices", "devices")] == ["devices", "devices"]
    assert place.shipped("devices", "devices")[0] == place.ROOT / "devices"


def test_beside_a_foreign_folder(tmp_path: Path) -> None:
    """In site-packages a neighbour may be called `devices`: it is not ours."""
    package = tmp_path / "plm_edge"
    for name in ("__init__.py", "base/__init__.py", "base/place.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place.PACKAGE / name, package / name)
    (tmp_path / "devices").mkdir()
    code = "from plm_edge.base import place; print(*place.shipped('devices', 'devices'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],  # no editable installation
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.split() == [str(package / "data/devices")]
