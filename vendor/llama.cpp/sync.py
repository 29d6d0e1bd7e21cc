#!/usr/bin/env python3
"""Bring the pinned llama.cpp tree, with our overlay and patches, to `vendor/llama.cpp/.tree`.

    sync.py            fetch, verify, lay in, patch; print the tree's path (twice does no more)
    sync.py sdist      fetch and verify only; prints the path of the source distribution
    sync.py check      prove that the patches apply, export back byte for byte and carry their
                       headers, and that the tree on disk has the recorded hash
    sync.py refresh P  fold what was edited in .tree into patches/P (made anew if it is not there)
    sync.py pin        sync, then write the resulting tree's hash to PIN.toml

Standard library only: it runs inside the package build, before anything is installed.
The only thing in the project that touches upstream's tree.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
TREE = HERE / ".tree"
STAMP = ".plm-edge-sync.json"
HEADERS = ("Subject", "Reason", "Forwarded", "Drop-when")
HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def fail(what: str, why: str, fix: str) -> NoReturn:
    """Ends the program with an error of three lines."""
    sys.exit(f"error: {what}\n  why: {why}\n  fix: {fix}")


# --- the pin and the source distribution -----------------------------------------------------


@dataclass(frozen=True)
class Pin:
    """PIN.toml."""

    package: str
    version: str
    file: str
    sha256: str
    subtree: str
    tree: str

    @staticmethod
    def read() -> Pin:
        data = tomllib.loads((HERE / "PIN.toml").read_text(encoding="utf-8"))
        keys = ("package", "version", "file", "sha256", "subtree")
        return Pin(**{key: data["upstream"][key] for key in keys}, tree=data["result"]["tree"])


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "plm-edge" / "sdist"


def fetch(pin: Pin) -> Path:
    """Returns the verified source distribution, fetched with pip when it is not in the cache."""
    target = cache_folder() / pin.file
    if target.is_file() and sha256_file(target) == pin.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", pin.package, "--dest", folder, f"{pin.package}=={pin.version}"),
        ]
        # pip reads CMAKE_ARGS when it asks the package for its metadata; ours are not for it
        environment = {k: v for k, v in os.environ.items() if k != "CMAKE_ARGS"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        file = Path(folder) / pin.file
        if done.returncode != 0 or not file.is_file():
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            fail(
                f"{pin.package} {pin.version} could not be fetched",
                reason,
                f"check the network and pip's index, or put {pin.file} into {target.parent}",
            )
        found = sha256_file(file)
        if found != pin.sha256:
            fail(
                f"{pin.file} is not the pinned file",
                f"sha256 {found}, PIN.toml says {pin.sha256}",
                "use an index that serves PyPI's own files; do not build from this one",
            )
        file.replace(target)
    return target


def members(sdist: Path, subtree: str) -> Iterator[tuple[str, bytes, int]]:
    """Yields (path inside the tree, content, mode) of each regular file of `subtree`."""
    prefix = subtree + "/"
    with tarfile.open(sdist, "r|gz") as archive:
        for entry in archive:
            if not (entry.isfile() and entry.name.startswith(prefix)):
                continue
            name = entry.name[len(prefix) :]
            if ".." in PurePosixPath(name).parts:
                fail("the source distribution is malformed", f"path {entry.name}", "do not use it")
            stream = archive.extractfile(entry)
            assert stream is not None
            yield name, stream.read(), entry.mode


def pristine(sdist: Path, subtree: str, names: set[str]) -> dict[str, str]:
    """Upstream's own text of the named files; a name that upstream lacks is left out."""
    return {n: data.decode() for n, data, _ in members(sdist, subtree) if n in names}


# --- overlay and patches ---------------------------------------------------------------------


@dataclass(frozen=True)
class Hunk:
    """One hunk of a unified diff; `lines` keep their leading ' ', '-' or '+'."""

    start: int  # first line it replaces, counted from 0
    lines: list[str]


