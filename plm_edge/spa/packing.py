"""The client as one file that Python runs: our modules that it imports, and two packages of others.

numpy is not among them: it is the device's, built for it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

CLIENT = "plm_edge.spa.client"
PACKAGES = ("platformdirs", "websockets")
_LISTED = f"""
import json, sys
import {CLIENT}
print(json.dumps({{name: module.__file__ for name, module in sys.modules.items()
    if name.partition(".")[0] == "plm_edge" and getattr(module, "__file__", None)}}))
"""
_MAIN = """import os
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one core is enough, and numpy reads it when it is imported
import sys
from plm_edge.spa.client import main
sys.exit(main())
"""


def client() -> bytes:
    """Returns the file; the same bytes for the same sources."""
    done = subprocess.run([sys.executable, "-c", _LISTED], capture_output=True, check=True)
    found = {path: _place(name, path) for name, path in json.loads(done.stdout).items()}
    members = {place: Path(path).read_bytes() for path, place in found.items()}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in root.rglob("*.py"):
            members[f"{package}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    members["__main__.py"] = _MAIN.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name], zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _place(name: str, path: str) -> str:
    inner = name.replace(".", "/")
    return f"{inner}/__init__.py" if Path(path).name == "__init__.py" else f"{inner}.py"
