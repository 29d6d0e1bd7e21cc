"""sync.py against a small upstream of the test's own: a real sdist, real patches, no network."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.upstream import bindings, sdist, tree, upkeep
from plm_edge.upstream.pin import Pin
from testkit.checkout import ROOT

SYNC = ROOT / "vendor/llama.cpp/sync.py"
# Without site-packages, as in a package build; tomli comes from there before 3.11
ISOLATED = ["-S"] if sys.version_info >= (3, 11) else []
HELLO = "".join(f"line {number}\n" for number in range(1, 31))
PATCH = """Subject: say it louder
Reason: the test wants it
Forwarded: no
Drop-when: never

--- a/src/hello.txt
+++ b/src/hello.txt
@@ -8,7 +8,7 @@
 line 8
 line 9
 line 10
-line 11
+LINE 11
 line 12
 line 13
 line 14
"""
BINDINGS = {
    "llama_cpp/__init__.py": "from llama_cpp.llama_cpp import *\n",
    "llama_cpp/llama_cpp.py": "if True:\n    from llama_cpp._ctypes_extensions import value\n",
    "llama_cpp/_ctypes_extensions.py": "value = 'theirs, copied'\n",
    "LICENSE.md": "free as well\n",
}


@dataclass
class Vendor:
    """A copy of vendor/llama.cpp with an upstream of a few lines, and a cache with its sdist."""

    folder: Path
    cache: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *ISOLATED, self.folder / "sync.py", *arguments],
            capture_output=True,
            text=True,
            env={"XDG_CACHE_HOME": str(self.cache), "PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1"},
        )

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 1
        assert [line.split(":")[0].strip() for line in done.stderr.strip().splitlines()] == [
            "error",
            "why",
            "fix",
        ]
        return done.stderr

    @property
    def sdist(self) -> Path:
        return self.cache / "plm-edge/sdist/up-1.0.tar.gz"

    @property
    def hello(self) -> Path:
        return self.folder / ".tree/src/hello.txt"

    @property
    def patch(self) -> Path:
        return self.folder / "patches/0001-loud.patch"


def write_upstream(sdist: Path) -> None:
    with tarfile.open(sdist, "w:gz") as archive:
        tree_files = {"src/hello.txt": HELLO, "src/other.txt": "other\n", "LICENSE": "free\n"}
        files = BINDINGS | {f"tree/{name}": text for name, text in tree_files.items()}
        for name, text in files.items():
            entry = tarfile.TarInfo(f"up-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    made = Vendor(tmp_path / "vendor/llama.cpp", tmp_path / "cache")
    for name in ("patches", "overlay/src"):
        (made.folder / name).mkdir(parents=True)
    shutil.copy(SYNC, made.folder)
    shutil.copytree(ROOT / "plm_edge/upstream", tmp_path / "plm_edge/upstream")
    # nothing else is needed
    for name in ("__init__.py", "base/__init__.py", "base/errors.py", "base/files.py"):
        (tmp_path / "plm_edge" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "plm_edge" / name, tmp_path / "plm_edge" / name)
    made.sdist.parent.mkdir(parents=True)
    write_upstream(made.sdist)
    sha256 = hashlib.sha256(made.sdist.read_bytes()).hexdigest()
    (made.folder / "PIN.toml").write_text(
        f'[upstream]\npackage = "up"\nversion = "1.0"\nfile = "up-1.0.tar.gz"\n'
        f'sha256 = "{sha256}"\nsubtree = "up-1.0/tree"\n\n[result]\ntree = ""\n'
    )
    (made.folder / "overlay/src/ours.txt").write_text("ours\n")
    (made.folder / "series").write_text("# order\n0001-loud.patch\n")
    made.patch.write_text(PATCH)
    made.ok("pin")
    return made


def test_lays_in_and_patches(vendor: Vendor) -> None:
    assert vendor.ok() == str(vendor.folder / ".tree")
    assert vendor.hello.read_text() == HELLO.replace("line 11", "LINE 11")
    assert (vendor.folder / ".tree/src/ours.txt").read_text() == "ours\n"
    assert (vendor.folder / ".tree/LICENSE").read_text() == "free\n"
    vendor.ok("check")


def test_second_run_does_nothing(vendor: Vendor) -> None:
    files = sorted((vendor.folder / ".tree").rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    vendor.sdist.unlink()  # it would be fetched again if it were needed
    vendor.ok()
    assert [path.stat().st_mtime_ns for path in files] == before


def test_only_changed_files_are_written(vendor: Vendor) -> None:
    other = vendor.folder / ".tree/src/other.txt"
    before = (vendor.hello.stat().st_mtime_ns, other.stat().st_mtime_ns)
    (vendor.folder / "overlay/src/ours.txt").write_text("ours, changed\n")
    vendor.ok("pin")
    assert (vendor.folder / ".tree/src/ours.txt").read_text() == "ours, changed\n"
    assert (vendor.hello.stat().st_mtime_ns, other.stat().st_mtime_ns) == before


def test_a_dropped_patch_and_overlay_file_are_undone(vendor: Vendor) -> None:
    vendor.patch.unlink()
    (vendor.folder / "series").write_text("")
    (vendor.folder / "overlay/src/ours.txt").unlink()
    vendor.ok("pin")
    assert vendor.hello.read_text() == HELLO
    assert not (vendor.folder / ".tree/src/ours.txt").exists()


def test_changed_sdist_is_refused(vendor: Vendor) -> None:
    data = bytearray(vendor.sdist.read_bytes())
    data[20] ^= 1
    vendor.sdist.write_bytes(data)
    shutil.rmtree(vendor.folder / ".tree")
    assert "could not be fetched" in vendor.refused()


@pytest.mark.parametrize("line", ["line 10", "line 11", "line 14"])
def test_no_fuzz(vendor: Vendor, line: str) -> None:
    vendor.patch.write_text(PATCH.replace(line + "\n", line + "x\n"))
    error = vendor.refused("pin")
    assert "0001-loud.patch does not apply to src/hello.txt" in error


def test_moved_context_is_refused(vendor: Vendor) -> None:
    vendor.patch.write_text(PATCH.replace("@@ -8,7 +8,7 @@", "@@ -9,7 +9,7 @@"))
    assert "line 9 should be 'line 8', is 'line 9'" in vendor.refused("pin")


def test_changed_overlay_needs_a_new_pin(vendor: Vendor) -> None:
    (vendor.folder / "overlay/src/ours.txt").write_text("unrecorded\n")
    assert "the patched tree is not the recorded one" in vendor.refused()


@pytest.mark.parametrize("key", ["Subject", "Reason", "Forwarded", "Drop-when"])
def test_check_wants_every_header(vendor: Vendor, key: str) -> None:
    vendor.patch.write_text(PATCH.replace(f"{key}: ", f"{key}: \n", 1))
    vendor.ok("pin")
    assert f"has no {key}" in vendor.refused("check")


def test_check_wants_the_exact_export(vendor: Vendor) -> None:
    # less context applies as well, but is not what the export writes
    shorter = PATCH.replace("@@ -8,7 +8,7 @@\n line 8\n", "@@ -9,6 +9,6 @@\n")
    vendor.patch.write_text(shorter)
    vendor.ok("pin")
    assert "does not export back byte for byte" in vendor.refused("check")


def test_check_finds_an_edited_tree(vendor: Vendor) -> None:
    vendor.hello.write_text(vendor.hello.read_text() + "edited\n")
    assert "the tree on disk was edited" in vendor.refused("check")


def test_check_finds_an_unlisted_patch(vendor: Vendor) -> None:
    (vendor.folder / "patches/0002-stray.patch").write_text(PATCH)
    assert "series and patches/ differ" in vendor.refused("check")


def test_refresh_folds_an_edit_into_a_patch(vendor: Vendor) -> None:
    vendor.hello.write_text(vendor.hello.read_text().replace("line 20", "LINE 20"))
    vendor.ok("refresh", "0001-loud.patch")
    assert vendor.patch.read_text().startswith("Subject: say it louder\n")
    assert "+LINE 20\n" in vendor.patch.read_text()
    vendor.ok("pin")
    vendor.ok("check")


def test_refresh_makes_a_new_patch(vendor: Vendor) -> None:
    other = vendor.folder / ".tree/src/other.txt"
    other.write_text("another\n")
    vendor.ok("refresh", "0002-new.patch")
    assert (vendor.folder / "series").read_text().endswith("0002-new.patch\n")
    assert "-other\n+another\n" in (vendor.folder / "patches/0002-new.patch").read_text()
    assert "hello" not in (vendor.folder / "patches/0002-new.patch").read_text()


def test_the_core_raises_what_the_script_prints(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(vendor.cache))
    pin = Pin.read(vendor.folder)
    assert upkeep.check(vendor.folder, pin).startswith("1 patches, 1 overlay files")
    vendor.patch.write_text(PATCH.replace("line 12\n", "line 12x\n"))
    with pytest.raises(PlmEdgeError) as caught:
        tree.sync(vendor.folder, pin)
    error = caught.value
    assert error.what == "0001-loud.patch does not apply to src/hello.txt"
    assert vendor.refused() == f"error: {error.what}\n  why: {error.why}\n  fix: {error.fix}\n"


@pytest.mark.parametrize(
    "text", ["no patch at all\n", "--- a/src/hello.txt\n+++ b/src/hello.txt\nnot a hunk\n"]
)
def test_a_patch_without_hunks_is_refused(vendor: Vendor, text: str) -> None:
    vendor.patch.write_text(text)
    vendor.refused("pin" if text.startswith("---") else "check")


def test_a_patch_of_a_file_that_upstream_lacks(vendor: Vendor) -> None:
    vendor.patch.write_text(PATCH.replace("hello.txt", "missing.txt"))
    assert "the file is not in the tree" in vendor.refused("check")


def test_bindings_are_a_package_of_their_own(vendor: Vendor, tmp_path: Path) -> None:
    made = tmp_path / "site/renamed"
    vendor.ok("bindings", str(made))
    code = "import renamed.llama_cpp as it; print(it.value, it.__package__, renamed.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", f"import renamed; {code}"], cwd=made.parent, capture_output=True
    )
    assert done.stdout.decode() == "theirs, copied renamed 1.0\n", done.stderr
    assert (made / "LICENSE.md").read_text() == BINDINGS["LICENSE.md"]
    shutil.rmtree(made / "__pycache__", ignore_errors=True)
    times = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert len(times) == 4
    vendor.ok("bindings", str(made))
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == times


@pytest.mark.parametrize("text", ["import llama_cpp\n", "from llama_cpp import _ggml\n"])
def test_bindings_that_need_more_are_refused(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sdist, "fetch", lambda pin: vendor.sdist)
    monkeypatch.setitem(BINDINGS, "llama_cpp/_ctypes_extensions.py", text)
    write_upstream(vendor.sdist)
    with pytest.raises(PlmEdgeError, match="cannot be used") as caught:
        bindings.place(Pin.read(vendor.folder), tmp_path / "site")
    assert text.strip() in caught.value.why


def test_the_project_s_own_tree(vendor: Vendor) -> None:
    done = subprocess.run([sys.executable, SYNC, "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