@dataclass(frozen=True)
class Patch:
    """One file of patches/: a header, and hunks by file."""

    name: str
    header: str
    files: dict[str, list[Hunk]]

    @staticmethod
    def read(path: Path) -> Patch:
        header: list[str] = []
        files: dict[str, list[Hunk]] = {}
        hunks: list[Hunk] | None = None
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            following = lines[number] if number < len(lines) else ""
            if line.startswith("--- a/") and following.startswith("+++ b/"):
                hunks = files.setdefault(line[6:].rstrip("\n"), [])
            elif line.startswith("+++ b/") and hunks == []:
                continue
            elif match := HUNK.match(line):
                assert hunks is not None
                count = int(match[2] or 1)
                hunks.append(Hunk(int(match[1]) - (1 if count else 0), []))
            elif hunks is None:
                header.append(line)
            elif hunks and line[:1] in (" ", "-", "+"):
                hunks[-1].lines.append(line)
            else:
                fail(f"{path.name} is malformed", f"line {number}: {line!r}", "export it again")
        return Patch(path.name, "".join(header), files)

    def apply(self, texts: dict[str, str]) -> None:
        """Applies to `texts` (path to content) in place; each line must fit where it says."""
        for name, hunks in self.files.items():
            if name not in texts:
                self.refuse(name, "the file is not in the tree")
            old, new, at = texts[name].splitlines(keepends=True), [], 0
            for hunk in hunks:
                new += old[at : hunk.start]
                at = hunk.start
                for line in hunk.lines:
                    kind, body = line[0], line[1:]
                    if kind == "+":
                        new.append(body)
                        continue
                    if at >= len(old) or old[at] != body:
                        found = old[at].rstrip("\n") if at < len(old) else "the end of the file"
                        self.refuse(
                            name, f"line {at + 1} should be {body.rstrip()!r}, is {found!r}"
                        )
                    if kind == " ":
                        new.append(body)
                    at += 1
            texts[name] = "".join(new + old[at:])

    def refuse(self, name: str, why: str) -> NoReturn:
        fail(
            f"{self.name} does not apply to {name}", why, "adapt the patch to this upstream version"
        )


def export(header: str, before: dict[str, str], after: dict[str, str]) -> str:
    """The text of a patch file: `header`, then the diff of each file, in order of path."""
    parts = [header]
    for name in sorted(after):
        if before.get(name) != after[name]:
            old = before[name].splitlines(keepends=True)
            new = after[name].splitlines(keepends=True)
            parts += difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=3)
    return "".join(parts)


def series() -> list[Patch]:
    lines = (HERE / "series").read_text(encoding="utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [Patch.read(HERE / "patches" / name) for name in names]


def overlay() -> dict[str, str]:
    root = HERE / "overlay"
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in files}


def inputs_hash(pin: Pin) -> str:
    """Changes whenever the pinned file, a patch, the series or an overlay file does."""
    digest = hashlib.sha256(f"{pin.sha256} {pin.subtree}\n".encode())
    for path in [HERE / "series", *sorted((HERE / "patches").glob("*.patch"))]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    for name, text in overlay().items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def changed_files(pin: Pin, sdist: Path, also: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(upstream's, ours) texts of all files that overlay or patches touch, and those of `also`."""
    patches = series()
    wanted = set(overlay()) | {name for patch in patches for name in patch.files} | also
    before = pristine(sdist, pin.subtree, wanted)
    after = before | overlay()
    for patch in patches:
        patch.apply(after)
    return before, after


# --- the tree --------------------------------------------------------------------------------


def tree_hash(tree: Path) -> str:
    """sha256 over "path NUL sha256(content) LF" of each file, in order of path."""
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and p.name != STAMP):
        if "__pycache__" not in path.parts:  # upstream's Python tools leave these when run
            name = path.relative_to(tree).as_posix()
            digest.update(f"{name}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def read_stamp() -> dict[str, object]:
    try:
        stamp: dict[str, object] = json.loads((TREE / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def write_text(path: Path, text: str) -> None:
    """Writes only what differs: an untouched file keeps its time, and is not compiled again."""
    data = text.encode()
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".plm-edge-tmp")
        beside.write_bytes(data)
        if path.is_file():
            shutil.copymode(path, beside)
        beside.replace(path)


def unpack(sdist: Path, subtree: str) -> None:
    """Replaces .tree by upstream's own tree: whole, or not at all."""
    shutil.rmtree(TREE, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=".tree-", dir=HERE))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, beside, ignore_errors=True)
        for name, data, mode in members(sdist, subtree):
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if mode & 0o100 else 0o644)
        beside.chmod(0o755)
        beside.replace(TREE)


def sync(pin: Pin, *, record: bool = False) -> str:
    """Makes .tree what PIN.toml, overlay and patches say. Returns the tree's hash."""
    inputs, stamp = inputs_hash(pin), read_stamp()
    if stamp.get("inputs") == inputs and (record or stamp.get("tree") == pin.tree):
        return str(stamp["tree"])
    sdist = fetch(pin)
    if stamp.get("sdist") != pin.sha256:
        unpack(sdist, pin.subtree)
        stamp = {}
    touched = {str(name) for name in stamp.get("touched", [])}  # type: ignore[attr-defined]
    before, after = changed_files(pin, sdist, touched)
    (TREE / STAMP).unlink(missing_ok=True)  # a broken run leaves no stamp: the next starts over
    for name, text in after.items():
        write_text(TREE / name, text)
    for name in touched - after.keys():
        (TREE / name).unlink(missing_ok=True)
    result = tree_hash(TREE)
    if result != pin.tree and not record:
        fail(
            "the patched tree is not the recorded one",
            f"its hash is {result}, PIN.toml says {pin.tree or 'nothing'}",
            "after a change of overlay or patches run `sync.py pin`, else check out PIN.toml again",
        )
    names = sorted(name for name in after if before.get(name) != after[name])
    stamp = {"inputs": inputs, "sdist": pin.sha256, "tree": result, "touched": names}
    write_text(TREE / STAMP, json.dumps(stamp, indent=1) + "\n")
    return result


# --- commands --------------------------------------------------------------------------------


def check(pin: Pin) -> None:
    sdist = fetch(pin)
    patches, ours = series(), overlay()
    listed = {patch.name for patch in patches}
    found = {path.name for path in (HERE / "patches").iterdir()}
    if listed != found:
        fail("series and patches/ differ", f"{sorted(listed ^ found)}", "list each patch once")
    texts = pristine(sdist, pin.subtree, {n for p in patches for n in p.files} | set(ours)) | ours
    for patch in patches:
        for key in HEADERS:
            if not re.search(rf"^{key}: \S", patch.header, re.MULTILINE):
                fail(f"{patch.name} has no {key}", "each patch says why it is there", f"add {key}:")
        both = sorted(set(patch.files) & set(ours))
        if both:
            fail(f"{patch.name} patches a file of ours", both[0], "edit the overlay instead")
        before = {name: texts[name] for name in patch.files}
        patch.apply(texts)
        again = export(patch.header, before, {name: texts[name] for name in patch.files})
        if again != (HERE / "patches" / patch.name).read_text(encoding="utf-8"):
            fail(
                f"{patch.name} does not export back byte for byte",
                "its text is not what the export writes for the same change",
                f"run `sync.py refresh {patch.name}`",
            )
    sync(pin)
    if (result := tree_hash(TREE)) != pin.tree:
        fail(
            "the tree on disk was edited",
            f"its hash is {result}",
            "refresh a patch, or remove .tree",
        )
    print(
        f"{len(patches)} patches, {len(ours)} overlay files, tree {pin.tree[:12]}: all as recorded"
    )


def refresh(pin: Pin, name: str) -> None:
    """Folds the difference between .tree and the series' result into one patch."""
    sdist = fetch(pin)
    stamp = read_stamp()
    if stamp.get("sdist") != pin.sha256:
        fail(".tree is not of the pinned version", "nothing to compare", "run `sync.py` first")
    patches, ours = series(), overlay()
    upstream = {n: d for n, d, _ in members(sdist, pin.subtree)}
    edited = {
        path.relative_to(TREE).as_posix(): path.read_bytes()
        for path in TREE.rglob("*")
        if path.is_file() and path.name != STAMP and "__pycache__" not in path.parts
    }
    target = next((p for p in patches if p.name == name), None)
    texts = {n: d.decode() for n, d in upstream.items() if any(n in p.files for p in patches)}
    result, later = dict(texts), set[str]()
    base = dict(texts)
    for patch in patches:
        if patch.name == name:
            base = dict(result)
        elif target is not None and patches.index(patch) > patches.index(target):
            later |= set(patch.files)
        patch.apply(result)
    if target is None:
        base = dict(result)
    keep = set(target.files) if target else set()
    for path, data in edited.items():
        if path in ours:
            continue
        if path not in upstream:
            fail(f"{path} is not upstream's", "a new file is no patch", "put it into overlay/")
        if data.decode(errors="surrogateescape") != result.get(
            path, upstream[path].decode(errors="surrogateescape")
        ):
            if path in later:
                fail(f"{path} is touched by a later patch", "ambiguous", "refresh that one instead")
            keep.add(path)
    before = {p: base.get(p, upstream[p].decode()) for p in keep}
    header = target.header if target else "".join(f"{key}: ?\n" for key in HEADERS) + "\n"
    text = export(header, before, {p: edited[p].decode() for p in keep})
    write_text(HERE / "patches" / name, text)
    if target is None:
        write_text(HERE / "series", (HERE / "series").read_text(encoding="utf-8") + name + "\n")
    print(f"{name}: {len(keep)} files")


def main(arguments: list[str]) -> None:
    pin = Pin.read()
    if not arguments:
        sync(pin)
        print(TREE)
    elif arguments == ["sdist"]:
        print(fetch(pin))
    elif arguments == ["check"]:
        check(pin)
    elif arguments == ["pin"]:
        tree = sync(pin, record=True)
        path = HERE / "PIN.toml"
        text = re.sub(r'(?m)^tree = ".*"$', f'tree = "{tree}"', path.read_text(encoding="utf-8"))
        write_text(path, text)
        print(tree)
    elif len(arguments) == 2 and arguments[0] == "refresh":
        refresh(pin, arguments[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
